"""Which Helm this host has: the SDK wheel first, the ``helm`` program second."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Literal

from adapters.kubernetes.helm.binary import BinaryBackend
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.helm.sdk import SdkBackend
from meshgauge.errors import ConfigurationError

Preference = Literal["auto", "sdk", "binary"]


def backend(prefer: Preference = "auto") -> HelmBackend:
    """Return Helm as this host has it; loads no library.

    Args:
        prefer: ``sdk`` or ``binary`` insist on one; ``auto`` takes the SDK where it is installed.

    Raises:
        ConfigurationError: this host has none; says how to get one.
    """
    if prefer in {"auto", "sdk"} and find_spec("helm_python") is not None:
        return SdkBackend()
    program = shutil.which("helm") if prefer in {"auto", "binary"} else None
    if program:
        return BinaryBackend(program)
    ways = {
        "sdk": "run 'pip install meshgauge[helm]'",
        "binary": "put a helm program (3.14 or later) on PATH",
        "auto": "run 'pip install meshgauge[helm]', or put a helm program (3.14 or later) on PATH",
    }
    raise ConfigurationError(f"this host has no Helm, which installs meshes into clusters: {ways[prefer]}")
