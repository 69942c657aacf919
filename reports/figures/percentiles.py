"""Percentile curves: the whole latency distribution of each arm, with its spread between blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from reports.comparing.questions import Scope, arm_name
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
    new_figure,
    put_title,
    shortened,
)
from reports.readings.levels import PercentileCurve
from reports.wording import count_range, level

NAMED = {0.5: "p50", 0.9: "p90", 0.99: "p99", 0.999: "p99.9", 0.9999: "p99.99", 0.99999: "p99.999"}
PLOT_HEIGHT_IN = 3.6
LEGEND_ROW_IN = 0.24
LEGEND_COLUMNS = 3
TITLE = "How slow are the slow requests?"


def percentile_figure(
    curves: Sequence[PercentileCurve], scope: Scope, styles: Mapping[str, ArmStyle], name: str
) -> FigurePage:
    """Return the percentile curves of all arms of one scope."""
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt=_alt(curves),
        rows=tuple(row for curve in curves for row in _rows(curve)),
        draw=partial(_draw, curves, scope, styles),
    )


def _rows(curve: PercentileCurve) -> list[Row]:
    return [
        {
            "arm": arm_name(curve.cell),
            "percentile": round(100 * float(p), 7),
            "latency_ms": float(curve.middle_ms[at]),
            "low_95_ms": None if curve.low_ms is None else float(curve.low_ms[at]),
            "high_95_ms": None if curve.high_ms is None else float(curve.high_ms[at]),
            "blocks": curve.blocks,
            "requests": curve.requests,
        }
        for at, p in enumerate(curve.p)
    ]


def _alt(curves: Sequence[PercentileCurve]) -> str:
    def said(curve: PercentileCurve) -> str:
        values = [
            f"{label} {level(float(curve.middle_ms[at]), 'ms')}"
            for p, label in NAMED.items()
            for at in np.flatnonzero(np.isclose(curve.p, p, atol=1e-9))
        ]
        return f"{arm_name(curve.cell)}: {', '.join(values)}"

    return f"Net response time by percentile. {'; '.join(map(said, curves))}."


def _draw(curves: Sequence[PercentileCurve], scope: Scope, styles: Mapping[str, ArmStyle]) -> Figure:
    legend_rows = math.ceil(len(curves) / LEGEND_COLUMNS)
    bottom = 0.72 + LEGEND_ROW_IN * legend_rows
    height = HEAD_IN + PLOT_HEIGHT_IN + bottom
    figure = new_figure(height)
    n = count_range(curve.blocks for curve in curves)
    requests = sum(curve.requests for curve in curves)
    what = f"Net response time in ms: geometric mean of n = {n} blocks an arm, band 95 %; {requests:,} requests"
    put_title(figure, TITLE, what, str(scope))
    axes = axes_at(figure, 0.72, bottom, WIDTH_IN - 0.95, PLOT_HEIGHT_IN)
    for at, curve in enumerate(curves):
        # The control comes first in the legend and lies on top, where equal arms would hide it.
        _curve(axes, curve, styles[arm_name(curve.cell)], zorder=3 - at / len(curves))
    _scales(axes, curves)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.5 / PLOT_HEIGHT_IN),
        ncols=LEGEND_COLUMNS,
        fontsize=8.5,
        labelcolor=INK,
        frameon=False,
        borderaxespad=0,
        handlelength=2.4,
    )
    return figure


def _curve(axes: Axes, curve: PercentileCurve, style: ArmStyle, zorder: float) -> None:
    x = -np.log10(1 - curve.p)
    if curve.low_ms is not None and curve.high_ms is not None:
        axes.fill_between(x, curve.low_ms, curve.high_ms, color=style.colour, alpha=0.18, lw=0)
    label = shortened(arm_name(curve.cell), 30).replace("$", r"\$")
    axes.plot(x, curve.middle_ms, color=style.colour, ls=style.dashes, lw=1.8, label=label, zorder=zorder)


def _scales(axes: Axes, curves: Sequence[PercentileCurve]) -> None:
    last = max(float(curve.p[-1]) for curve in curves)
    named = {p: label for p, label in NAMED.items() if p <= last + 1e-9}
    axes.set_xticks([-math.log10(1 - p) for p in named], list(named.values()))
    axes.set_xlim(-math.log10(0.5), max(-math.log10(1 - last), -math.log10(0.1)))
    axes.set_xlabel("percentile: 1 request in 10, 100, 1000 ... is slower", size=8.5, color=FAINT)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [t for t in _nice_levels() if low * 1.03 <= t <= high]  # none in the corner of both axes
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{t:g} ms" for t in ticks])
    axes.set_ylim(low, high)
    axes.grid(color=GRID, lw=0.8)


def _nice_levels() -> list[float]:
    return [round(factor * 10.0**power, 6) for power in range(-3, 5) for factor in (1, 1.5, 2, 3, 5, 7)]
