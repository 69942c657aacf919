"""Usage: what each component used over the window, from counters read at one instant or part by part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from meshgauge.errors import MeasurementError
from meshgauge.trial import ComponentUsage, UsageSample
from workers.telemetry import PERIOD_S

_STEAL_SPAN_S = 10.0
# A part's line needs its own first and last sample, and two between that show whether it runs on.
# Source: reference/adapters.md 15.
FEWEST_SAMPLES = 4

_Key = TypeVar("_Key")


def reduce_usage(samples: Sequence[UsageSample], host_cores: float, window_s: float) -> tuple[ComponentUsage, ...]:
    """Return what each component used between its first and its last sample.

    A component counted in parts is summed at instants that all of its parts have passed, each part on a straight line
    between its own samples. One that cannot be summed is there without numbers, and with a note that says why.

    Args:
        host_cores: of all hosts counted as ``host``.
        window_s: of the trial.

    Raises:
        MeasurementError: a component that we count ourselves has a single sample.
    """
    return tuple(
        _of_parts(component, series, host_cores, window_s)
        if any(sample.part is not None for sample in series)
        else _reduced(component, series, host_cores)
        for component, series in _grouped(samples, lambda sample: sample.component).items()
    )


def _grouped(samples: Sequence[UsageSample], key: Callable[[UsageSample], _Key]) -> Mapping[_Key, list[UsageSample]]:
    groups: dict[_Key, list[UsageSample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return groups


def _of_parts(component: str, samples: Sequence[UsageSample], host_cores: float, window_s: float) -> ComponentUsage:
    """Return the usage of a component whose parts were counted at instants of their own."""
    parts = _grouped(samples, lambda sample: sample.part or "")
    source = ", ".join(sorted({sample.source for sample in samples if sample.source})) or None
    lines = {name: _line(series) for name, series in parts.items()}
    faults = [f"{name}: {fault}" for name, line in sorted(lines.items()) if (fault := _fault(line, window_s))]
    summed = [] if faults else _summed(component, list(lines.values()))
    if len(summed) < 2:
        note = "; ".join(faults) or f"its {len(parts)} parts were never all counted within the same stretch of time"
        return ComponentUsage(component, window_s, *(None,) * 6, source=source, note=f"not measured: {note}")
    usage = _reduced(component, summed, host_cores)
    note = f"{len(parts)} {'part' if len(parts) == 1 else 'parts'} over {usage.window_s:.0f} s of {window_s:.0f} s"
    return replace(usage, source=source, note=note)


def _line(series: Sequence[UsageSample]) -> list[UsageSample]:
    return sorted((sample for sample in series if sample.cpu_total_s is not None), key=lambda sample: sample.at_s)


def _fault(line: Sequence[UsageSample], window_s: float) -> str | None:
    """Return why no usage can be read off one part's samples, or None."""
    if not line:
        return "no counter with a time of its own was found"
    if len(line) < FEWEST_SAMPLES:
        return (
            f"{len(line)} of at least {FEWEST_SAMPLES} samples inside the window of {window_s:g} s: "
            "a window of 80 s or more always holds enough"  # cAdvisor's longest usual interval, four times
        )
    totals = [sample.cpu_total_s or 0.0 for sample in line]
    if any(later < earlier for earlier, later in itertools.pairwise(totals)):
        return "its counter went back: it restarted"
    return None


def _summed(component: str, lines: Sequence[Sequence[UsageSample]]) -> list[UsageSample]:
    """Return the sums of all parts at every instant of a sample that all parts have passed and none has left."""
    start, end = max(line[0].at_s for line in lines), min(line[-1].at_s for line in lines)
    at = np.array(sorted({sample.at_s for line in lines for sample in line if start <= sample.at_s <= end}))
    user = _sum_at(at, lines, lambda sample: sample.cpu_user_s)
    system = _sum_at(at, lines, lambda sample: sample.cpu_system_s)
    total = _sum_at(at, lines, lambda sample: sample.cpu_total_s)
    memory = _sum_at(at, lines, lambda sample: sample.memory_bytes)
    # Only a limit makes throttling possible; parts without one have no such counter.
    limited = [line for line in lines if line[0].throttled_s is not None]
    throttled = _sum_at(at, limited, lambda sample: sample.throttled_s) if limited else None
    threads = _most_threads(lines)
    return [
        UsageSample(
            component=component,
            at_s=float(instant),
            cpu_user_s=_item(user, i),
            cpu_system_s=_item(system, i),
            memory_bytes=None if memory is None else round(float(memory[i])),
            threads=threads,
            context_switches=None,
            cpu_s=_item(total, i),
            throttled_s=_item(throttled, i),
        )
        for i, instant in enumerate(at)
    ]


def _sum_at(
    at: npt.NDArray[np.float64],
    lines: Sequence[Sequence[UsageSample]],
    value: Callable[[UsageSample], float | None],
) -> npt.NDArray[np.float64] | None:
    """Return the sum over lines of ``value`` at each instant; None where one of them does not tell it throughout."""
    total = np.zeros(len(at))
    for line in lines:
        values = [value(sample) for sample in line]
        if any(known is None for known in values):
            return None
        total += np.interp(at, [sample.at_s for sample in line], np.array(values, dtype=float))
    return total


def _item(values: npt.NDArray[np.float64] | None, at: int) -> float | None:
    return None if values is None else float(values[at])


def _most_threads(lines: Sequence[Sequence[UsageSample]]) -> int | None:
    """Return the sum of each part's most threads; None when one does not tell."""
    most = [max((sample.threads for sample in line if sample.threads is not None), default=None) for line in lines]
    return sum(known for known in most if known is not None) if None not in most else None


def _reduced(component: str, series: Sequence[UsageSample], host_cores: float) -> ComponentUsage:
    first, last = series[0], series[-1]
    window_s = last.at_s - first.at_s
    if window_s <= 0:
        raise MeasurementError(f"component {component} was sampled once only; the window is too short")
    memory = [sample.memory_bytes for sample in series if sample.memory_bytes is not None]
    threads = [sample.threads for sample in series if sample.threads is not None]
    switches = _difference(first.context_switches, last.context_switches)
    return ComponentUsage(
        component=component,
        window_s=window_s,
        cpu_user_s=_difference(first.cpu_user_s, last.cpu_user_s),
        cpu_system_s=_difference(first.cpu_system_s, last.cpu_system_s),
        cpu_s=_difference(first.cpu_total_s, last.cpu_total_s),
        memory_mean_bytes=float(np.mean(memory)) if memory else None,
        memory_peak_bytes=float(max(memory)) if memory else None,
        threads=max(threads) if threads else None,
        context_switches=None if switches is None else int(switches),
        throttled_s=_difference(first.throttled_s, last.throttled_s),
        steal_ratio=_steal_ratio(first, last, host_cores),
        steal_worst_10s_ratio=_worst_steal(series, host_cores),
    )


def _difference(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _steal_ratio(first: UsageSample, last: UsageSample, cores: float) -> float | None:
    """Return the share of all cores' time that the hypervisor took."""
    stolen_s = _difference(first.steal_s, last.steal_s)
    return None if stolen_s is None else stolen_s / ((last.at_s - first.at_s) * cores)


def _worst_steal(series: Sequence[UsageSample], cores: float) -> float | None:
    """Return the highest steal ratio over any stretch of 10 s (over the whole window when it is shorter)."""
    ratios = [ratio for pair in _stretches(series) if (ratio := _steal_ratio(*pair, cores)) is not None]
    return max(ratios, default=None)


def _stretches(series: Sequence[UsageSample]) -> Iterator[tuple[UsageSample, UsageSample]]:
    found = [
        (first, last)
        for first in series
        for last in series
        if abs(last.at_s - first.at_s - _STEAL_SPAN_S) <= PERIOD_S / 2
    ]
    yield from found or [(series[0], series[-1])]
