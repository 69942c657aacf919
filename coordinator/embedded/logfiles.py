"""Log files of services: appended by the service itself, kept within a bound by the supervisor."""

from __future__ import annotations

import errno
import os
from pathlib import Path

LIMIT_BYTES = 8 * 1024 * 1024
"""A log may grow to this before it is moved aside; one earlier piece is kept, so twice this a service."""

_PIECE_BYTES = 1024 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def open_log(path: Path) -> int:
    """Return a descriptor that appends to ``path``, private to the user."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def bound_log(path: Path, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Move a log that has grown over the limit to ``<name>.1`` and empty it; return whether it did.

    The service keeps its descriptor (it appends, so it goes on at the start of the emptied file): no
    pipe and no copying process beside a measurement. Lines written between copy and cut are lost; on a
    full disk the earlier piece is given up, because emptying the log is what frees space.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    earlier = path.with_name(path.name + ".1")
    try:
        _copy_end(path, earlier, limit_bytes)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        earlier.unlink(missing_ok=True)
    os.truncate(path, 0)
    return True


def _copy_end(path: Path, earlier: Path, limit_bytes: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with path.open("rb") as source, os.fdopen(os.open(earlier, flags, 0o600), "wb") as target:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(0, size - limit_bytes))
        while piece := source.read(_PIECE_BYTES):
            target.write(piece)


def last_lines(path: Path, count: int, since_byte: int = 0) -> list[str]:
    """Return the last non-empty lines of a log written after ``since_byte``; none when there is no log."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = since_byte if since_byte <= size else 0
            stream.seek(max(start, size - 64 * 1024))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-count:]


def size_bytes(path: Path) -> int:
    """Return a log's present size; 0 bytes when it was never written."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
