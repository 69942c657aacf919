"""Telemetry: reads every component's counters at the window's edges and each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from meshgauge.errors import MeasurementError
from meshgauge.trial import UsageSample

PERIOD_S = 1.0
_SAME_INSTANT_S = 0.001  # the resolution of the timestamps counters come with

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
        self._newest_s: dict[tuple[str, str | None], float] = {}
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for offset_s in sampling_offsets_s(self._window):
                if self._stopped.wait(max(0.0, self._start + offset_s - time.monotonic())):
                    return
                self._samples.extend(self._inside(self._read()))
        except Exception as error:  # raised again in ``result``, on the caller's thread
            self._failure = error

    def _inside(self, samples: Sequence[UsageSample]) -> Iterator[UsageSample]:
        """Yield samples with ``at_s`` from the window's start on.

        Parts are counted when it suits whoever counts them: what was counted outside the window, or was read before,
        is no sample of the window. The rest was counted by us, at its edges and between.
        """
        for sample in samples:
            moved = replace(sample, at_s=sample.at_s - self._start)
            counted_elsewhere = moved.part is not None and moved.cpu_total_s is not None
            if not counted_elsewhere or (0.0 <= moved.at_s <= self._window and self._is_new(moved)):
                yield moved

    def _is_new(self, sample: UsageSample) -> bool:
        """Whether its counters are of another instant than those read last."""
        key = (sample.component, sample.part)
        before = self._newest_s.get(key)
        self._newest_s[key] = sample.at_s
        return before is None or sample.at_s - before > _SAME_INSTANT_S

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
