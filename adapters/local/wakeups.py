"""Measures how late this host wakes a sleeping process.

Run as a program: ``wakeups.py PRIORITY [neighbours]``; priority 0 is normal scheduling. With neighbours every
core has somebody else at work as well, as proxies are where cores are few.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_TIMERSLACK = 29
_TIMERS = 200
_EXCHANGES = 200
_PAUSE_S = 0.001  # 1000 a second: the rate of the default plan
_WORK_S = 0.0004  # of each neighbour, after each pause of the same length


def main(priority: int, *, neighbours: bool) -> None:
    """Print the delays as one JSON document, in microseconds."""
    ours, theirs = socket.socketpair()
    cpus = sorted(os.sched_getaffinity(0))
    for cpu in cpus if neighbours else ():
        _start_neighbour(cpu)
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


def _start_neighbour(cpu: int) -> None:
    """Fork a process that works about half of the time, until we end."""
    parent = os.getpid()
    if os.fork() != 0:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.sched_setaffinity(0, {cpu})
    while os.getppid() == parent:
        busy_until = time.perf_counter() + _WORK_S
        while time.perf_counter() < busy_until:
            pass
        time.sleep(_WORK_S)
    os._exit(0)


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
        main(int(sys.argv[1]), neighbours="neighbours" in sys.argv[2:])
