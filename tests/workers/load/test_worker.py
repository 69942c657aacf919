"""A load worker that has done its work and lingers, until it is told to go."""

from __future__ import annotations

import signal
import threading
import time

from workers.load import worker


def test_it_goes_when_told_to() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    telling = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM))
    started = time.monotonic()
    try:
        telling.start()
        worker.linger(60.0)
    finally:
        telling.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert time.monotonic() - started < 30.0


def test_it_goes_by_itself_in_the_end() -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    try:
        worker.linger(0.05)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
