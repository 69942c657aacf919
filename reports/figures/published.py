"""Arms of a run above what others published at the same rate and connections: told apart by place, shape and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from reports.exchange.published import LABEL
from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    WIDTH_IN,
    FigurePage,
    Row,
    axes_at,
    new_figure,
    put_title,
    shortened,
)
from reports.wording import count_range, level

TITLE = "Where do these results stand beside published ones?"
ROW_IN = 0.27
GROUP_IN = 0.34
LABEL_IN = 2.25
FOOT_IN = 0.72
GAP_IN = 0.18
LOG_FROM_RATIO = 20.0  # largest over smallest level from which a linear axis hides the small ones
PANELS: Mapping[str, tuple[str, str]] = {
    "p50": ("median latency", "ms"),
    "p99": ("p99 latency", "ms"),
    "cpu_data_plane": ("CPU of proxies", "cores per 1000 rps"),
}


@dataclass(frozen=True, slots=True)
class OwnLevel:
    """One metric of one arm of ours: mean over runs, and its 95 % interval between runs; None for a single run."""

    value: float
    low: float | None
    high: float | None
    runs: int


@dataclass(frozen=True, slots=True)
class OwnArm:
    """An arm of the run with its levels by metric; what was not measured is absent."""

    name: str
    colour: str
    levels: Mapping[str, OwnLevel]


@dataclass(frozen=True, slots=True)
class TheirArm:
    """An arm somebody published, with every single measurement by metric."""

    series: str
    name: str
    values: Mapping[str, tuple[float, ...]]


def published_figure(ours: Sequence[OwnArm], theirs: Sequence[TheirArm], scope: str, name: str) -> FigurePage:
    """Return our arms above theirs, a panel a metric. ``scope`` says rate and connections, the same for both."""
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt=_alt(ours, theirs),
        rows=tuple(_rows(ours, theirs)),
        draw=partial(_draw, tuple(ours), tuple(theirs), scope),
    )


def _rows(ours: Sequence[OwnArm], theirs: Sequence[TheirArm]) -> list[Row]:
    rows: list[Row] = []
    for arm in ours:
        for metric, told in arm.levels.items():
            rows.append(_row("measured here", "", arm.name, metric, told.value, told.low, told.high, told.runs))
    for other in theirs:
        for metric, values in other.values.items():
            rows += [_row(LABEL, other.series, other.name, metric, value, None, None, 1) for value in values]
    return rows


def _row(
    origin: str, series: str, arm: str, metric: str, value: float, low: float | None, high: float | None, runs: int
) -> Row:
    return {
        "origin": origin,
        "series": series,
        "arm": arm,
        "metric": metric,
        "unit": PANELS[metric][1],
        "value": value,
        "low_95": low,
        "high_95": high,
        "runs": runs,
    }


def _alt(ours: Sequence[OwnArm], theirs: Sequence[TheirArm]) -> str:
    def told(metric: str, text: str) -> str:
        return f"{PANELS[metric][0]} {text} {PANELS[metric][1]}"

    here = [
        f"{arm.name}: " + ", ".join(told(metric, level(one.value)) for metric, one in arm.levels.items())
        for arm in ours
    ]  # fmt: skip
    there = [
        f"{arm.name} ({arm.series}): "
        + ", ".join(told(metric, " and ".join(map(level, values))) for metric, values in arm.values.items())
        for arm in theirs
    ]
    return f"Measured here: {'; '.join(here)}. {LABEL.capitalize()}: {'; '.join(there)}."


def _draw(ours: Sequence[OwnArm], theirs: Sequence[TheirArm], scope: str) -> Figure:
    metrics = [name for name in PANELS if any(name in arm.levels for arm in ours)]
    plot = ROW_IN * (len(ours) + len(theirs)) + 2 * GROUP_IN
    height = HEAD_IN + 0.1 + plot + FOOT_IN
    figure = new_figure(height)
    what = f"Filled: our mean with 95 % interval{_of_runs(ours)}. Hollow: single values others published."
    put_title(figure, TITLE, what, scope)
    width = (WIDTH_IN - LABEL_IN - 0.15 - GAP_IN * (len(metrics) - 1)) / len(metrics)
    for at, metric in enumerate(metrics):
        axes = axes_at(figure, LABEL_IN + at * (width + GAP_IN), FOOT_IN, width, plot)
        _panel(axes, metric, ours, theirs, is_first=at == 0)
    return figure


def _of_runs(ours: Sequence[OwnArm]) -> str:
    return f", n = {count_range(one.runs for arm in ours for one in arm.levels.values())}"


def _places(ours: Sequence[OwnArm], theirs: Sequence[TheirArm]) -> tuple[list[float], list[float], float]:
    """Return the height of each row in inches from the top, and of the line between the two groups."""
    mine = [GROUP_IN + ROW_IN * (at + 0.5) for at in range(len(ours))]
    border = GROUP_IN + ROW_IN * len(ours)
    others = [border + GROUP_IN + ROW_IN * (at + 0.5) for at in range(len(theirs))]
    return mine, others, border


def _panel(axes: Axes, metric: str, ours: Sequence[OwnArm], theirs: Sequence[TheirArm], *, is_first: bool) -> None:
    mine, others, border = _places(ours, theirs)
    axes.set_ylim(border + GROUP_IN + ROW_IN * len(theirs), 0)
    axes.set_yticks([])
    title, unit = PANELS[metric]
    axes.set_xlabel(f"{title}\n{unit}", size=8.5, color=FAINT)
    levels = [arm.levels[metric].value for arm in ours if metric in arm.levels]
    levels += [value for arm in theirs for value in arm.values.get(metric, ())]
    _scale(axes, levels)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.axhline(border, color=FAINT, lw=0.8, ls=(0, (4, 3)))
    for at, arm in zip(mine, ours, strict=True):
        _own(axes, at, arm.levels.get(metric), arm.colour)
    for at, other in zip(others, theirs, strict=True):
        values = other.values.get(metric, ())
        axes.scatter(
            values, [at] * len(values), s=26, marker="D", c="none", edgecolors=[FAINT], linewidths=1.3, zorder=3
        )
    if is_first:
        _names(axes, ours, theirs)


def _own(axes: Axes, at: float, told: OwnLevel | None, colour: str) -> None:
    if told is None:
        return
    if told.low is not None and told.high is not None:
        axes.plot([told.low, told.high], [at, at], color=colour, lw=2.4, zorder=3)
    axes.scatter([told.value], [at], s=36, c=[colour], zorder=4)


def _scale(axes: Axes, levels: Sequence[float]) -> None:
    positive = [value for value in levels if value > 0]
    if positive and max(positive) / min(positive) > LOG_FROM_RATIO and len(positive) == len(levels):
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 1.4, max(positive) * 1.4)
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        most = max(positive, default=1.0)
        axes.set_xlim(-0.03 * most, 1.08 * most)  # room for a whole sign at 0
        axes.xaxis.set_major_locator(MaxNLocator(4))


def _names(axes: Axes, ours: Sequence[OwnArm], theirs: Sequence[TheirArm]) -> None:
    mine, others, border = _places(ours, theirs)
    place = axes.get_yaxis_transform()
    left = -LABEL_IN / (axes.get_position().width * WIDTH_IN) * 0.97
    series = list(dict.fromkeys(other.series for other in theirs))
    whose = f"{LABEL.capitalize()}: {shortened(', '.join(series), 60)}"
    heads = ((GROUP_IN * 0.62, "Measured here"), (border + GROUP_IN * 0.62, whose))
    for at, head in heads:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        bold: dict[str, Any] = {"size": 8.5, "weight": "bold", "color": INK, "parse_math": False, "bbox": box}
        axes.text(left, at, head, transform=place, va="center", zorder=6, **bold)
    listed = [(at, arm.name, INK) for at, arm in zip(mine, ours, strict=True)]
    for at, other in zip(others, theirs, strict=True):
        listed.append((at, other.name if len(series) == 1 else f"{other.series}: {other.name}", FAINT))
    for at, name, colour in listed:
        text = shortened(name, 36)
        axes.text(-0.06, at, text, transform=place, ha="right", va="center", size=8, color=colour, parse_math=False)
