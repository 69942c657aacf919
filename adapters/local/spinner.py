"""Keeps cores awake: one process a core, in the idle class, doing nothing. Run as a program: ``spinner.py CPU...``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
_TURNS = 1000  # some 20 us: the longest a woken process waits; yielding all the time would be 90 % system time


def main(cpus: list[int]) -> None:
    """Fork a spinner for every core and wait for their end, which is ours."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)
    for cpu in cpus:
        if os.fork() == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                _spin(cpu)
            os._exit(0)
    os.wait()


def _spin(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    os.nice(19)  # so that the kernel books the time as "nice", where the host's meter takes it out again
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    turns = range(_TURNS)
    while True:
        for _ in turns:
            pass
        # Into the kernel and out again: where wake-ups pre-empt lazily, it is here that the core is given away. A
        # loop without it held woken proxies until the next tick: p99 4 ms at 250 Hz, against 1.0-1.4 ms with it.
        os.sched_yield()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
