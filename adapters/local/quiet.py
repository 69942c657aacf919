"""Makes the host quiet while measuring: idle-class spinners, real-time engine thread; tries what is permitted."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from adapters.contract import HostTuning
from adapters.local import spinner, wakeups
from adapters.local.cookie import Cookie
from adapters.local.counters import ComponentMeter
from adapters.local.processes import Command, Guarded, start
from meshgauge.errors import ConfigurationError

FIFO_PRIORITY = 10  # above all normal work, below the kernel's own threads (50)
_ROUNDS = 2
_BETTER_BY = 0.9  # a measure is taken only when it makes wake-ups at least a tenth quicker
_MEASURE_TIMEOUT_S = 30.0
_NEIGHBOURS, _FIFO = "+neighbours", "+fifo"  # added to a setting's name


class Spinners:
    """One SCHED_IDLE process for each core: the core never halts, and yields at once to anybody else."""

    def __init__(self, directory: Path, cookie: Cookie) -> None:
        cpus = tuple(map(str, sorted(os.sched_getaffinity(0))))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        argv = (sys.executable, "-I", "-S", spinner.__file__, *cpus)
        self.program: Guarded = start(Command("idle spinners", argv, directory), cookie)
        self._meter = ComponentMeter("idle_spinners", guards=(self.program.guard_pid,))

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU seconds all spinners have used: in user mode and in the kernel."""
        sample = self._meter.sample()
        return (sample.cpu_user_s, sample.cpu_system_s) if sample else (0.0, 0.0)

    def stop(self) -> None:
        """End them all."""
        self.program.stop()


def calibrate(directory: Path, cookie: Cookie) -> HostTuning:
    """Try what the host permits, half a second each and twice, and return the quietest, with what was measured."""
    quota, fifo = cpu_quota_cores(), fifo_is_permitted()
    measured: dict[str, dict[str, float]] = {}
    for _ in range(_ROUNDS):
        _keep_quieter(measured, "off", None)
        if quota is None:
            with _spinning(directory / "calibration", cookie):
                _keep_quieter(measured, "idle_spinners", None)
    spins = choose(measured).idle_spinners
    base = _base(spins)
    with _spinning(directory / "calibration", cookie) if spins else contextlib.nullcontext():
        for _ in range(_ROUNDS if fifo else 0):
            _keep_quieter(measured, base + _NEIGHBOURS, None, neighbours=True)
            _keep_quieter(measured, base + _NEIGHBOURS + _FIFO, FIFO_PRIORITY, neighbours=True)
    tuning = choose(measured)
    notes = {"cpu_quota_cores": quota, "fifo_permitted": fifo}
    return HostTuning(tuning.idle_spinners, tuning.fifo_priority, {**measured, **notes})


@contextlib.contextmanager
def _spinning(directory: Path, cookie: Cookie) -> Iterator[None]:
    spinners = Spinners(directory, cookie)
    try:
        yield
    finally:
        spinners.stop()


def _keep_quieter(
    measured: dict[str, dict[str, float]], setting: str, fifo_priority: int | None, *, neighbours: bool = False
) -> None:
    """Measure once more and keep the smaller delays: what else ran on the host in one round is not the setting's."""
    now = _measure(fifo_priority, neighbours=neighbours)
    before = measured.get(setting, now)
    measured[setting] = {name: min(delay, before[name]) for name, delay in now.items()}


def choose(measured: Mapping[str, Mapping[str, float]]) -> HostTuning:
    """Return the quietest tuning, each measure taken only if it clearly helps.

    Spinners are judged by the medians, since a halted core delays every wake-up, and medians are hardly touched by
    whatever else runs; real-time scheduling by the timer's tail beside neighbours at work, which is what it is for.

    Args:
        measured: per setting the delays of ``wakeups.py``, microseconds.
    """
    off, spun = measured["off"], measured.get("idle_spinners")
    spins = spun is not None and _median_delay_us(spun) < _BETTER_BY * _median_delay_us(off)
    beside = _base(spins) + _NEIGHBOURS
    real_time = measured.get(beside + _FIFO)
    fifo = real_time is not None and real_time["timer_p99_us"] < _BETTER_BY * measured[beside]["timer_p99_us"]
    return HostTuning(idle_spinners=spins, fifo_priority=FIFO_PRIORITY if fifo else None)


def _base(spins: bool) -> str:
    return "idle_spinners" if spins else "off"


def _median_delay_us(delays: Mapping[str, float]) -> float:
    """Return the geometric mean of both medians: a timer's wake-up and a round trip with a sleeping peer."""
    return math.sqrt(delays["timer_p50_us"] * delays["exchange_p50_us"])


def _measure(fifo_priority: int | None, *, neighbours: bool) -> dict[str, float]:
    argv = [sys.executable, "-I", "-S", wakeups.__file__, str(fifo_priority or 0), *(["neighbours"] * neighbours)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_MEASURE_TIMEOUT_S, check=False)
    if done.returncode:
        raise ConfigurationError(
            f"the calibration of the host failed; set MESHGAUGE_QUIET_HOST=off: {done.stderr[-400:]}"
        )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def fifo_is_permitted() -> bool:
    """Return whether a process of ours may run under SCHED_FIFO (CAP_SYS_NICE or RLIMIT_RTPRIO)."""
    argv = [sys.executable, "-I", "-S", wakeups.__file__, "probe", str(FIFO_PRIORITY)]
    return subprocess.run(argv, capture_output=True, timeout=_MEASURE_TIMEOUT_S, check=False).returncode == 0


def cpu_quota_cores() -> float | None:
    """Return the CPU quota of our control group in cores, or None without one.

    Spinners would use it up and throttle everything else, so with a quota there are none.
    """
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct") if controllers else (
            "/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # fmt: skip
        for folder in (Path(mount + parent) for mount in mounts for parent in _upwards(path)):
            quota = _quota_of(folder)
            if quota is not None:
                return quota
    return None


def _upwards(path: str) -> list[str]:
    """Return ``/a/b``, ``/a`` and the root: a quota anywhere above counts, and inside a container all is root."""
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:length]) for length in range(len(parts), -1, -1)]


def _quota_of(folder: Path) -> float | None:
    second, first = folder / "cpu.max", folder / "cpu.cfs_quota_us"
    if second.exists():
        quota, period = second.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    if first.exists() and int(first.read_text()) > 0:
        return int(first.read_text()) / int((folder / "cpu.cfs_period_us").read_text())
    return None
