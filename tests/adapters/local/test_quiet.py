"""The host is made quiet by what helps and is permitted, and says what it measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.local import procfs, quiet
from adapters.local.cookie import Cookie
from adapters.local.quiet import FIFO_PRIORITY, Spinners, calibrate, choose

SLOW = {"timer_p50_us": 90.0, "timer_p99_us": 3000.0, "exchange_p50_us": 200.0}
QUICK = {"timer_p50_us": 20.0, "timer_p99_us": 60.0, "exchange_p50_us": 40.0}


def test_spinners_are_kept_when_they_make_wake_ups_quicker() -> None:
    assert choose({"off": SLOW, "idle_spinners": QUICK}).idle_spinners
    assert not choose({"off": QUICK, "idle_spinners": SLOW}).idle_spinners
    assert not choose({"off": QUICK, "idle_spinners": dict(QUICK, exchange_p50_us=39.0)}).idle_spinners
    assert not choose({"off": SLOW}).idle_spinners


def test_real_time_is_judged_beside_neighbours_on_the_base_it_would_run_on() -> None:
    base = {"off": SLOW, "idle_spinners": QUICK, "idle_spinners+neighbours": SLOW}
    tuning = choose({**base, "idle_spinners+neighbours+fifo": dict(SLOW, timer_p99_us=30.0)})
    assert (tuning.idle_spinners, tuning.fifo_priority) == (True, FIFO_PRIORITY)
    tuning = choose({**base, "idle_spinners+neighbours+fifo": dict(SLOW, timer_p99_us=2990.0)})
    assert (tuning.idle_spinners, tuning.fifo_priority) == (True, None)
    assert choose({"off": SLOW, "off+neighbours": SLOW, "off+neighbours+fifo": QUICK}).fifo_priority == FIFO_PRIORITY


def test_the_calibration_says_what_it_measured_and_leaves_nothing(tmp_path: Path, processes_of: Any) -> None:
    tuning = calibrate(tmp_path, Cookie("quiet-test", 1, tmp_path.name))
    off = tuning.measured["off"]
    assert 0 < off["timer_p50_us"] <= off["timer_p90_us"] <= off["timer_p99_us"]
    assert 0 < off["exchange_p50_us"] <= off["exchange_p90_us"]
    assert tuning.idle_spinners <= ("idle_spinners" in tuning.measured)
    assert processes_of(tmp_path.name) == []


def test_spinners_sit_one_to_a_core_in_the_idle_class_and_are_counted(tmp_path: Path, within: Any) -> None:
    spinners = Spinners(tmp_path / "spinners", Cookie("quiet-test", 1, tmp_path.name))
    try:
        cores = os.sched_getaffinity(0)
        assert within(lambda: len(spinners.program.process_ids()) == len(cores) + 1)
        _, *workers = spinners.program.process_ids()
        assert within(lambda: all(os.sched_getscheduler(pid) == os.SCHED_IDLE for pid in workers))
        assert {frozenset(os.sched_getaffinity(pid)) for pid in workers} == {frozenset({core}) for core in cores}
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers} == {19}
        before = sum(spinners.cpu_s())
        deadline = time.monotonic() + 20
        while sum(spinners.cpu_s()) < before + 0.05 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sum(spinners.cpu_s()) > before
        everyone = procfs.tree(spinners.program.guard_pid)
    finally:
        spinners.stop()
    assert not any(map(procfs.is_alive, everyone))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}, 0.5),
        ({}, None),
    ],
)
def test_a_cpu_quota_is_read_from_either_kind_of_control_group(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert quiet._quota_of(tmp_path) == cores


def test_with_a_cpu_quota_nothing_spins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "cpu_quota_cores", lambda: 1.5)
    tuning = calibrate(tmp_path, Cookie("quiet-test", 1, tmp_path.name))
    assert not tuning.idle_spinners
    assert "idle_spinners" not in tuning.measured
    assert tuning.measured["cpu_quota_cores"] == 1.5
