"""Where workers keep things on a host: the cache, the spool, and short-lived private folders."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from meshgauge.errors import ConfigurationError
from meshgauge.settings import Settings


def cache_directory(settings: Settings) -> Path:
    """Make and return the folder where binaries are kept between environments."""
    return _made(settings.data_dir / "cache")


def spool_root(settings: Settings) -> Path:
    """Make and return the folder where results wait for delivery."""
    return _made(settings.data_dir / "spool")


def runtime_directory(site: str, epoch: int) -> Path:
    """Make and return a fresh private folder for one epoch of a site.

    It lies in the system's temporary folder because Unix sockets go into it, whose paths may not be
    longer than 107 bytes.
    """
    directory = _runtime_root() / f"{site}-{epoch}"
    directory.mkdir(mode=0o700)
    return directory


def remove_runtime_directories(site: str, epoch: int) -> None:
    """Remove the folders of all epochs of ``site`` before ``epoch``."""
    for directory in _runtime_root().glob(f"{site}-*"):
        number = directory.name.removeprefix(f"{site}-")
        if number.isdigit() and int(number) < epoch:
            shutil.rmtree(directory)


def _runtime_root() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    root = Path(base) / f"meshgauge-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigurationError(f"{root} is not a private folder of ours; remove it, or set XDG_RUNTIME_DIR")
    return root


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    return directory
