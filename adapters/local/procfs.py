"""Reads of /proc: process trees, exact CPU time, memory, threads, and which process holds which TCP socket."""

# ruff: noqa: PTH208, PTH115 - read every second while measuring: os.listdir and os.readlink are 5 times cheaper

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from adapters.contract import Endpoint

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_ESTABLISHED = "01"
_TIME_WAIT = "06"
_LISTEN = "0A"

# A process or thread may end between two reads: the kernel then says ENOENT or ESRCH.
GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Reading:
    """Cumulative counters of one process, its living and ended threads included.

    Attributes:
        cpu_user_s, cpu_system_s: their sum is exact (the scheduler's nanoseconds); the split is the kernel's.
        reaped_user_s, reaped_system_s: CPU time of ended and awaited children, in ticks of 10 ms.
        anonymous_bytes, file_bytes: resident private memory and resident file pages (program, libraries).
    """

    pid: int
    cpu_user_s: float
    cpu_system_s: float
    reaped_user_s: float
    reaped_system_s: float
    anonymous_bytes: int
    file_bytes: int
    threads: int
    context_switches: int


@dataclass(frozen=True, slots=True)
class Connection:
    """One established TCP connection end: its own address, the other side's, and its socket's inode."""

    local: Endpoint
    remote: Endpoint
    inode: int


def children(pid: int) -> set[int]:
    """Return the living children of ``pid``, whichever of its threads made them."""
    if not _has_children_files():
        return {child for child, parent in _parents().items() if parent == pid}
    found: set[int] = set()
    with contextlib.suppress(*GONE):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(*GONE):
                found.update(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
    return found


@lru_cache
def _has_children_files() -> bool:
    return Path("/proc/self/task", str(os.getpid()), "children").exists()


def _parents() -> dict[int, int]:
    """Return the parent of every process (for kernels without CONFIG_PROC_CHILDREN)."""
    parents = {}
    for pid in all_pids():
        with contextlib.suppress(*GONE):
            parents[pid] = int(_stat_fields(pid)[1])
    return parents


def tree(root: int) -> list[int]:
    """Return ``root`` and all its living descendants, parents before children."""
    found = [root]
    for pid in found:
        found.extend(child for child in sorted(children(pid)) if child not in found)
    return found


def all_pids() -> list[int]:
    """Return the ids of all processes this one can see."""
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def ancestors(pid: int) -> set[int]:
    """Return the ids of ``pid`` and of all processes above it."""
    found = set()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            pid = int(_stat_fields(pid)[1])
        except GONE:
            break
    return found


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the program's name: state, parent, ... (proc(5) from field 3)."""
    return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def is_alive(pid: int) -> bool:
    """Return whether ``pid`` exists and is not a zombie."""
    try:
        return _stat_fields(pid)[0] not in "ZX"
    except GONE:
        return False


def environment(pid: int) -> dict[str, str]:
    """Return the environment variables ``pid`` was started with; empty when they cannot be read."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except (*GONE, PermissionError):
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if b"=" in item)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def command_line(pid: int) -> str:
    """Return the arguments of ``pid``, or the title it gave itself."""
    with contextlib.suppress(*GONE):
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def thread_ids(pid: int) -> list[int]:
    """Return the thread ids of ``pid``; empty when it is gone."""
    with contextlib.suppress(*GONE):
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return []


def thread_name(pid: int, thread: int) -> str:
    """Return the name of one thread; empty when it is gone."""
    with contextlib.suppress(*GONE):
        return (_PROC / str(pid) / "task" / str(thread) / "comm").read_text().strip()
    return ""


def read_process(pid: int) -> Reading | None:
    """Return the counters of ``pid`` now, or None when it is gone. A zombie still has its CPU time, and no memory."""
    try:
        fields = _stat_fields(pid)
        status = _status(pid)
        user, system = int(fields[11]) * TICK_S, int(fields[12]) * TICK_S
        exact = _cpu_clock(pid)
        return Reading(
            pid=pid,
            cpu_user_s=user + (exact - user - system) * _user_share(user, system),
            cpu_system_s=system + (exact - user - system) * (1 - _user_share(user, system)),
            reaped_user_s=int(fields[13]) * TICK_S,
            reaped_system_s=int(fields[14]) * TICK_S,
            anonymous_bytes=_kib(status.get("RssAnon")) + _kib(status.get("RssShmem")),
            file_bytes=_kib(status.get("RssFile")),
            threads=0 if fields[0] in "ZX" else int(fields[17]),
            context_switches=sum(map(_switches, _thread_statuses(pid, status))),
        )
    except GONE:
        return None


def reaped_cpu(pid: int) -> tuple[float, float]:
    """Return user and system seconds of the ended children ``pid`` has waited for."""
    fields = _stat_fields(pid)
    return int(fields[13]) * TICK_S, int(fields[14]) * TICK_S


def _user_share(user: float, system: float) -> float:
    return user / (user + system) if user + system else 0.5


def _cpu_clock(pid: int) -> float:
    """Return the CPU seconds of a process, ended threads included, to the nanosecond.

    Source: the clock id of another process is ``(~pid << 3) | CPUCLOCK_SCHED`` (clock_getcpuclockid(3), kernel
    include/linux/posix-timers.h). /proc/<pid>/stat holds the same number cut to ticks of 10 ms.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as error:  # EINVAL: no such process any more
        raise ProcessLookupError(pid) from error


def _status(pid: int, thread: int | None = None) -> dict[str, str]:
    path = _PROC / str(pid) / "status" if thread is None else _PROC / str(pid) / "task" / str(thread) / "status"
    lines = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _thread_statuses(pid: int, main: Mapping[str, str]) -> Iterable[Mapping[str, str]]:
    yield main  # /proc/<pid>/status speaks of the first thread
    for thread in thread_ids(pid):
        if thread != pid:
            with contextlib.suppress(*GONE):
                yield _status(pid, thread)


def _switches(status: Mapping[str, str]) -> int:
    return int(status["voluntary_ctxt_switches"]) + int(status["nonvoluntary_ctxt_switches"])


def _kib(value: str | None) -> int:
    return 0 if value is None else int(value.split()[0]) * 1024  # a zombie has no memory lines


def allowed_cpus(thread: int) -> frozenset[int] | None:
    """Return the cores a thread may run on, or None when it is gone."""
    with contextlib.suppress(*GONE):
        return frozenset(os.sched_getaffinity(thread))
    return None


def connections() -> list[Connection]:
    """Return both ends of every established IPv4 TCP connection of this network namespace."""
    return [connection for state, connection in _tcp_table() if state == _ESTABLISHED]


def closed_connections(listener: Endpoint) -> int:
    """Return how many connections to ``listener`` were closed within the last minute (state TIME_WAIT)."""
    return sum(state == _TIME_WAIT and listener in (entry.local, entry.remote) for state, entry in _tcp_table())


def listeners(endpoint: Endpoint) -> list[int]:
    """Return the inodes of all sockets listening on ``endpoint`` or on its port for every address."""
    hosts = {endpoint.host, "0.0.0.0"}  # noqa: S104 - compared with, not bound to
    return [
        entry.inode
        for state, entry in _tcp_table()
        if state == _LISTEN and entry.local.port == endpoint.port and entry.local.host in hosts
    ]


def _tcp_table() -> Iterable[tuple[str, Connection]]:
    with (_PROC / "self" / "net" / "tcp").open() as table:
        next(table)
        for line in table:
            fields = line.split()
            yield fields[3], Connection(_endpoint(fields[1]), _endpoint(fields[2]), int(fields[9]))


def _endpoint(text: str) -> Endpoint:
    """Parse ``0100007F:1F90``: the address in host byte order, hexadecimal."""
    address, _, port = text.partition(":")
    return Endpoint(socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16))


def socket_inodes(pids: Collection[int]) -> dict[int, int]:
    """Return the owner (process id) of every socket the given processes hold, by inode."""
    owners: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(*GONE, PermissionError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(*GONE, PermissionError):
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if target.startswith("socket:["):
                        owners[int(target[8:-1])] = pid
    return owners
