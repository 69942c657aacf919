"""The reconciler's loops: they outlive servers that are away, and none is left alone by the other's death."""

from __future__ import annotations

import threading

import pytest

from coordinator.reconciler import repeat
from meshgauge.errors import ServiceUnavailableError


def test_a_loop_outlives_a_server_that_is_away() -> None:
    stopped = threading.Event()
    calls = 0

    def do() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            stopped.set()
        raise ServiceUnavailableError("Postgres is away")

    repeat(stopped, 0.001, "tick", do)
    assert calls == 3


def test_a_defect_stops_the_other_loop_too() -> None:
    stopped = threading.Event()

    def do() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        repeat(stopped, 60.0, "tick", do)
    assert stopped.is_set()
