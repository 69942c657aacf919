"""What /proc says about processes: who they are, whether they live, which belong to an instance."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

COOKIE = "MESHGAUGE_INSTANCE"
"""Environment variable every process of an instance carries, so that a sweep finds it whoever its parent is."""

_SERVERS = frozenset({"postgres", "valkey-server", "redis-server"})
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process for certain: pids are reused, a pid with its start time is not (within one boot).

    start_ticks: field 22 of /proc/<pid>/stat, clock ticks since boot. Source: proc(5).
    """

    pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Return whether exactly this process still runs; a zombie does not."""
        stat = read_stat(self.pid)
        return stat is not None and stat.start_ticks == self.start_ticks and not stat.is_zombie


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/<pid>/stat that matter here."""

    name: str
    state: str
    start_ticks: int

    @property
    def is_zombie(self) -> bool:
        """Dead, only not yet reaped by its parent."""
        return self.state in {"Z", "X"}


def read_stat(pid: int) -> Stat | None:
    """Return name, state and start time of a process, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may itself hold brackets and blanks.
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return Stat(name, rest[0], int(rest[19]))


def identify(pid: int) -> ProcessId | None:
    """Return the identity of a living process, or None."""
    stat = read_stat(pid)
    return None if stat is None or stat.is_zombie else ProcessId(pid, stat.start_ticks)


def boot_id() -> str:
    """Return the kernel's id of this boot: start times of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def working_directory(pid: int) -> Path | None:
    """Return a process's working directory, or None when it is gone or not ours to see."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment a process was started with; empty when gone or not ours to see."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in raw.decode("utf-8", "replace").split("\0"))
    return {name: value for name, separator, value in pairs if separator}


def processes_of(instance: str, server_dirs: Iterable[Path] = ()) -> list[ProcessId]:
    """Return every living process of an instance, the caller excepted.

    A process counts when it carries the cookie, or when it is a database server working in one of
    ``server_dirs``: Postgres and Valkey overwrite their environment with their process title.
    """
    homes = {directory.resolve() for directory in server_dirs}
    return [found for pid in _pids() if (found := _belonging(pid, instance, homes)) is not None]


def _belonging(pid: int, instance: str, homes: set[Path]) -> ProcessId | None:
    stat = read_stat(pid)
    if stat is None or stat.is_zombie:
        return None
    is_server = stat.name in _SERVERS and working_directory(pid) in homes
    if is_server or environment_of(pid).get(COOKIE) == instance:
        return ProcessId(pid, stat.start_ticks)
    return None


def servers_in(directory: Path) -> list[ProcessId]:
    """Return the living database servers whose working directory is ``directory``."""
    return processes_of("\0no-cookie", [directory])


def _pids() -> Iterator[int]:
    own = os.getpid()
    for entry in os.listdir("/proc"):  # noqa: PTH208 - Path.iterdir would build a thousand objects a sweep
        if entry.isdigit() and int(entry) != own:
            yield int(entry)


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal exactly this process; return False when it is gone. Race-free by pidfd."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not process.is_alive():
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_until_gone(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Wait for processes to end; return those still alive after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    left = [process for process in processes if process.is_alive()]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [process for process in left if process.is_alive()]
    return left


def kill_all(find: Callable[[], list[ProcessId]], timeout_s: float) -> list[ProcessId]:
    """Kill what ``find`` finds until it finds nothing; return what is left after ``timeout_s``.

    Searched again after every round: a process may have forked between the look and the signal.
    """
    deadline = time.monotonic() + timeout_s
    left = find()
    while left and time.monotonic() < deadline:
        for process in left:
            send(process, signal.SIGKILL)
        wait_until_gone(left, min(1.0, timeout_s))
        left = find()
    return left


def describe(process: ProcessId) -> str:
    """Return "name (pid 12)" for messages."""
    stat = read_stat(process.pid)
    return f"{stat.name if stat else 'ended'} (pid {process.pid})"
