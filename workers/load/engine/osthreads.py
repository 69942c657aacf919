"""Threads, sockets and timers of the operating system, whether or not gevent has patched the process."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from typing import Any

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_PR_SET_TIMERSLACK = 29
_NS_PER_S = 1_000_000_000


def unpatched(module: str, name: str) -> Any:
    """Return ``module.name`` as it was before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(import_module(module), name)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


class Timer:
    """A timerfd: wakes an epoll at a nanosecond, which ``epoll.poll`` itself cannot (it rounds up to 1 ms)."""

    def __init__(self) -> None:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self.fd = _checked(_libc.timerfd_create(_CLOCK_MONOTONIC, flags), "timerfd_create")
        self._spec = _TimerSpec()

    def set(self, at_ns: int | None) -> None:
        """Fire at ``at_ns`` (``time.monotonic_ns``); None: never."""
        seconds, nanoseconds = divmod(at_ns, _NS_PER_S) if at_ns is not None else (0, 0)
        self._spec.value.seconds, self._spec.value.nanoseconds = seconds, nanoseconds
        _checked(_libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None), "timerfd_settime")

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def set_timer_slack_ns(slack_ns: int) -> None:
    """Let timers of the calling thread fire at most so late; the default of Linux is 50 us."""
    _checked(_libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0), "prctl")


def run_delay_ns() -> int | None:
    """Return how long the calling thread has waited for a CPU so far; None where the kernel does not tell."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:  # noqa: PTH123 - read in a hot thread
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return None
