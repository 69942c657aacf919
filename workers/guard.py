"""The guard: owns the processes of one piece of work and ends them all when their owner dies, hangs or is cut off.

It runs as ``python -m workers.guard -- argv...`` between a Celery child (the owner) and the work. The owner
holds the guard's standard input: a closed pipe, or no fresh ``alive`` line before the deadline of the last
one, ends the whole tree. As a subreaper the guard inherits every orphan below it, so nothing escapes by
forking twice or by a session of its own. Source of the design and its measurements: reference/operations.md 4.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 2.0
_POLL_S = 0.1
_SIGNALLED = 128  # as a shell says it: 137 is a SIGKILL


def start_guarded(
    argv: Sequence[str], deadline_monotonic_s: float, env: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start ``argv`` below a guard; its standard output is the returned process's ``stdout``.

    Call it from a main thread, and call ``extend`` before ``deadline_monotonic_s`` passes. Closing
    ``stdin`` ends everything; the guard exits with the exit code of ``argv``.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.guard", "--", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=dict(env),
        start_new_session=True,
        bufsize=0,
    )
    extend(process, deadline_monotonic_s)
    return process


def extend(process: subprocess.Popen[bytes], deadline_monotonic_s: float) -> None:
    """Let the work live until ``deadline_monotonic_s`` (``time.monotonic()``). A dead guard is not an error here."""
    if process.stdin is None:
        raise ValueError("the guard was started without a pipe")
    try:
        process.stdin.write(b"alive %.3f\n" % deadline_monotonic_s)
    except BrokenPipeError:
        return  # it has ended; whoever waits for it will see that


def stop(process: subprocess.Popen[bytes], wait_s: float = 10.0) -> None:
    """End the work and wait until nothing of it is left."""
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()  # what is below dies with it (PDEATHSIG), the sweep of the site finds the rest
        process.wait()


def close_output(process: subprocess.Popen[bytes]) -> None:
    """Close our end of the work's output, when all of it was read."""
    if process.stdout is not None:
        process.stdout.close()


def how_it_ended(code: int) -> str:
    """Return "exited with code 3" or "was killed by SIGKILL" for an exit code, a shell's or subprocess' own."""
    number = -code if code < 0 else code - _SIGNALLED
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"exited with code {code}"
    hint = " (as the kernel does when memory runs out)" if number == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


def main(arguments: Sequence[str]) -> int:
    """Run the work named after ``--`` and guard it; return its exit code."""
    argv = list(arguments[arguments.index("--") + 1 :])
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    asked_to_stop = False

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    work = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - there is one thread here
    )
    os.close(1)  # the owner must see the end of the work's output when the work ends, not when we do
    deadline = time.monotonic() + 60.0
    pipe = _Pipe(0)
    while work.poll() is None and not asked_to_stop:
        newest = pipe.newest_deadline(_POLL_S)
        if newest is not None:
            deadline = newest
        if pipe.closed or time.monotonic() > deadline:
            break
    end_tree(work)
    if work.returncode is None:
        return 1
    return work.returncode if work.returncode >= 0 else _SIGNALLED - work.returncode


class _Pipe:
    """Reads ``alive DEADLINE`` lines without ever blocking."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.closed = False

    def newest_deadline(self, wait_s: float) -> float | None:
        """Wait up to ``wait_s`` for a line; return the last deadline read, if any."""
        readable, _, _ = select.select([self._descriptor], [], [], wait_s)
        if not readable:
            return None
        data = os.read(self._descriptor, 65_536)
        if not data:
            self.closed = True
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        deadlines = [float(line.split()[1]) for line in lines if line.startswith(b"alive ")]
        return deadlines[-1] if deadlines else None


def end_tree(work: subprocess.Popen[bytes]) -> None:
    """Ask the work to end, then kill everything below this process until nothing is left."""
    if work.poll() is None:
        work.terminate()
        try:
            work.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            work.kill()
    while True:
        children = descendants(os.getpid())
        if not children:
            return
        for pid in children:
            _kill(pid)
        work.poll()
        _reap(work.pid)
        time.sleep(0.01)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _reap(spared_pid: int) -> None:
    """Collect the zombies we inherited; the work itself is left to its Popen."""
    for pid in _children(os.getpid()):
        if pid != spared_pid:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _children(pid: int) -> list[int]:
    parents = _parents()
    return [child for child, parent in parents.items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Return every process below ``pid``, zombies included until they are reaped."""
    parents = _parents()
    below: list[int] = []
    level = [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        below.extend(level)
    return below


def _parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
