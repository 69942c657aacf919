"""Where workers keep things on a host: the cache, the spool, and short-lived private folders."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from meshgauge.errors import ConfigurationError
from meshgauge.settings import Settings

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,48}")  # with the installation, a Kubernetes label value (63)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

MIN_FREE_BYTES = 32 * 1024 * 1024
"""Room one attempt takes at most: histograms and samples of a long trial, logs, rendered configurations."""


def cache_directory(settings: Settings) -> Path:
    """Make and return the folder where binaries are kept between environments."""
    return _made(settings.data_dir / "cache")


def spool_root(settings: Settings) -> Path:
    """Make and return the folder where results wait for delivery."""
    return _made(settings.data_dir / "spool")


def cookie_site(settings: Settings, site: str) -> str:
    """Return the name processes and folders of ``site`` carry on this host.

    Sites are named within one installation. Another installation on this host may have a site of the same
    name, with epochs of its own: it must not sweep ours, nor we its.
    """
    installation = hashlib.sha256(str(settings.data_dir.resolve()).encode()).hexdigest()[:8]
    return f"{plain_name(site)}.{installation}"


def plain_name(site: str) -> str:
    """Return a name for ``site`` that can be a folder and part of a label: a kubeconfig context may be anything."""
    if _PLAIN_NAME.fullmatch(site):
        return site
    return f"{_UNSAFE.sub('-', site)[:40].strip('-._')}-{hashlib.sha256(site.encode()).hexdigest()[:8]}"


def full_disk(directory: Path) -> str | None:
    """Return a sentence when the disk below ``directory`` is too full to go on, else None."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes >= MIN_FREE_BYTES:
        return None
    return (
        f"the disk under {directory} is full ({free_bytes / 1e6:.0f} MB free, a trial needs up to "
        f"{MIN_FREE_BYTES / 1e6:.0f} MB); free some space, then submit the plan again"
    )


def runtime_directory(site: str, epoch: int) -> Path:
    """Make and return a fresh private folder for one epoch of a site (its ``cookie_site``).

    It lies in the system's temporary folder because Unix sockets go into it, whose paths may not be
    longer than 107 bytes.
    """
    directory = _runtime_root() / f"{site}-{epoch}"
    if directory.exists():  # of a former database of this installation: we hold the lease of this epoch
        shutil.rmtree(directory)
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
