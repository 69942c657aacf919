"""What every result has that is shown with an interval and a word, whichever way it was compared."""

from __future__ import annotations

from typing import Protocol

from reports.comparing.questions import Pair
from reports.comparing.statistics import Effect, Interval
from reports.comparing.verdict import Verdict
from reports.readings.metrics import Metric


class Result(Protocol):
    """A compared pair and metric: block by block in one run (``Comparison``), or across two (``AcrossResult``)."""

    @property
    def pair(self) -> Pair:
        """The two cells, and what the comparison is called."""

    @property
    def metric(self) -> Metric:
        """What was compared, on which scale."""

    @property
    def effect(self) -> Effect | None:
        """The estimate on the metric's scale; None without any block."""

    @property
    def interval(self) -> Interval | None:
        """The interval of 1 - alpha; None with a single block."""

    @property
    def selected(self) -> Interval | None:
        """The wider interval for results picked because they are significant."""

    @property
    def alpha(self) -> float:
        """Level of significance."""

    @property
    def margin(self) -> float | None:
        """The difference too small to matter, on the metric's scale; None for metrics without verdict."""

    @property
    def n(self) -> int:
        """Blocks the estimate stands on, on the side that has fewer."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Why blocks are missing."""

    @property
    def verdict(self) -> Verdict | None:
        """One word; None for secondary metrics."""
