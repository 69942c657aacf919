"""Levels of memory and of whole-host CPU of single arms, with their interval between blocks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from meshgauge.matrix import Cell
from reports.readings.levels import SERVING_COMPONENTS
from reports.readings.metrics import METRIC_OF, MIB, is_data_plane
from reports.readings.trials import MeasuredTrial, Readings, block_level


@dataclass(frozen=True, slots=True)
class Mean:
    """Arithmetic mean over blocks with its 95 % t interval between them; no interval for a single block."""

    blocks: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class MemoryStack:
    """Resident memory of one cell in MiB: mean over the window and over valid blocks, per component and in total.

    Attributes:
        peak: the highest total of component peaks in any trial; None where one component has none.
    """

    cell: Cell
    parts: Mapping[str, float]
    total: Mean
    peak: float | None

    @property
    def data_plane(self) -> float:
        """The proxies' part, MiB."""
        return sum(value for name, value in self.parts.items() if is_data_plane(name))


def memory_stack(cell: Cell, readings: Readings) -> MemoryStack | None:
    """Return what the parts of a cell hold; None when no valid trial measured all of them."""
    blocks: list[Mapping[str, float]] = []
    peaks: list[float | None] = []
    for _, turns in sorted(readings.blocks_of(cell).items()):
        known = [parts for turn in turns if (parts := _parts(turn))]
        if known:  # the control's second turn is no block of its own
            blocks.append({name: statistics.fmean(parts[name] for parts in known) for name in known[0]})
            peaks += [_peak(turn) for turn in turns if _parts(turn)]
    if not blocks:
        return None
    highest = [peak for peak in peaks if peak is not None]
    return MemoryStack(
        cell,
        {name: statistics.fmean(b[name] for b in blocks) for name in SERVING_COMPONENTS if name in blocks[0]},
        mean_of([sum(parts.values()) for parts in blocks]),
        max(highest) if len(highest) == len(peaks) else None,
    )


def host_cpu(cell: Cell, readings: Readings) -> Mean | None:
    """Return cores per 1000 rps of the whole host, load generator included; None where it was not measured."""
    metric = METRIC_OF["cpu_host"]
    levels = [block_level(turns, metric) for _, turns in sorted(readings.blocks_of(cell).items())]
    values = [math.exp(value) for value in levels if value is not None]
    return mean_of(values) if values else None


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of one or more values with its 95 % t interval."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Mean(n, mean, None, None)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Mean(n, mean, mean - half, mean + half)


def _parts(turn: MeasuredTrial) -> Mapping[str, float]:
    """Return MiB per serving component; empty when one of them is unknown or memory is spoiled."""
    if turn.trial.load is None or "memory" in turn.spoiled:
        return {}
    found = {u.component: u.memory_mean_bytes for u in turn.trial.usage if u.component in SERVING_COMPONENTS}
    parts = {name: value / MIB for name, value in found.items() if value is not None}
    proxies = sum(is_data_plane(name) for name in parts)
    return parts if len(parts) == len(found) and proxies == len(turn.cell.environment.mesh.hops) else {}


def _peak(turn: MeasuredTrial) -> float | None:
    peaks = [u.memory_peak_bytes for u in turn.trial.usage if u.component in SERVING_COMPONENTS]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) / MIB if known and len(known) == len(peaks) else None
