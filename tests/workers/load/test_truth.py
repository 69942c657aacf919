"""The instrument against known truth: a target that measures its own delay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from workers.load.engine.choice import open_engine
from workers.load.engine.contract import EngineName, Target

_RUNS = 3  # the quietest of three: other tenants of the machine only ever add


def quietest(start_target: Any, drive: Any, delay_s: float) -> tuple[float, float]:
    """Return our p50 and the target's own p50 hold time, ms, of the quietest run."""
    found = []
    for _ in range(_RUNS):
        target = start_target(delay_s=delay_s)
        run = drive(target.port, rate_rps=400, window_s=0.25, connections=8)
        found.append((run.p("net", 0.5), target.counts()["hold_p50_s"] * 1e3))
        target.end()
    return min(found)


def test_a_known_delay_is_measured_to_a_tenth_of_a_millisecond(start_target: Any, drive: Any) -> None:
    base_ms, base_hold_ms = quietest(start_target, drive, 0.0)
    for delay_s in (0.001, 0.002, 0.005):
        p50_ms, hold_ms = quietest(start_target, drive, delay_s)
        assert hold_ms - base_hold_ms >= delay_s * 1e3 * 0.9
        assert p50_ms - base_ms == pytest.approx(hold_ms - base_hold_ms, abs=0.1)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_closed_engine_leaves_nothing_behind(
    start_target: Any, engine_name: EngineName, open_connections: Any, make_schedule: Any
) -> None:
    target = Target("127.0.0.1", start_target().port, b"GET / HTTP/1.1\r\nHost: t\r\n\r\n", False, 4, 200, 1024, 5.0)

    def use(times: int) -> None:
        for _ in range(times):
            engine = open_engine(engine_name, target)
            open_connections(engine, 4)
            engine.begin(make_schedule(time.monotonic_ns(), 1000, "uniform", 60.0))
            time.sleep(0.01)
            engine.close()

    use(5)
    files, threads, resident = _open_files(), len(list(Path("/proc/self/task").iterdir())), _resident_bytes()
    use(40)
    assert _open_files() <= files
    # A thread that was joined may show for another moment, in the first count as well as in the last.
    deadline = time.monotonic() + 5.0
    while len(list(Path("/proc/self/task").iterdir())) > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(list(Path("/proc/self/task").iterdir())) <= threads
    # One leaked engine would leave at least a histogram page for every clock, its connections and its ring.
    assert _resident_bytes() - resident < 40 * 64 * 1024
