"""Levels of single arms, with their interval between runs: percentile curves and cost by component."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from meshgauge.histogram import Histogram
from meshgauge.matrix import Cell
from reports.readings.metrics import VERDICT_CLOCK, VERDICT_OUTCOME, component_cores, cores_per_krps, is_data_plane
from reports.readings.quantiles import quantiles_ms, reportable
from reports.readings.trials import MeasuredTrial, Readings

T = TypeVar("T")

# Even steps of -log10(1 - p), one decade each 20: half way up (p50) to p99.999.
NINES_STEP = 0.05
FIRST_NINES = -math.log10(0.5)
LAST_NINES = 5.0
SERVING_COMPONENTS = ("app", "data_plane/client", "data_plane/server", "data_plane/node", "control_plane")


@dataclass(frozen=True, slots=True)
class PercentileCurve:
    """Net response time by percentile over the blocks in which a cell has valid runs.

    Attributes:
        p: shape (points,), ends where a run has fewer than 100 requests above.
        middle_ms: geometric mean over blocks; low_ms, high_ms: its 95 % t interval between them, None for one.
    """

    cell: Cell
    blocks: int
    requests: int
    p: npt.NDArray[np.float64]
    middle_ms: npt.NDArray[np.float64]
    low_ms: npt.NDArray[np.float64] | None
    high_ms: npt.NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class CostStack:
    """Cores per 1000 rps of one cell: mean per component over blocks with valid runs, and the total with its interval.

    The total's interval is a plain t interval, so that the parts of the stack add up to what it belongs to.
    """

    cell: Cell
    blocks: int
    parts: Mapping[str, float]
    total: float
    low: float | None
    high: float | None


def percentile_curve(cell: Cell, readings: Readings) -> PercentileCurve | None:
    """Return the curve of a cell; None when no valid run has enough requests for its median."""
    blocks = _blocks(cell, readings, _latencies)
    totals = [histogram.total for histograms in blocks for histogram in histograms]
    fewest = min(totals, default=0)
    ps = np.array([p for p in _percentile_grid() if reportable(fewest, p)])
    if not ps.size:
        return None
    logs = np.array([np.log([quantiles_ms(h, tuple(ps)) for h in histograms]).mean(axis=0) for histograms in blocks])
    known = np.isfinite(logs).all(axis=0)
    ps, logs = ps[known], logs[:, known]
    middle, half = logs.mean(axis=0), _half_width(logs)
    return PercentileCurve(
        cell,
        len(blocks),
        sum(totals),
        ps,
        np.exp(middle),
        None if half is None else np.exp(middle - half),
        None if half is None else np.exp(middle + half),
    )


def cost_stack(cell: Cell, readings: Readings) -> CostStack | None:
    """Return what serving 1000 requests a second costs; None when no valid run measured a serving component."""
    runs = [_averaged(turns) for turns in _blocks(cell, readings, _serving_parts)]
    if not runs:
        return None
    totals = np.array([[sum(parts.values())] for parts in runs])
    mean, half = float(totals.mean()), _half_width(totals)
    summed: dict[str, float] = defaultdict(float)
    for parts in runs:
        for name, value in parts.items():
            summed[name] += value / len(runs)
    return CostStack(
        cell,
        len(runs),
        {name: summed[name] for name in SERVING_COMPONENTS if name in summed},
        mean,
        None if half is None else mean - float(half[0]),
        None if half is None else mean + float(half[0]),
    )


def _serving_parts(turn: MeasuredTrial) -> Mapping[str, float] | None:
    """Return cores per 1000 rps of app, proxies and control plane; None when one of them is unknown or spoiled."""
    load = turn.trial.load
    if load is None or "cpu" in turn.spoiled:
        return None
    found = {
        name: cores_per_krps(cores, load)
        for name, cores in component_cores(turn.trial).items()
        if name in SERVING_COMPONENTS
    }
    parts = {name: value for name, value in found.items() if value is not None}
    proxies = sum(is_data_plane(name) for name in parts)
    complete = len(parts) == len(found) and proxies == len(turn.cell.environment.mesh.hops)
    return parts if parts and complete else None


def _latencies(turn: MeasuredTrial) -> Histogram | None:
    if turn.trial.load is None or "latency" in turn.spoiled:
        return None
    return turn.trial.load.clock(VERDICT_CLOCK, VERDICT_OUTCOME)


def _averaged(turns: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the mean of a block's turns: the control's second turn adds no block, so no certainty."""
    return {name: math.fsum(parts.get(name, 0.0) for parts in turns) / len(turns) for parts in turns for name in parts}


def _blocks(cell: Cell, readings: Readings, read: Callable[[MeasuredTrial], T | None]) -> list[list[T]]:
    """Return what ``read`` gives for each turn of each block, without turns and blocks that give nothing."""
    per_block = (
        [value for turn in turns if (value := read(turn)) is not None]
        for _, turns in sorted(readings.blocks_of(cell).items())
    )
    return [values for values in per_block if values]


def _percentile_grid() -> Sequence[float]:
    """Return percentiles in even steps of nines; those people name (p90, p99 ...) lie on it exactly."""
    nines = [*np.arange(FIRST_NINES, 1, NINES_STEP), *np.arange(1, LAST_NINES + 1e-9, NINES_STEP)]
    return [round(1 - 10.0**-nine, 9) for nine in nines]


def _half_width(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Return the half width of the 95 % t interval of the mean along the first axis; None for a single run."""
    n = values.shape[0]
    if n < 2:
        return None
    half: npt.NDArray[np.float64] = stats.t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return half
