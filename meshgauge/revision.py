"""What these sources are: their version and, in a checkout, their git revision."""

from __future__ import annotations

import functools
import importlib.metadata
import shutil
import subprocess
from pathlib import Path

_GIT_TIMEOUT_S = 5.0


def own_version() -> str:
    """Return the version of the installed distribution."""
    return importlib.metadata.version("meshgauge")


@functools.cache
def own_revision() -> str | None:
    """Return the git revision of the checkout we run from, with ``+`` when it has changes; None outside of one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    found = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if found is None else found + ("+" if changes else "")


def _git(root: Path, *words: str) -> str | None:
    try:
        result = subprocess.run(
            ("git", "-C", str(root), *words), capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None  # a slow disk: the run is worth more than its revision
    return result.stdout.strip() if result.returncode == 0 else None


def revision() -> str:
    """Return the git revision, or the version where there is no checkout."""
    return own_revision() or own_version()
