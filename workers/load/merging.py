"""Merges what load workers measured into one LoadResult; exact, because histograms add."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from meshgauge.errors import MeasurementError
from meshgauge.histogram import Histogram
from meshgauge.trial import Clock, LoadResult, Outcome, SecondRow, WorkerHealth
from workers.load.engine.contract import SecondTally
from workers.load.messages import WorkerResult
from workers.load.order import LoadOrder

_P99_REQUESTS = 100  # below, a second's p99 is its slowest request


def _quantile_us(histogram: Histogram, p: float, at_least: int = 1) -> float | None:
    if histogram.total < at_least:
        return None
    value_ns = histogram.quantile_ns(p)
    return None if value_ns is None else value_ns / 1e3


def second_row(parts: Sequence[SecondTally]) -> SecondRow:
    """Merge the same second of all workers. The CPU ratio is the busiest engine thread's."""
    net_ok = Histogram.merged(part.net_ok for part in parts)
    cpu_ratios = [part.engine_cpu_ratio for part in parts if part.engine_cpu_ratio is not None]
    return SecondRow(
        second=parts[0].second,
        offered=sum(part.offered for part in parts),
        sent=sum(part.sent for part in parts),
        done=sum(part.done for part in parts),
        errors=sum(part.errors for part in parts),
        p50_us=_quantile_us(net_ok, 0.50),
        p99_us=_quantile_us(net_ok, 0.99, _P99_REQUESTS),
        engine_cpu_ratio=max(cpu_ratios, default=None),
    )


class SecondsMerger:
    """Collects seconds as workers finish them and keeps only rows, so that long windows stay small."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._parts: dict[int, list[SecondTally]] = {}
        self._rows: dict[int, SecondRow] = {}

    def add(self, seconds: Iterable[SecondTally]) -> None:
        """Take seconds of one worker."""
        for second in seconds:
            parts = self._parts.setdefault(second.second, [])
            parts.append(second)
            if len(parts) == self._workers:
                self._rows[second.second] = second_row(self._parts.pop(second.second))

    def rows(self) -> tuple[SecondRow, ...]:
        """Return all rows in order.

        Raises:
            MeasurementError: a worker has not delivered a second.
        """
        if self._parts or sorted(self._rows) != list(range(len(self._rows))):
            missing = min(self._parts, default=len(self._rows))
            raise MeasurementError(f"second {missing} of the window is missing from a load worker")
        return tuple(self._rows[second] for second in sorted(self._rows))


def _scheduling(order: LoadOrder, results: Sequence[WorkerResult]) -> str:
    if order.fifo_priority is None:
        return "normal"
    if all(result.fifo_applied for result in results):
        return f"fifo:{order.fifo_priority}"
    return f"normal (fifo:{order.fifo_priority} was refused)"


def _merged_histograms(results: Sequence[WorkerResult]) -> dict[tuple[Outcome, Clock], Histogram]:
    keys = dict.fromkeys(key for result in results for key in result.histograms)
    return {
        key: Histogram.merged(result.histograms[key] for result in results if key in result.histograms) for key in keys
    }


def _summed_outcomes(results: Sequence[WorkerResult]) -> Mapping[Outcome, int]:
    outcomes: Counter[Outcome] = Counter()
    for result in results:
        outcomes.update(result.outcomes)
    return dict(outcomes)


def merged(
    order: LoadOrder,
    results: Sequence[WorkerResult],
    seconds: tuple[SecondRow, ...],
    window_start: dt.datetime,
    locust_version: str,
    resolution_ns: int,
) -> LoadResult:
    """Return the trial's load result.

    ``backlog_peak`` is the sum of the workers' peaks: an upper bound of what waited at one instant.

    Raises:
        MeasurementError: workers ran different engines.
    """
    kinds = {(result.engine, result.engine_abi) for result in results}
    if len(kinds) != 1:
        raise MeasurementError(f"load workers ran different engines: {sorted(map(str, kinds))}")
    engine, abi = kinds.pop()
    batches = zip(*(result.batches for result in results), strict=True)
    return LoadResult(
        engine=engine,
        engine_abi=abi,
        locust_version=locust_version,
        resolution_ns=resolution_ns,
        window_start=window_start,
        window_s=order.window_s,
        offered=sum(result.offered for result in results),
        sent=sum(result.sent for result in results),
        done=sum(result.done for result in results),
        dropped=sum(result.dropped for result in results),
        waited=sum(result.waited for result in results),
        backlog_peak=sum(result.backlog_peak for result in results),
        connections_opened=sum(result.connections_opened for result in results),
        outcomes=_summed_outcomes(results),
        histograms=_merged_histograms(results),
        seconds=seconds,
        batch_p50_us=tuple(_quantile_us(Histogram.merged(parts), 0.50) for parts in batches),
        workers=tuple(
            WorkerHealth(result.worker, result.engine, result.engine_cpu_ratio, result.run_delay_ratio)
            for result in results
        ),
        requests_total=sum(result.requests_total for result in results),
        scheduling=_scheduling(order, results),
    )
