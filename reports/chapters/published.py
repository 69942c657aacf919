"""A run beside what others published: for the order of magnitude, labelled on every line, without a verdict."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from scipy import stats

from meshgauge.matrix import Cell as MatrixCell
from meshgauge.plan import Load
from reports.analysis import Analysis
from reports.chapters.asking import cells_by_scope
from reports.comparing.questions import arm_name
from reports.exchange.published import LABEL, PublishedPoint, PublishedSeries
from reports.figures.canvas import arm_styles
from reports.figures.gallery import file_stem
from reports.figures.published import PANELS, OwnArm, OwnLevel, TheirArm, published_figure
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Listing, Part, Picture, Text
from reports.readings.metrics import METRIC_OF
from reports.readings.trials import Readings, block_level
from reports.wording import ABSENT, level

SLUG = "published"
MOST_ROWS = 14  # published arms in a figure
COLUMNS = (
    "published, not measured here", "arm", "offered [rps]", "connections", "p50 [ms]", "p90 [ms]", "p99 [ms]",
    "CPU of proxies [cores per 1000 rps]", "memory of proxies [MiB]", "errors [%]",
)  # fmt: skip
NUMERIC = frozenset(range(2, len(COLUMNS)))
_WARNING = (
    f"Whatever is marked “{LABEL}” comes from other machines, other applications and other load generators. "
    "Levels may be held against it for their order of magnitude; a difference to it says nothing about a mesh. "
    "It enters no comparison, no verdict and no threshold.",
)


def published_chapter(analysis: Analysis, series: Sequence[PublishedSeries]) -> Chapter | None:
    """Return a run's arms beside published ones of equal rate and connections; None where nothing was imported."""
    if not series:
        return None
    parts: list[Part] = [Text(_WARNING, "warning")]
    drawn = 0
    by_scope = cells_by_scope(analysis.run.cells)
    for scope, cells in by_scope.items():
        found = _scope_parts(
            analysis, cells, series, str(scope), file_stem("published", "levels", scope, list(by_scope))
        )
        drawn += bool(found)
        parts += found
    if not drawn:
        loads = ", ".join(dict.fromkeys(cell.load.label for cell in analysis.run.cells))
        parts.append(
            Text((f"No published measurement has the rate and the connections of a load of this run ({loads}).",))
        )
    parts += [Heading("Where it comes from", "sources"), Listing(tuple(_sources(series)))]
    parts.append(_table(series))
    return Chapter(SLUG, "Beside published results", _answer(series, drawn), tuple(parts))


def _answer(series: Sequence[PublishedSeries], drawn: int) -> str:
    count = sum(len(one.points) for one in series)
    names = ", ".join(one.name for one in series)
    where = (
        "those of the same rate and connections are drawn beside this run"
        if drawn
        else "none of them has the rate and connections of this run"
    )
    return f"{count} measurements of {names} are {LABEL}: {where}, for the order of magnitude and without a verdict."


def _scope_parts(
    analysis: Analysis, cells: Sequence[MatrixCell], series: Sequence[PublishedSeries], heading: str, stem: str
) -> list[Part]:
    load = cells[0].load
    theirs = _their_arms(load, series)
    styles = arm_styles(analysis.run)
    ours = [
        OwnArm(arm_name(cell), styles[arm_name(cell)].colour, levels)
        for cell in cells
        if (levels := _own_levels(cell, analysis.readings))
    ]
    if not theirs or not ours:
        return []
    shown = f"{load.rate_rps:g} rps over {load.connections} connections, here and there"
    parts: list[Part] = [Heading(heading, stem)]
    parts.append(Picture(published_figure(ours, theirs[:MOST_ROWS], shown, stem)))
    if len(theirs) > MOST_ROWS:
        parts.append(
            Text((f"{MOST_ROWS} of {len(theirs)} published arms are drawn; the table below holds all of them.",))
        )
    return parts


def _their_arms(load: Load, series: Sequence[PublishedSeries]) -> list[TheirArm]:
    """Return the published arms of a load's rate and connections, measurements of the same arm together."""
    if load.rate_rps is None:
        return []
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in series:
        for point in one.points:
            if point.connections == load.connections and _is_rate(point, load.rate_rps):
                for metric, value in _values(point):
                    values[one.name, point.arm][metric].append(value)
    return [
        TheirArm(name, arm, {metric: tuple(found) for metric, found in by_metric.items()})
        for (name, arm), by_metric in sorted(values.items())
    ]


def _is_rate(point: PublishedPoint, rate_rps: float) -> bool:
    return point.rate_rps is not None and math.isclose(point.rate_rps, rate_rps, rel_tol=1e-6)


def _values(point: PublishedPoint) -> Iterable[tuple[str, float]]:
    told = {"p50": point.p50_ms, "p99": point.p99_ms, "cpu_data_plane": point.cpu_data_plane}
    return ((metric, value) for metric, value in told.items() if value is not None)


def _own_levels(cell: MatrixCell, readings: Readings) -> Mapping[str, OwnLevel]:
    found = {metric: _own_level(cell, metric, readings) for metric in PANELS}
    return {metric: told for metric, told in found.items() if told is not None}


def _own_level(cell: MatrixCell, name: str, readings: Readings) -> OwnLevel | None:
    """Return the mean over blocks, geometric for ratios, with its 95 % t interval between runs."""
    metric = METRIC_OF[name]
    values = [
        value for turns in readings.blocks_of(cell).values() if (value := block_level(turns, metric)) is not None
    ]  # fmt: skip
    if not values:
        return None
    shown = math.exp if metric.scale == "ratio" else float
    mean = statistics.fmean(values)
    if len(values) < 2:
        return OwnLevel(shown(mean), None, None, 1)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return OwnLevel(shown(mean), shown(mean - half), shown(mean + half), len(values))


def _sources(series: Sequence[PublishedSeries]) -> Iterable[tuple[str, str]]:
    for one in series:
        yield one.name, f"{one.source}; {len(one.points)} measurements, read as {one.importer}."
        yield from ((f"{one.name}, to be known", caveat) for caveat in one.caveats)


def _table(series: Sequence[PublishedSeries]) -> Grid:
    rows = tuple(
        (
            Cell(one.name),
            Cell(point.arm),
            Cell("as fast as it goes" if point.rate_rps is None else f"{point.rate_rps:g}"),
            Cell(ABSENT if point.connections is None else str(point.connections)),
            *(
                Cell(level(value))
                for value in (
                    point.p50_ms,
                    point.p90_ms,
                    point.p99_ms,
                    point.cpu_data_plane,
                    point.memory_data_plane_mib,
                    point.errors_percent,
                )
            ),
        )
        for one in series
        for point in one.points
    )
    return Grid("published", f"All measurements, {LABEL}", COLUMNS, rows, NUMERIC, folded=True)
