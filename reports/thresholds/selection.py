"""What each threshold of a plan is held against: cells for levels, pairs of cells for worsenings."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshgauge.errors import InvalidPlanError, Problem
from meshgauge.matrix import Cell, is_baseline
from meshgauge.plan import Rule, Threshold
from meshgauge.run import RunRecord
from reports.comparing.questions import Pair, questions_of, same_thing
from reports.readings.metrics import METRIC_OF, Metric
from reports.thresholds.outcome import Bound

HOW_TO_WRITE = (
    "the plan has no thresholds, so there is nothing to hold the run against; write for example\n"
    "  thresholds:\n"
    "    - {metric: p99, at_most: 5}                     # ms, of every cell but the baseline's\n"
    "    - {metric: p50, worse_by_at_most: 3, against: release}   # per cent, newest release against the older ones"
)
# Without a mesh these are 0 by construction, and no per cent can be taken of nothing.
_OF_PROXIES = ("cpu_data_plane", "cpu_control_plane", "memory_data_plane")


@dataclass(frozen=True, slots=True)
class Held:
    """One threshold and the cell it is held against; ``pair`` for worsenings, None for levels."""

    threshold: Threshold
    index: int
    cell: Cell
    pair: Pair | None

    @property
    def metric(self) -> Metric:
        """The metric it bounds."""
        return METRIC_OF[self.threshold.metric]


def held_in(run: RunRecord) -> tuple[Held, ...]:
    """Return every threshold of the run's plan with each cell or pair it selects, in the plan's order.

    A threshold on a level selects every cell but those of the baseline (and of the A/A arm), unless ``where`` names
    others. One on a worsening selects every pair of its question whose arm ``where`` names; by default all of them.

    Raises:
        InvalidPlanError: no thresholds, one that selects nothing, or a worsening in per cent of nothing. Only a
            threshold that was really held may pass.
    """
    plan = run.plan
    if not plan.thresholds:
        raise InvalidPlanError([Problem("thresholds", HOW_TO_WRITE)])
    pairs: Mapping[str, tuple[Pair, ...]] = {question.key: question.pairs for question in questions_of(run)}
    held: list[Held] = []
    problems: list[Problem] = []
    for index, threshold in enumerate(plan.thresholds):
        path = f"thresholds[{index}]"
        if threshold.worse_by_at_most is None:
            found = [Held(threshold, index, cell, None) for cell in selected_cells(run, threshold.where)]
        else:
            chosen = [p for p in pairs.get(threshold.against, ()) if _matches(threshold.where, p.cell)]
            found = [Held(threshold, index, pair.cell, pair) for pair in chosen]
            if (
                found
                and threshold.metric in _OF_PROXIES
                and any(is_baseline(p.control.environment.mesh) for p in chosen)
            ):
                problems.append(Problem(f"{path}.against", _nothing_to_compare(threshold)))
        if not found:
            problems.append(Problem(path, _selects_nothing(run, threshold)))
        held += found
    if problems:
        raise InvalidPlanError(problems)
    return tuple(held)


def name_of(threshold: Threshold) -> str:
    """Return the threshold's name, or one made of what it says."""
    if threshold.name:
        return threshold.name
    bound, limit = bound_of(threshold)
    metric = METRIC_OF[threshold.metric]
    if bound != "worse_by_at_most":
        return f"{threshold.metric} {bound.replace('_', ' ')} {limit:g} {metric.unit}"
    unit = metric.unit if threshold.metric == "errors" else "%"
    other = {"baseline": "the baseline", "release": "the older release", "application": "the older application"}
    return f"{threshold.metric} at most {limit:g} {unit} worse than {other[threshold.against]}"


def bound_of(threshold: Threshold) -> tuple[Bound, float]:
    """Return which bound it is, and its limit in the unit the plan is written in."""
    if threshold.at_most is not None:
        return "at_most", threshold.at_most
    if threshold.at_least is not None:
        return "at_least", threshold.at_least
    if threshold.worse_by_at_most is None:
        raise ValueError("a threshold without a bound")  # meshgauge.plan refuses it
    return "worse_by_at_most", threshold.worse_by_at_most


def selected_cells(run: RunRecord, where: Rule | None) -> Iterator[Cell]:
    """Yield the cells a threshold speaks of; without ``where`` all but the baseline's."""
    baseline = next((arm for arm in run.arms if arm.label == run.plan.baseline), None)
    for cell in run.cells:
        is_control = baseline is not None and same_thing(cell.environment.mesh, baseline)
        if _matches(where, cell) and not (where is None and is_control):
            yield cell


def _matches(where: Rule | None, cell: Cell) -> bool:
    if where is None:
        return True
    environment = cell.environment
    labels = {
        "mesh": environment.mesh.label,
        "profile": environment.profile.name,
        "workload": environment.workload.label,
        "infrastructure": environment.infrastructure.name,
        "load": cell.load.label,
    }
    return all(fnmatch.fnmatchcase(labels[name], pattern) for name, pattern in where if pattern is not None)


def _selects_nothing(run: RunRecord, threshold: Threshold) -> str:
    meshes = ", ".join(dict.fromkeys(cell.environment.mesh.label for cell in run.cells))
    if threshold.worse_by_at_most is None:
        return (
            f"selects no cell; correct where (meshes of this run: {meshes}; the baseline only counts when it is named)"
        )
    needed = {
        "baseline": f"a mesh beside the baseline {run.plan.baseline!r} under the same workload and load",
        "release": "two versions of one mesh under the same profile, workload and load",
        "application": "a workload with two commands",
    }[threshold.against]
    return (
        f"selects no comparison against the {threshold.against}, which needs {needed}; "
        f"correct where or against (meshes of this run: {meshes})"
    )


def _nothing_to_compare(threshold: Threshold) -> str:
    return (
        f"without a mesh there are no proxies, so {threshold.metric} cannot be worse by per cent of it; "
        "bound its level with at_most, compare against: release, or use metric: cpu"
    )
