"""Counters of the pure-Python engine: its thread only appends, the reader counts in bulk."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from meshgauge.histogram import BUCKETS, MAX_VALUE_NS, bucket_index
from meshgauge.trial import CLOCKS, OUTCOMES, Clock
from workers.load.engine.contract import BATCHES, Schedule
from workers.load.engine.readings import CELLS, NS_PER_S, SECOND_STRIDE, Array, Arrays, second_count

_T = TypeVar("_T")

OK = OUTCOMES.index("ok")
_COLUMNS = _OFFERED, _SENT, _DONE, _ERRORS, _DROPPED = tuple(range(5))  # of a second's row


class Passage(NamedTuple):
    """The instants of one ended request, ns. free_since: when its connection could have taken it."""

    intended_ns: int
    free_since_ns: int
    sent_ns: int
    ended_ns: int
    outcome: int


@dataclass(slots=True)
class Stats:
    """The Python twin of struct mg_stats."""

    state: int = 0
    failure_errno: int = 0
    thread_id: int = 0
    fifo_applied: int = 0
    connections_open: int = 0
    connections_opened: int = 0
    connect_failures: int = 0
    connect_errno: int = 0
    requests_total: int = 0
    replies_total: int = 0
    errors_total: int = 0
    offered: int = 0
    sent: int = 0
    done: int = 0
    dropped: int = 0
    waited: int = 0
    backlog_peak: int = 0
    edges_passed: int = 0
    run_delay_start_ns: int = 0
    run_delay_end_ns: int = 0
    run_delay_known: int = 0
    outcomes: list[int] = field(default_factory=lambda: [0] * len(OUTCOMES))


def _buckets(values_ns: Array) -> Array:
    index = bucket_index(np.minimum(values_ns, MAX_VALUE_NS))
    return np.where(values_ns > MAX_VALUE_NS, BUCKETS, index)


def _add(counters: Array, cells: Array) -> None:
    """Add one to each of ``cells`` (flat indices, repeats allowed) of a contiguous array."""
    np.add.at(counters.reshape(-1), cells, 1)


class Tally:
    """Takes events from the engine thread (``append`` is atomic) and folds them into counters when read."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.histograms: Array = np.zeros((len(OUTCOMES), len(CLOCKS), CELLS), dtype=np.int64)
        self.live: Array = np.zeros(CELLS, dtype=np.int64)
        self.arrays: Arrays | None = None
        self._window_ns = (0, 0)
        self.offered: deque[int] = deque()
        self.sent: deque[tuple[int, int]] = deque()  # intended, connection free since
        self.dropped: deque[int] = deque()
        self.ended: deque[Passage] = deque()

    def begin(self, schedule: Schedule) -> Arrays:
        """Make room for a window."""
        self._window_ns = (schedule.window_start_ns, schedule.window_end_ns)
        n = second_count(schedule.window_end_ns - schedule.window_start_ns)
        self.arrays = Arrays(
            batches=np.zeros((BATCHES, CELLS), dtype=np.uint32),
            seconds=np.zeros((n, len(_COLUMNS)), dtype=np.int64),
            second_counts=np.zeros((n, SECOND_STRIDE), dtype=np.uint32),
            edges=np.zeros(n + 1, dtype=np.int64),
        )
        return self.arrays

    def fold(self) -> None:
        """Count what the engine thread has appended. Only one thread may read."""
        self._fold_ended()
        if self.arrays is None:
            return
        stats, arrays = self.stats, self.arrays
        stats.dropped += self._count(_drained(self.dropped), arrays, _DROPPED)
        sent = np.array(_drained(self.sent), dtype=np.int64).reshape(-1, 2)
        stats.sent += self._count(sent[:, 0], arrays, _SENT)
        stats.waited += int((self._inside(sent[:, 0]) & (sent[:, 1] > sent[:, 0])).sum())
        stats.offered += self._count(_drained(self.offered), arrays, _OFFERED)

    def _inside(self, intended_ns: Array) -> Array:
        inside: Array = (intended_ns >= self._window_ns[0]) & (intended_ns < self._window_ns[1])
        return inside

    def _count(self, intended_ns: list[int] | Array, arrays: Arrays, column: int) -> int:
        """Add arrivals of the window to their seconds; return how many there were."""
        intended = np.asarray(intended_ns, dtype=np.int64)
        seconds = (intended[self._inside(intended)] - self._window_ns[0]) // NS_PER_S
        _add(arrays.seconds, seconds * len(_COLUMNS) + column)
        return int(seconds.size)

    def _fold_ended(self) -> None:
        rows = np.array(_drained(self.ended), dtype=np.int64).reshape(-1, len(Passage._fields))
        if not rows.size:
            return
        intended, free_since, sent, ended, outcome = rows.T
        lag = np.maximum(sent - np.maximum(intended, free_since), 0)
        values: dict[Clock, Array] = {
            "response": ended - intended,
            "service": ended - sent,
            "lag": lag,
            "net": ended - intended - lag,
        }
        ok = outcome == OK
        self.stats.replies_total += len(rows)
        self.stats.errors_total += int((~ok).sum())
        net = _buckets(values["net"])
        _add(self.live, net[ok])
        inside = self._inside(intended)
        if self.arrays is None or not inside.any():
            return
        for i, clock in enumerate(CLOCKS):
            _add(self.histograms, (outcome[inside] * len(CLOCKS) + i) * CELLS + _buckets(values[clock][inside]))
        self._fold_window(self.arrays, intended[inside], outcome[inside], net[inside])

    def _fold_window(self, arrays: Arrays, intended: Array, outcome: Array, net: Array) -> None:
        into_window = intended - self._window_ns[0]
        ok = outcome == OK
        second = into_window // NS_PER_S
        batch = into_window * BATCHES // (self._window_ns[1] - self._window_ns[0])
        _add(arrays.batches, batch[ok] * CELLS + net[ok])
        _add(arrays.second_counts, second[ok] * SECOND_STRIDE + net[ok])
        _add(arrays.seconds, second[~ok] * len(_COLUMNS) + _ERRORS)
        _add(arrays.seconds, second * len(_COLUMNS) + _DONE)
        for i, count in enumerate(np.bincount(outcome, minlength=len(OUTCOMES))):
            self.stats.outcomes[i] += int(count)
        self.stats.done += len(intended)


def _drained(queue: deque[_T]) -> list[_T]:
    return [queue.popleft() for _ in range(len(queue))]
