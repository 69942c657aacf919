"""The small program that owns one process of an environment and never lets it outlive its own owner.

Run as ``python -I -S guard.py``: the first line on stdin is the order (JSON), stdin then stays open as the
life-line. It answers one line on stdout, ``{"pid": N}`` or ``{"error": "..."}``, and exits as its child did.
Standard library only: it starts in about 20 ms. Source: reference/operations.md 4 (guard: nothing escaped).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import time
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_POLL_MS = 10


def main() -> NoReturn:
    """Start what the order names, watch it and its owner, and leave nothing of it behind."""
    owner_fd = os.pidfd_open(os.getppid())
    order = json.loads(_first_line())
    libc = ctypes.CDLL(None, use_errno=True)
    # Whatever daemonises below us is handed to us, not to init, so that it is found and ended too.
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        _answer({"error": f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}"})
        raise SystemExit(1)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    stopping: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(signal.SIGTERM))
    child, failure = _start(order, libc)
    if failure:
        _answer({"error": failure})
        raise SystemExit(1)
    _answer({"pid": child})
    status = _watch(child, owner_fd, wake_read, stopping, float(order["grace_s"]))
    _end_all()
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF if status is not None else 1)


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            raise SystemExit("guard: the owner left before it gave an order")
        line += piece
    return line


def _answer(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _start(order: dict[str, Any], libc: ctypes.CDLL) -> tuple[int, str | None]:
    """Fork and exec the order; return the pid and, when exec failed, why."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    guard_pid = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _become(order, libc, guard_pid)
        except BaseException as error:  # nothing may unwind into a second guard; the reason goes to the owner
            os.write(write_end, (str(error) or type(error).__name__).encode())
        os._exit(127)
    os.close(write_end)
    failure = os.read(read_end, 4096).decode(errors="replace")
    os.close(read_end)
    if failure:
        os.waitpid(child, 0)
    return child, failure or None


def _become(order: dict[str, Any], libc: ctypes.CDLL, guard_pid: int) -> None:
    """Turn this forked child into the ordered program."""
    os.setpgid(0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guard_pid:  # the guard died between fork and prctl
        os._exit(127)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    if order["cpus"]:
        os.sched_setaffinity(0, order["cpus"])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    # An empty input under the cookie's name: programs that write over their variables are still found by it.
    os.dup2(os.memfd_create(order["stdin_name"]), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(order["cwd"])
    os.execve(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - no shell on purpose


def _watch(child: int, owner_fd: int, wake_fd: int, stopping: list[int], grace_s: float) -> int | None:
    """Return the child's wait status, or None when it had to be ended because the owner is gone."""
    poller = select.poll()
    for fd in (0, owner_fd, wake_fd):
        poller.register(fd, select.POLLIN)
    deadline = None
    while True:
        timeout_ms = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
        ready = {fd for fd, _ in poller.poll(timeout_ms)}
        if wake_fd in ready:
            os.read(wake_fd, 4096)
        status = _reap(child)
        if status is not None:
            return status
        if owner_fd in ready or (0 in ready and not os.read(0, 4096)):
            return None
        if stopping and deadline is None:
            deadline = time.monotonic() + grace_s
            os.kill(child, signal.SIGTERM)
        if deadline is not None and time.monotonic() >= deadline:
            return None


def _reap(child: int) -> int | None:
    """Collect every ended process below us; return the wait status of ``child`` if it was among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _end_all() -> None:
    """Kill every descendant until none is left; what forks meanwhile is found in the next round."""
    while True:
        descendants = _descendants(os.getpid())
        if not descendants:
            return
        for pid in descendants:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap(-1)
        time.sleep(_POLL_MS / 1000)
        _reap(-1)


def _descendants(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the start-up time
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                parents[int(name)] = int(stat.read().rpartition(b")")[2].split()[1])
    found: set[int] = set()
    edge = {root}
    while edge:
        edge = {pid for pid, parent in parents.items() if parent in edge}
        found |= edge
    return found


if __name__ == "__main__":
    main()
