"""PEP 517 backend: setuptools, with the load engine compiled first. An install never fails for want of a compiler."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from setuptools import build_meta  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parent))
from engine_compiler import compile_engine, extra_requirements

_Settings = dict[str, Any] | None

build_sdist = build_meta.build_sdist
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """Ask for a compiler where the machine has none."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *extra_requirements(os.environ)]


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    """Ask for a compiler where the machine has none."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *extra_requirements(os.environ)]


def _compile() -> bool:
    reason = compile_engine()
    if reason is not None:
        sys.stderr.write(
            f"warning: the native load engine was not built: {reason}\n"
            "warning: the pure-Python engine stands in (at most 10 000 rps a worker; every result says so)\n"
        )
    return reason is None


def build_wheel(wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel: for this platform with the engine in it, for any without."""
    shutil.rmtree("build", ignore_errors=True)  # setuptools would ship an engine left from an earlier build
    settings = dict(config_settings or {})
    if _compile():
        plat_name = f"--plat-name={platform.system().lower()}_{platform.machine()}"
        settings["--build-option"] = [*settings.get("--build-option", []), plat_name]
    return str(build_meta.build_wheel(wheel_directory, settings, metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: _Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable wheel; the engine lands beside its source, where the loader looks."""
    _compile()
    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))
