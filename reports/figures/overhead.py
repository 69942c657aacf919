"""What a mesh adds to latency against what it adds in CPU, with both intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.comparing.comparison import Comparison
from reports.comparing.questions import Scope
from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    WIDTH_IN,
    ArmStyle,
    FigurePage,
    Row,
    axes_at,
    legend_below,
    new_figure,
    put_title,
)
from reports.figures.names import label
from reports.wording import count_range, difference, difference_bounds, interval, level_name, signed

TITLE = "What does it add in latency, and what in CPU?"
PLOT_IN = 3.3
LEFT_IN = 0.85
LEGEND_COLUMNS = 3
LEGEND_ROW_IN = 0.24
MOST_ARMS = 16  # more dots than that hide each other


@dataclass(frozen=True, slots=True)
class Overhead:
    """One arm against no mesh: median latency and CPU of its data plane."""

    arm: str
    latency: Comparison
    cpu: Comparison


def overhead_figure(
    found: Sequence[Overhead], scope: Scope, styles: Mapping[str, ArmStyle], name: str
) -> FigurePage | None:
    """Return the scatter of one scope; None without an arm that has both numbers."""
    known = [o for o in found if o.latency.effect is not None and o.cpu.effect is not None][:MOST_ARMS]
    if not known:
        return None
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt="Added median latency and added CPU against no mesh. " + "; ".join(map(_said, known)) + ".",
        rows=tuple(map(_row, known)),
        draw=partial(_draw, known, scope, styles),
    )


def _said(o: Overhead) -> str:
    return (
        f"{o.arm}: {difference(o.latency)} {interval(o.latency)} median latency, {difference(o.cpu)} {interval(o.cpu)}"
    )


def _row(o: Overhead) -> Row:
    latency, cpu = _bounds(o.latency), _bounds(o.cpu)
    return {
        "arm": o.arm,
        "p50_difference_percent": latency[0],
        "p50_low_percent": latency[1],
        "p50_high_percent": latency[2],
        "data_plane_cores_per_1000_rps": cpu[0],
        "cores_low": cpu[1],
        "cores_high": cpu[2],
        "interval_level": 1 - o.latency.alpha,
        "blocks_latency": o.latency.n,
        "blocks_cpu": o.cpu.n,
    }


def _bounds(c: Comparison) -> tuple[float, float | None, float | None]:
    bounds = difference_bounds(c)
    if bounds is None:
        raise ValueError(f"{c.pair.label}: nothing was measured to draw")
    return bounds


def _draw(found: Sequence[Overhead], scope: Scope, styles: Mapping[str, ArmStyle]) -> Figure:
    rows = math.ceil(len(found) / LEGEND_COLUMNS)
    bottom = 0.68 + LEGEND_ROW_IN * rows
    total = HEAD_IN + 0.15 + PLOT_IN + bottom
    figure = new_figure(total)
    n = count_range(c.n for o in found for c in (o.latency, o.cpu))
    said = f"{level_name(found[0].latency.alpha)} intervals; n = {n} blocks"
    what = f"Difference to no mesh: p50 in %, proxies in cores per 1000 rps; {said}."
    put_title(figure, TITLE, what, f"{scope}. Towards the lower left costs less.")
    axes = axes_at(figure, LEFT_IN, bottom, WIDTH_IN - LEFT_IN - 0.25, PLOT_IN)
    for o in found:
        _cross(axes, o, styles[o.arm])
    axes.axhline(0, color=FAINT, lw=1, zorder=1)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0), high)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{signed(value, 0)} %")
    axes.grid(color=GRID, lw=0.8)
    axes.set_xlabel("CPU of the proxies, cores per 1000 rps", size=8.5, color=FAINT)
    axes.set_title("added to the median request (p50)", loc="left", size=9.5, weight="bold", color=INK, pad=5)
    handles = [
        Line2D(
            [],
            [],
            ls="",
            color=styles[o.arm].colour,
            marker=styles[o.arm].marker,
            ms=6,
            label=label(o.arm, 30),
        )
        for o in found
    ]
    legend_below(figure, handles, 0.08, LEGEND_COLUMNS, handletextpad=0.3)
    return figure


def _cross(axes: Axes, o: Overhead, style: ArmStyle) -> None:
    y, y_low, y_high = _bounds(o.latency)
    x, x_low, x_high = _bounds(o.cpu)
    if y_low is not None and y_high is not None:
        axes.vlines([x], [y_low], [y_high], colors=[style.colour], lw=2, zorder=3)
    if x_low is not None and x_high is not None:
        axes.hlines([y], [x_low], [x_high], colors=[style.colour], lw=2, zorder=3)
    axes.plot([x], [y], marker=style.marker, ms=6, color=style.colour, zorder=4)
