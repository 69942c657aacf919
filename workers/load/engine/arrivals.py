"""The schedule of intended starts; arrivals.c is its twin, and a test holds both to the same instants."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from workers.load.engine.contract import Schedule

_MASK = (1 << 64) - 1


def random_u64(seed: int) -> Iterator[int]:
    """Yield splitmix64 numbers. Source: Steele, Lea, Flood, OOPSLA 2014."""
    state = seed & _MASK
    while True:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        yield z ^ (z >> 31)


def _poisson_s(schedule: Schedule, rate_rps: float) -> Iterator[float]:
    instant_s = 0.0
    for number in random_u64(schedule.seed):
        instant_s += -math.log(((number >> 11) + 1) * 2.0**-53) / rate_rps
        yield instant_s


def _ramp_instant_s(schedule: Schedule, rate_rps: float, nth: float) -> float:
    """Invert the cumulative arrivals: the first rate before the window, a straight ramp in it, the last after it."""
    before_s = (schedule.window_start_ns - schedule.start_ns) * 1e-9
    ramp_s = (schedule.window_end_ns - schedule.window_start_ns) * 1e-9
    first_rps = schedule.ramp_from_rps or rate_rps
    before, during = first_rps * before_s, (first_rps + rate_rps) / 2 * ramp_s
    if nth < before:
        return nth / first_rps
    nth -= before
    if nth >= during:
        return before_s + ramp_s + (nth - during) / rate_rps
    slope = (rate_rps - first_rps) / ramp_s
    # nth = first t + slope t^2 / 2, in the form that stays exact for slopes near 0
    return before_s + 2 * nth / (first_rps + math.sqrt(first_rps * first_rps + 2 * slope * nth))


def arrivals_ns(schedule: Schedule) -> Iterator[int]:
    """Yield intended starts in order, ``time.monotonic_ns``, without end; a closed loop has none."""
    rate_rps = schedule.rate_rps
    if schedule.kind == "closed" or rate_rps is None:
        return
    instants: Iterator[float]
    if schedule.kind == "poisson":
        instants = _poisson_s(schedule, rate_rps)
    elif schedule.kind == "burst":
        burst = schedule.burst_requests
        instants = (float(i // burst) * burst / rate_rps for i in itertools.count())
    elif schedule.kind == "ramp":
        instants = (_ramp_instant_s(schedule, rate_rps, i + schedule.phase) for i in itertools.count())
    else:
        instants = ((i + schedule.phase) / rate_rps for i in itertools.count())
    for instant_s in instants:
        yield schedule.start_ns + int(instant_s * 1e9)
