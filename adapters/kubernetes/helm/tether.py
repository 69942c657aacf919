"""Becomes the program it is given, and has the kernel end it when the process that asked for it ends.

Run as ``python -I -S tether.py PARENT_PID PROGRAM ARGUMENTS...``; it takes about 20 ms. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
NOT_STARTED = 127  # as a shell says it


def die_with(parent_pid: int) -> None:
    """Die by SIGKILL when the parent's thread that started us ends; at once when it has ended already.

    Survives ``execve``. Elsewhere than on Linux there is no such thing: the time-out ends what is left.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before prctl
        raise SystemExit(1)


def main(arguments: list[str]) -> None:
    """Become ``arguments[1:]``, tethered to process ``arguments[0]``."""
    die_with(int(arguments[0]))
    try:
        os.execv(arguments[1], arguments[1:])  # noqa: S606 - no shell on purpose
    except OSError as error:
        sys.stderr.write(f"{arguments[1]}: {error.strerror}\n")
        raise SystemExit(NOT_STARTED) from error


if __name__ == "__main__":
    main(sys.argv[1:])
