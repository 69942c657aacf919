"""Measures how late this host wakes a sleeping process. Run as a program: ``wakeups.py PRIORITY`` (0: normal)."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time

PR_SET_TIMERSLACK = 29
_TIMERS = 200
_EXCHANGES = 200
_PAUSE_S = 0.001  # 1000 a second: the rate of the default plan


def main(priority: int) -> None:
    """Print the delays as one JSON document, in microseconds."""
    ours, theirs = socket.socketpair()
    cpus = sorted(os.sched_getaffinity(0))
    if os.fork() == 0:
        ours.close()
        os.sched_setaffinity(0, {cpus[-1]})
        while theirs.recv(1):
            theirs.send(b"x")
        os._exit(0)
    theirs.close()
    # On one core the scheduler passes the turn on; across cores a halted one has to be woken, as with real hops.
    os.sched_setaffinity(0, {cpus[0]})
    # Normal processes get 50 us of timer slack, real-time ones none: the comparison is about waking up.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if priority:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    timers = sorted(_timer_delays())
    exchanges = sorted(_exchange_delays(ours))
    result = {
        f"{name}_p{percent}_us": round(delays[len(delays) * percent // 100] * 1e6, 1)
        for name, delays in (("timer", timers), ("exchange", exchanges))
        for percent in (50, 90, 99)
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _timer_delays() -> list[float]:
    delays = []
    for _ in range(_TIMERS):
        due = time.perf_counter() + _PAUSE_S
        time.sleep(_PAUSE_S)
        delays.append(time.perf_counter() - due)
    return delays


def _exchange_delays(peer: socket.socket) -> list[float]:
    """Return round-trip times with a process that sleeps in between, as a proxy does."""
    delays = []
    for _ in range(_EXCHANGES):
        time.sleep(_PAUSE_S)
        sent = time.perf_counter()
        peer.send(b"x")
        peer.recv(1)
        delays.append(time.perf_counter() - sent)
    return delays


if __name__ == "__main__":
    if sys.argv[1] == "probe":
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(int(sys.argv[2])))
    else:
        main(int(sys.argv[1]))
