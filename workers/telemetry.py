"""Telemetry: reads every component's counters at the window's edges and each second, and reduces them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from meshgauge.errors import MeasurementError
from meshgauge.trial import ComponentUsage, UsageSample

PERIOD_S = 1.0
_STEAL_SPAN_S = 10.0

Read = Callable[[], Sequence[UsageSample]]


class Sampler:
    """Samples in a thread of its own, from the window's start to its end.

    The same window for latency and for resources (measurement.md 2): the first and the last sample are
    taken at its edges.
    """

    def __init__(self, read: Read, start_monotonic_s: float, window_s: float) -> None:
        self._read = read
        self._start = start_monotonic_s
        self._window = window_s
        self._samples: list[UsageSample] = []
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for offset_s in sampling_offsets_s(self._window):
                if self._stopped.wait(max(0.0, self._start + offset_s - time.monotonic())):
                    return
                self._samples.extend(replace(s, at_s=s.at_s - self._start) for s in self._read())
        except Exception as error:  # raised again in ``result``, on the caller's thread
            self._failure = error

    def stop(self) -> None:
        """Give up: nothing more is read."""
        self._stopped.set()
        self._thread.join()

    def result(self) -> tuple[UsageSample, ...]:
        """Wait for the last sample and return all, ``at_s`` counted from the window's start.

        Raises:
            MeasurementError: a counter could not be read.
        """
        self._thread.join()
        if self._failure is not None:
            raise MeasurementError(f"telemetry could not be read: {self._failure}") from self._failure
        return tuple(self._samples)


def sampling_offsets_s(window_s: float) -> tuple[float, ...]:
    """Return when to sample, in seconds after the window's start: its edges, and each second between."""
    inner = np.arange(0.0, window_s - PERIOD_S / 2, PERIOD_S)
    return (*map(float, inner), window_s)


def reduce_usage(samples: Sequence[UsageSample], host_cores: int) -> tuple[ComponentUsage, ...]:
    """Return what each component used between its first and its last sample.

    Raises:
        MeasurementError: a component has a single sample.
    """
    by_component: dict[str, list[UsageSample]] = {}
    for sample in samples:
        by_component.setdefault(sample.component, []).append(sample)
    return tuple(_reduced(component, series, host_cores) for component, series in by_component.items())


def _reduced(component: str, series: Sequence[UsageSample], host_cores: int) -> ComponentUsage:
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
        cpu_user_s=last.cpu_user_s - first.cpu_user_s,
        cpu_system_s=last.cpu_system_s - first.cpu_system_s,
        memory_mean_bytes=float(np.mean(memory)) if memory else None,
        memory_peak_bytes=float(max(memory)) if memory else None,
        threads=max(threads) if threads else None,
        context_switches=None if switches is None else int(switches),
        steal_ratio=_steal_ratio(first, last, host_cores),
        steal_worst_10s_ratio=_worst_steal(series, host_cores),
    )


def _difference(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def _steal_ratio(first: UsageSample, last: UsageSample, cores: int) -> float | None:
    """Return the share of all cores' time that the hypervisor took."""
    stolen_s = _difference(first.steal_s, last.steal_s)
    return None if stolen_s is None else stolen_s / ((last.at_s - first.at_s) * cores)


def _worst_steal(series: Sequence[UsageSample], cores: int) -> float | None:
    """Return the highest steal ratio over any stretch of 10 s (over the whole window when it is shorter)."""
    stretches = [
        (first, last)
        for first in series
        for last in series
        if abs(last.at_s - first.at_s - _STEAL_SPAN_S) <= PERIOD_S / 2
    ] or [(series[0], series[-1])]
    ratios = [ratio for pair in stretches if (ratio := _steal_ratio(*pair, cores)) is not None]
    return max(ratios, default=None)
