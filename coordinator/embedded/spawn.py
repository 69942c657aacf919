"""Starting a child that leads its own session and cannot outlive the supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coordinator.embedded.logfiles import open_log

_PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a function for the child, between fork and exec, that ties its life to its parent's.

    The kernel sends ``number`` when the *thread* that forked ends: start children from the main thread.
    """
    parent = os.getpid()

    def tie() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
            os._exit(126)
        if os.getppid() != parent:  # the parent died between fork and prctl: nobody would tell us
            os._exit(126)

    return tie


def start(
    argv: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path, parent_death: signal.Signals
) -> subprocess.Popen[bytes]:
    """Start a service: own session, output appended to ``log``, no input, dies with us.

    Raises:
        OSError: the program cannot be started (not found, not executable).
    """
    descriptor = open_log(log)
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(parent_death),  # noqa: PLW1509 - the supervisor has one thread
        )
    finally:
        os.close(descriptor)
