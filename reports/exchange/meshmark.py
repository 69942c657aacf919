"""MeshMark as its authors define it, as far as they do; what they leave open is said beside every number.

Sources: smp-spec.io/meshmark (service-mesh-performance/service-mesh-performance, docs/_includes/meshmark.html and
the images mark-formula.png and mue-description.png there):

    MeshMark = ( sum over classes of [ sum of MUE_i x weight_i ] / number of MUEs ) / number of utilisation classes
    MUE_1    = CPU performance left / total CPU performance = 1 - CPU utilisation (%) / 100

It is a reading for those who ask for it. No verdict is ever made of it, here or elsewhere.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from meshgauge.matrix import Cell
from reports.analysis import Analysis
from reports.provenance import cores_of, host_facts
from reports.readings.metrics import component_cores
from reports.readings.trials import MeasuredTrial

VERSION = 1

GAPS: Mapping[str, str] = {
    "classes": "The definition names no utilisation classes. Assumed: one class, compute, with CPU and memory.",
    "mues": "Only the CPU's MUE is written out; memory and bandwidth are mentioned. Assumed: memory alike, as memory "
    "left / memory there is; bandwidth is left out, it is not measured.",
    "weights": "Weights lie in -50 % .. +50 %, and nobody says who sets them. Taken literally as a factor, the best "
    "score is 50. Assumed: they raise or lower an MUE, and are 0 % here, so each counts as it is.",
    "scale": "How the sum becomes 0..100 is not said. Assumed: times 100.",
    "direction": "The text calls 1 the best value and lets throughput rise as MUE falls, so an idle host is best and "
    "the score falls with any use. It says nothing of latency, errors or what was done with the CPU.",
    "machine": "Utilisation is of the whole host: application and load generator are in it beside the mesh, so "
    "scores of different hosts, rates or loads cannot be compared.",
}
SUM_REMARK = (
    "The definition also draws MUE = 1 + MUE_1 + ... + MUE_n -> 1.0; with MUEs between 0 and 1 that sum is never "
    "below 1, so it is not formed here."
)


@dataclass(frozen=True, slots=True)
class MeshMark:
    """The score of one cell.

    Attributes:
        score: 0..100; None where no MUE could be formed.
        mue: per resource, mean over trials of the share left unused, 0..1; absent where it was not measured.
        trials: valid trials each MUE is the mean of.
        literal_best_score: what the formula gives with the largest weight (+50 %) as a plain factor.
        gaps: what the definition leaves open, and what is assumed.
    """

    cell: str
    score: float | None
    mue: Mapping[str, float]
    trials: Mapping[str, int]
    literal_best_score: float | None
    gaps: Mapping[str, str]


def meshmarks(analysis: Analysis) -> tuple[MeshMark, ...]:
    """Return the MeshMark of every cell, in the run's order."""
    facts = host_facts(analysis.run)
    return tuple(_meshmark(cell, analysis, facts) for cell in analysis.run.cells)


def meshmark_document(analysis: Analysis) -> dict[str, Any]:
    """Return the scores of a run as JSON, with definition and gaps."""
    return {
        "format": "meshgauge-meshmark",
        "version": VERSION,
        "run_id": analysis.run.run_id,
        "definition": "https://smp-spec.io/meshmark",
        "remark": "A reading, not a verdict: no comparison or ranking of ours uses it.",
        "about_the_sum": SUM_REMARK,
        "cells": [asdict(mark) for mark in meshmarks(analysis)],
    }


def score_of(mues: Sequence[float], weight: float = 0.0) -> float | None:
    """Return 100 x the mean of MUE x (1 + weight) in the one class there is; None without any.

    Args:
        mues: shares left unused, 0..1.
        weight: -0.5..0.5, the same for all.
    """
    if not -0.5 <= weight <= 0.5:
        raise ValueError(f"a weight lies in -0.5..0.5, not {weight}")
    return 100 * statistics.fmean(mues) * (1 + weight) if mues else None


def _meshmark(cell: Cell, analysis: Analysis, facts: Mapping[str, Mapping[str, Any]]) -> MeshMark:
    turns = [turn for turns in analysis.readings.blocks_of(cell).values() for turn in turns]
    read = {"cpu": [_cpu_left(turn, facts) for turn in turns], "memory": [_memory_left(turn, facts) for turn in turns]}
    known = {name: [value for value in values if value is not None] for name, values in read.items()}
    mue = {name: statistics.fmean(values) for name, values in known.items() if values}
    score = score_of(list(mue.values()))
    return MeshMark(
        cell=cell.key,
        score=score,
        mue=mue,
        trials={name: len(values) for name, values in known.items()},
        literal_best_score=None if score is None else score * 0.5,
        gaps=GAPS,
    )


def _cpu_left(turn: MeasuredTrial, facts: Mapping[str, Mapping[str, Any]]) -> float | None:
    there = cores_of(facts.get(turn.host or "", {}))
    used = component_cores(turn.trial).get("host")
    if used is None or not there or "cpu" in turn.spoiled:
        return None
    return max(0.0, 1 - used / there)


def _memory_left(turn: MeasuredTrial, facts: Mapping[str, Mapping[str, Any]]) -> float | None:
    there = facts.get(turn.host or "", {}).get("memory_bytes")
    used = next((usage.memory_mean_bytes for usage in turn.trial.usage if usage.component == "host"), None)
    if used is None or not there or "memory" in turn.spoiled:
        return None
    return max(0.0, 1 - used / float(there))
