"""The trials of a run with their values, by cell and block; and why a block has none."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from meshgauge.errors import MeasurementError
from meshgauge.matrix import Cell
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.provenance import changed_environments
from reports.readings.metrics import (
    VERDICT_CLOCK,
    ClockLevels,
    Metric,
    Reading,
    clock_levels,
    degraded_kinds,
    read_trial,
    spoiled_kinds,
    usable,
)

TOO_FEW_REQUESTS = "fewer than 100 requests above it"


@dataclass(frozen=True)
class MeasuredTrial:
    """A trial with what was read from it.

    Attributes:
        host: where its environment ran; None when nobody recorded it.
    """

    trial: TrialRecord
    cell: Cell
    reading: Reading
    spoiled: frozenset[str]
    degraded: frozenset[str]
    host: str | None

    @cached_property
    def clocks(self) -> ClockLevels:
        """p50 and p99 of each clock, in ms. Read when first asked for: no verdict needs it, and it costs most."""
        verdicts = (self.reading["p50"], self.reading["p99"])
        return {**clock_levels(self.trial.load, other_than=VERDICT_CLOCK), VERDICT_CLOCK: verdicts}

    def value(self, metric: Metric) -> float | None:
        """Return the reading where it may enter a comparison."""
        return usable(self.reading[metric.name], metric, self.spoiled)


class Readings:
    """The trials of a run with their values, indexed by cell and block.

    Attributes:
        trials: all of them, in the run's order.
        changed: per environment key, what differed between its blocks; such environments get no verdict.
    """

    def __init__(self, run: RunRecord) -> None:
        cells = {cell.key: cell for cell in run.cells}
        hosts = {(e.key, e.block, e.replicate): e.host for e in sorted(run.environments, key=lambda e: e.attempt)}
        self.changed = changed_environments(run)
        self.trials: tuple[MeasuredTrial, ...] = tuple(
            MeasuredTrial(
                trial,
                cells[trial.cell],
                read_trial(trial, cells[trial.cell]),
                spoiled_kinds(trial),
                degraded_kinds(trial),
                hosts.get((cells[trial.cell].environment.key, trial.block, trial.replicate)),
            )
            for trial in run.trials
        )
        self._by_cell: dict[str, dict[int, list[MeasuredTrial]]] = defaultdict(lambda: defaultdict(list))
        for measured in self.trials:
            turns = self._by_cell[measured.cell.key][measured.trial.block]
            if any(other.trial.replicate == measured.trial.replicate for other in turns):
                raise MeasurementError(
                    f"cell {measured.cell.key} is counted twice in block {measured.trial.block}: "
                    "give the report one attempt of each trial"
                )
            turns.append(measured)

    def blocks_of(self, cell: Cell) -> Mapping[int, Sequence[MeasuredTrial]]:
        """Return the trials of a cell per block, replicates together."""
        return self._by_cell.get(cell.key, {})


def block_level(turns: Sequence[MeasuredTrial], metric: Metric) -> float | None:
    """Return a block's value on the metric's scale, the control's turns averaged; None without a valid one."""
    values = [value for turn in turns if (value := turn.value(metric)) is not None]
    if not values:
        return None
    on_scale = [math.log(value) for value in values] if metric.scale == "ratio" else values
    # One turn is the rule; means of a single value took a sixth of a whole analysis.
    return on_scale[0] if len(on_scale) == 1 else statistics.fmean(on_scale)


def mean_level(levels: Sequence[float], metric: Metric) -> float | None:
    """Return the mean of block values in the metric's unit, geometric for ratios; None without any."""
    if not levels:
        return None
    mean = statistics.fmean(levels)
    return math.exp(mean) if metric.scale == "ratio" else mean


def hosts_differ(arms: Iterable[MeasuredTrial], controls: Iterable[MeasuredTrial]) -> bool:
    """Return whether the two sides of a block are known to have run on different hosts."""
    return len({turn.host for turn in (*arms, *controls)} - {None}) > 1


class Losses:
    """Counts why blocks are missing from a comparison, for either side."""

    def __init__(self) -> None:
        self._causes: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, side: str, turns: Sequence[MeasuredTrial], metric: Metric) -> None:
        """Count the causes why one side has no value in a block."""
        self._causes[side].update(_causes(turns[-1], metric) if turns else ("not measured",))

    def add_block(self, cause: str) -> None:
        """Count a block lost for a cause that is neither side's own."""
        self._causes["both sides"][cause] += 1

    def told(self) -> tuple[str, ...]:
        """Return a phrase for each side, its commonest cause first."""
        return tuple(
            f"{side}: " + ", ".join(f"{cause} {count}x" for cause, count in causes.most_common())
            for side, causes in self._causes.items()
        )


def _causes(turn: MeasuredTrial, metric: Metric) -> Iterable[str]:
    trial = turn.trial
    if trial.state in {"pending", "running"}:
        return ("not measured yet",)
    if trial.load is None or trial.state not in {"measured", "invalid"}:
        return (trial.reason or f"trial {trial.state}",)
    failed = [gate.gate for gate in trial.gates if gate.status == "invalid" and metric.spoiled_by in gate.spoils]
    if failed:
        return [name.replace("_", " ") for name in dict.fromkeys(failed)]
    if metric.spoiled_by in turn.spoiled:
        return (trial.reason or "trial invalid",)
    return (TOO_FEW_REQUESTS if metric.spoiled_by == "latency" else "not measured",)
