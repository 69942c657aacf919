"""The instrument is tested like an instrument: known burners, exact sums, nothing lost when processes end."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.local.cookie import Cookie
from adapters.local.counters import ComponentMeter, HostMeter, KernelSample, read_host_times
from adapters.local.processes import Command, Guarded, start, stop_all
from adapters.local.procfs import read_process

# Burns a share of one core: works in slices until its own CPU clock says so, and sleeps between. A fifth of it is
# burnt by children that end inside the window; the kernel's clock, not a guess, decides when enough is burnt.
BURNER = """
import os, resource, sys, time
share, seconds = float(sys.argv[1]), float(sys.argv[2])
def used():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
def burn(cpu_s):
    until = time.process_time() + cpu_s
    while time.process_time() < until:
        sum(range(200))
begun, start_used = time.monotonic(), used()
print("ready", flush=True)
turn = 0
while (elapsed := time.monotonic() - begun) < seconds:
    owed = share * elapsed - (used() - start_used)
    if owed > 0.005:
        turn += 1
        if turn % 5 == 0:
            child = os.fork()
            if child == 0:
                burn(owed)
                os._exit(0)
            os.waitpid(child, 0)
        else:
            burn(owed)
    time.sleep(0.005)
print("done", flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """Start a guarded Python program."""
    started: list[Guarded] = []

    def begin(program: str, *arguments: object) -> Guarded:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        argv = (sys.executable, "-I", "-S", "-c", program, *map(str, arguments))
        started.append(start(Command("burner", argv, directory), Cookie("counter-test", 1, tmp_path.name)))
        return started[-1]

    yield begin
    stop_all(started)


def test_a_component_that_burns_0_30_core_is_reported_as_0_28_to_0_32(run: Any, within: Any) -> None:
    program = run(BURNER, 0.30, 4.5)
    meter = ComponentMeter("app", guards=(program.guard_pid,))
    assert within(lambda: "ready" in program.log_tail())
    time.sleep(0.3)
    first = meter.sample()
    time.sleep(3.5)
    last = meter.sample()
    assert first is not None
    assert last is not None
    cores = (last.cpu_user_s + last.cpu_system_s - first.cpu_user_s - first.cpu_system_s) / (last.at_s - first.at_s)
    assert 0.28 <= cores <= 0.32
    assert last.threads in (1, 2)  # a child may be burning just now
    assert last.memory_bytes is not None
    assert 4e6 < last.memory_bytes < 60e6


# Children, one of them a daemon that outlives its parent, each burn a known amount and end.
MORTALS = """
import os, time
def burn(cpu_s):
    while time.process_time() < cpu_s:
        pass
for _ in range(3):
    if os.fork() == 0:
        burn(0.2)
        os._exit(0)
    os.wait()
if os.fork() == 0:
    if os.fork() == 0:
        burn(0.2)
        os._exit(0)
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(600)
"""


def test_cpu_of_children_and_daemons_that_ended_is_not_lost(run: Any, within: Any) -> None:
    program = run(MORTALS)
    meter = ComponentMeter("app", guards=(program.guard_pid,))
    assert within(lambda: "ready" in program.log_tail())
    assert within(lambda: len(program.process_ids()) == 1)

    def used_s() -> float:
        sample = meter.sample()
        return sample.cpu_user_s + sample.cpu_system_s if sample else 0.0

    assert used_s() == pytest.approx(0.8 + 0.04, abs=0.08)  # 4 x 0.2 s, and a Python's start


def test_a_sum_never_goes_back_when_the_component_ends(run: Any, within: Any) -> None:
    program = run(BURNER, 0.8, 0.5)
    meter = ComponentMeter("app", guards=(program.guard_pid,))
    assert within(lambda: "done" in program.log_tail())
    before = meter.sample()
    program.stop()
    after = meter.sample()
    assert before is not None
    assert after is not None
    assert after.cpu_user_s + after.cpu_system_s >= before.cpu_user_s + before.cpu_system_s
    assert after.memory_bytes in (0, None)


def test_nothing_is_reported_for_a_component_nobody_saw() -> None:
    assert ComponentMeter("load_generator").sample() is None


def test_load_generators_of_later_trials_add_to_the_sum(run: Any, within: Any) -> None:
    first, second = run(BURNER, 0.9, 0.4), run(BURNER, 0.9, 0.4)
    assert within(lambda: "done" in first.log_tail() and "done" in second.log_tail())
    meter = ComponentMeter("load_generator")
    totals = []
    for program in (first, second):
        meter.follow([program.pid])
        sample = meter.sample()
        assert sample is not None
        totals.append(sample.cpu_user_s + sample.cpu_system_s)
    assert totals[1] == pytest.approx(2 * totals[0], rel=0.5)
    assert totals[1] > totals[0] + 0.2


def test_the_reading_agrees_with_what_the_process_knows_of_itself() -> None:
    reading = read_process(os.getpid())
    assert reading is not None
    assert reading.cpu_user_s + reading.cpu_system_s == pytest.approx(time.process_time(), abs=0.02)
    assert reading.anonymous_bytes + reading.file_bytes > 10e6
    assert reading.context_switches > 0


def test_a_process_that_is_gone_gives_no_reading() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert read_process(process.pid) is None


def test_the_host_is_counted_without_our_own_spinners() -> None:
    times = read_host_times()
    all_ours = HostMeter().sample(spinner_user_s=times.nice_s + 1e6)
    none_ours = HostMeter().sample()
    assert none_ours.cpu_user_s - all_ours.cpu_user_s == pytest.approx(times.nice_s, abs=1.0)
    assert all_ours.cpu_user_s >= times.user_s
    busy = HostMeter().sample(spinner_system_s=5.0)
    assert none_ours.cpu_system_s - busy.cpu_system_s == pytest.approx(5.0, abs=1.0)
    assert none_ours.steal_s is not None
    assert none_ours.threads is None
    assert none_ours.memory_bytes is not None


def test_the_host_never_goes_back_when_clocks_of_spinners_and_ticks_differ() -> None:
    meter = HostMeter()
    first = meter.sample()
    assert meter.sample(spinner_user_s=3600.0, spinner_system_s=3600.0).cpu_user_s >= first.cpu_user_s


def test_neither_part_goes_back_when_the_kernels_split_wanders(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(0.0117, 0.0083), (0.0100, 0.0110), (0.0050, 0.0300)])  # sums: 20, 21 and 35 ms

    def read() -> KernelSample:
        user_s, system_s = next(readings)
        return KernelSample("app", 0.0, user_s, system_s, 1, 1, 1)

    meter = ComponentMeter("app")
    monkeypatch.setattr(meter, "_read", read)
    samples = [sample for _ in range(3) if (sample := meter.sample())]
    for earlier, later in itertools.pairwise(samples):
        assert later.cpu_user_s >= earlier.cpu_user_s
        assert later.cpu_system_s >= earlier.cpu_system_s
    assert [sample.cpu_user_s + sample.cpu_system_s for sample in samples] == pytest.approx([0.020, 0.021, 0.035])
