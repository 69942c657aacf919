"""What a test sees of an instance's environments in /proc. An oracle of its own: it shares no code with the sweep."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
_SCAN_PERIOD_S = 0.2


@dataclass(frozen=True, slots=True)
class Carrier:
    """A living process that carries the cookie of an environment."""

    pid: int
    epoch: int
    command: str


def carriers(site: str) -> list[Carrier]:
    """Return every living process of an environment on ``site``.

    The cookie is an environment variable; a program that writes over those has it as the name of its standard input.
    """
    found = []
    for pid in _pids():
        with contextlib.suppress(*_GONE):
            carrier = _carrier(pid, site)
            if carrier is not None:
                found.append(carrier)
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - five times a second


def _carrier(pid: int, site: str) -> Carrier | None:
    folder = Path(f"/proc/{pid}")
    cookie = _variables(folder, site) or _standard_input(folder, site)
    if cookie is None or is_zombie(pid):
        return None
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return Carrier(pid, cookie, command)


def _variables(folder: Path, site: str) -> int | None:
    environ = (folder / "environ").read_bytes()
    name = re.search(rb"(?:^|\0)MESHGAUGE_SITE=([^\0]*)", environ)
    epoch = re.search(rb"(?:^|\0)MESHGAUGE_EPOCH=(\d+)", environ)
    return int(epoch[1]) if name and epoch and _is_of(name[1].decode(), site) else None


def _standard_input(folder: Path, site: str) -> int | None:
    match = re.match(r"/memfd:meshgauge:(\d+):[^:]*:(.*?)(?: \(deleted\))?$", str((folder / "fd/0").readlink()))
    return int(match[1]) if match and _is_of(match[2], site) else None


def _is_of(cookie_site: str, site: str) -> bool:
    return cookie_site == site or cookie_site.startswith(f"{site}.")


def is_zombie(pid: int) -> bool:
    """Return whether a process is dead and only not reaped yet, or gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except _GONE:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for candidate in _pids():
        with contextlib.suppress(*_GONE):
            fields = Path(f"/proc/{candidate}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(candidate)
    return found


@dataclass
class OverlapWatch:
    """Looks all the time whether processes of two epochs live on a site at once."""

    site: str
    overlaps: list[str] = field(default_factory=list)
    epochs: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[OverlapWatch]:
        """Look from now on until the end of the block."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SCAN_PERIOD_S):
            seen = carriers(self.site)
            self.epochs.update(carrier.epoch for carrier in seen)
            if len({carrier.epoch for carrier in seen}) > 1:
                # One look is not an instant: only what still lives was there together.
                living = [carrier for carrier in seen if not is_zombie(carrier.pid)]
                if len({carrier.epoch for carrier in living}) > 1:
                    self.overlaps.append("; ".join(f"{c.epoch}: {c.command[:60]}" for c in living))


def eventually(condition: Callable[[], object], within_s: float, what: str = "") -> float:
    """Wait until a condition holds and return how long it took, in seconds; fail when it does not in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began
