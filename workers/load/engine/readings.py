"""Turns an engine's counters into results; the memory layout is tally.c's for both engines."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgauge.errors import MeasurementError
from meshgauge.histogram import BUCKETS, Histogram
from meshgauge.trial import CLOCKS, OUTCOMES
from workers.load.engine.contract import ENGINE_STATES, Counts, Schedule, SecondTally, WindowTally

CELLS = BUCKETS + 1  # the last cell counts overflow
SECOND_STRIDE = 28_672  # cells of 4 bytes: whole memory pages, so that a finished second can be handed back
NS_PER_S = 1_000_000_000

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Arrays:
    """What exists once the schedule is given.

    Attributes:
        batches: shape (12, CELLS). seconds: shape (n, 5): offered, sent, done, errors, dropped.
        second_counts: shape (n, SECOND_STRIDE). edges: shape (n + 1,), engine thread CPU ns at the start of each
            second and at the window's end.
    """

    batches: Array
    seconds: Array
    second_counts: Array
    edges: Array


def second_count(window_ns: int) -> int:
    """Return how many seconds a window has; the last may be shorter."""
    return -(-window_ns // NS_PER_S)


def histogram_of(cells: Array) -> Histogram:
    """Copy one histogram out of the counters: shape (CELLS,), overflow last."""
    copied = cells[:CELLS].astype(np.int64)
    return Histogram(copied[:BUCKETS], int(copied[BUCKETS]))


def counts_of(stats: Any) -> Counts:
    """Return ``stats`` (a C struct or its Python twin) as Counts."""
    failure, connect = int(stats.failure_errno), int(stats.connect_errno)
    return Counts(
        state=ENGINE_STATES[stats.state],
        failure=os.strerror(failure) if failure else None,
        thread_id=int(stats.thread_id),
        fifo_applied=bool(stats.fifo_applied),
        connections_open=int(stats.connections_open),
        connections_opened=int(stats.connections_opened),
        connect_failures=int(stats.connect_failures),
        connect_error=os.strerror(connect) if connect else None,
        requests_total=int(stats.requests_total),
        replies_total=int(stats.replies_total),
        errors_total=int(stats.errors_total),
        offered=int(stats.offered),
        sent=int(stats.sent),
        done=int(stats.done),
        dropped=int(stats.dropped),
        waited=int(stats.waited),
        backlog_peak=int(stats.backlog_peak),
    )


class SecondsReader:
    """Gives out each second of the window once, when nothing can change it any more."""

    def __init__(self, arrays: Arrays, schedule: Schedule, release: Callable[[int], None]) -> None:
        self._arrays = arrays
        self._window_ns = schedule.window_end_ns - schedule.window_start_ns
        # A closed loop learns of an arrival when its connect failed: any second may still get one.
        self._only_when_finished = schedule.kind == "closed"
        self._release = release
        self._next = 0

    def take(self, edges_passed: int, *, finished: bool) -> list[SecondTally]:
        """Return the seconds that finished since the last call, in order."""
        taken = []
        while self._next < len(self._arrays.seconds) and self._is_complete(edges_passed, finished=finished):
            taken.append(self._read(self._next))
            self._release(self._next)
            self._next += 1
        return taken

    def _is_complete(self, edges_passed: int, *, finished: bool) -> bool:
        if finished or self._only_when_finished:
            return finished
        offered, _, done, _, dropped = (int(n) for n in self._arrays.seconds[self._next])
        return edges_passed > self._next + 1 and offered == done + dropped

    def _read(self, second: int) -> SecondTally:
        offered, sent, done, errors, _ = (int(n) for n in self._arrays.seconds[second])
        length_ns = min(NS_PER_S, self._window_ns - second * NS_PER_S)
        cpu_ns = int(self._arrays.edges[second + 1]) - int(self._arrays.edges[second])
        net_ok = histogram_of(self._arrays.second_counts[second])
        return SecondTally(second, offered, sent, done, errors, net_ok, cpu_ns / length_ns)


def window_of(stats: Any, histograms: Array, arrays: Arrays, window_ns: int) -> WindowTally:
    """Return the window's tally from final counters.

    Args:
        histograms: shape (outcomes, clocks, CELLS).
    """
    state = ENGINE_STATES[stats.state]
    if state != "finished":
        raise MeasurementError(f"the load engine has no result: it is {state}, not finished")
    outcomes = {name: int(stats.outcomes[i]) for i, name in enumerate(OUTCOMES) if stats.outcomes[i]}
    found = {
        (outcome, clock): histogram_of(histograms[OUTCOMES.index(outcome), j])
        for outcome in outcomes
        for j, clock in enumerate(CLOCKS)
    }
    delay_ns = int(stats.run_delay_end_ns) - int(stats.run_delay_start_ns)
    return WindowTally(
        outcomes=outcomes,
        histograms=found,
        batches=tuple(histogram_of(cells) for cells in arrays.batches),
        engine_cpu_ratio=(int(arrays.edges[-1]) - int(arrays.edges[0])) / window_ns,
        run_delay_ratio=delay_ns / window_ns if stats.run_delay_known == 2 else None,
    )
