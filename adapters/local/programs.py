"""Asking a data plane's executable which version it is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from meshgauge.errors import ConfigurationError

_ANSWERS_WITHIN_S = 20.0


def version_of(adapter: str, binary: Path, question: str, pattern: str, env: Mapping[str, str] | None = None) -> str:
    """Return what the first group of ``pattern`` (multi-line) finds in the answer to ``binary question``.

    Raises:
        ConfigurationError: it cannot be executed, ends with an error or says no version: trying again cannot help.
    """
    environ = None if env is None else {**os.environ, **env}
    try:
        done = subprocess.run(
            [binary, question], capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S, check=False, env=environ
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unfit(adapter, binary, question, str(error)) from error
    said = done.stdout + done.stderr
    match = re.search(pattern, said, re.MULTILINE)
    if done.returncode or match is None:
        raise _unfit(adapter, binary, question, f"exit code {done.returncode}, it said {said.strip()[-300:]!r}")
    return match[1]


def _unfit(adapter: str, binary: Path, question: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{adapter}: `{binary} {question}` gave no version ({why}); "
        f"give an executable of {adapter} that runs on this host, or a version in place of binary"
    )
