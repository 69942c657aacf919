"""Short-lived and secret things of an instance: its runtime folder, passwords, and a free port."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from pathlib import Path

from meshgauge.errors import ConfigurationError

MAX_SOCKET_PATH_BYTES = 100
"""Source: unix(7), sun_path holds 108 bytes; a few kept in hand for the servers' own suffixes."""

_PREFIX = "mg-"
_LONGEST_NAME = "/postgres/.s.PGSQL.5432.lock"


def make_run_dir() -> Path:
    """Create a private folder for sockets, with a path short enough for them.

    Raises:
        ConfigurationError: no place for one.
    """
    wanted = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]  # noqa: S108 - mkdtemp makes it private
    reasons = []
    for base in filter(None, wanted):
        if len(os.fsencode(f"{base}/{_PREFIX}xxxxxxxx{_LONGEST_NAME}")) > MAX_SOCKET_PATH_BYTES:
            reasons.append(f"{base}: path too long for a socket")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except OSError as error:
            reasons.append(f"{base}: {error.strerror}")
    raise ConfigurationError(
        f"no place for the sockets of the embedded servers ({'; '.join(reasons)}); set TMPDIR to a short, writable path"
    )


def remove_run_dir(path: Path) -> None:
    """Remove a runtime folder made by ``make_run_dir``; anything else is left alone."""
    if path.name.startswith(_PREFIX) and path.is_dir() and path.stat().st_uid == os.geteuid():
        shutil.rmtree(path)


def keep_fresh(run_dir: Path) -> None:
    """Touch a runtime folder and what is in it: cleaners of the temp dir remove what looks old."""
    for path in (run_dir, *run_dir.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a server removed it meanwhile
            os.utime(path, follow_symlinks=False)


def secret(path: Path) -> str:
    """Return the secret kept in a file, made at the first call (256 bits, readable by the user only)."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(32))
    return path.read_text(encoding="ascii").strip()


def choose_port(host: str, wanted: int, previous: int = 0) -> int:
    """Return the port for the coordinator: the wanted one, or with 0 the previous or any free one.

    Raises:
        ConfigurationError: the wanted port is taken or the address is not one of this host.
    """
    for port in dict.fromkeys((wanted,) if wanted else (previous, 0)):
        try:
            return _free_port(host, port)
        except OSError as error:
            problem = error.strerror
    if wanted:
        raise ConfigurationError(
            f"the coordinator cannot listen on {host}:{wanted} ({problem}); "
            "end what uses it, or set MESHGAUGE_LISTEN_PORT to another port (0: a free one is chosen)"
        )
    raise ConfigurationError(f"the coordinator cannot listen on {host} ({problem}); set MESHGAUGE_LISTEN_HOST")


def _free_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
