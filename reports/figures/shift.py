"""Shift plot: the difference by percentile with its simultaneous band, and both distributions beside it."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from reports.comparing.questions import arm_name
from reports.figures.canvas import (
    CONTROL,
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
from reports.figures.names import fitted, label
from reports.readings.shifts import Shift
from reports.wording import level_name, percent_of_ln, signed

TITLE = "Which requests get slower?"
PLOT_IN = 2.9
LEFT_IN = 0.8
RIGHT_IN = 2.0
FOOT_IN = 0.95
NAMED = {0.05: "p5", 0.25: "p25", 0.5: "p50", 0.75: "p75", 0.9: "p90", 0.95: "p95", 0.99: "p99", 0.999: "p99.9"}


def shift_figure(shift: Shift, against: str, style: ArmStyle, name: str) -> FigurePage:
    """Return the shift plot of one pair."""
    pair = shift.comparison.pair
    return FigurePage(
        name=name,
        title=f"{TITLE} {pair.label} ({pair.scope})",
        alt=_alt(shift, against),
        rows=rows_of(shift),
        draw=partial(_draw, shift, against, style),
    )


def rows_of(shift: Shift) -> tuple[Row, ...]:
    """Return a row for each percentile, in per cent and ms."""
    pointwise, band = shift.pointwise, shift.band
    return tuple(
        {
            "percentile": round(100 * float(p), 4),
            "difference_percent": percent_of_ln(float(middle)),
            "low_simultaneous_percent": None if band is None else percent_of_ln(float(middle - band[at])),
            "high_simultaneous_percent": None if band is None else percent_of_ln(float(middle + band[at])),
            "low_pointwise_percent": None if pointwise is None else percent_of_ln(float(middle - pointwise[at])),
            "high_pointwise_percent": None if pointwise is None else percent_of_ln(float(middle + pointwise[at])),
            "arm_ms": float(shift.arm_ms[at]),
            "control_ms": float(shift.control_ms[at]),
            "interval_level": 1 - shift.comparison.alpha,
            "blocks": shift.blocks,
        }
        for at, (p, middle) in enumerate(zip(shift.p, shift.middle, strict=True))
    )


def _alt(shift: Shift, against: str) -> str:
    said = [
        f"{NAMED[round(float(p), 4)]} {signed(percent_of_ln(float(middle)), 1)} %"
        for p, middle in zip(shift.p, shift.middle, strict=True)
        if round(float(p), 4) in NAMED
    ]
    return f"Difference of {shift.comparison.pair.label} to {against} by percentile: {', '.join(said)}."


def _draw(shift: Shift, against: str, style: ArmStyle) -> Figure:
    total = HEAD_IN + 0.25 + PLOT_IN + FOOT_IN
    figure = new_figure(total)
    pair, said = shift.comparison.pair, level_name(shift.comparison.alpha)
    what = f"Difference to {against} in %, by percentile of net response time; {said} bands; n = {shift.blocks} blocks."
    put_title(figure, f"{TITLE} {fitted(pair.label, 40)}", what, str(pair.scope))
    width = WIDTH_IN - LEFT_IN - RIGHT_IN - 0.95
    _differences(axes_at(figure, LEFT_IN, FOOT_IN, width, PLOT_IN), shift, style)
    _distributions(axes_at(figure, LEFT_IN + width + 0.7, FOOT_IN, RIGHT_IN, PLOT_IN), shift, style)
    handles: list[Line2D | Patch] = []
    if shift.band is not None:
        handles.append(Patch(color=style.colour, alpha=0.25, label="holds for all percentiles at once"))
    if shift.pointwise is not None:
        handles.append(Line2D([], [], color=style.colour, ls="--", lw=1.2, label="for a single percentile"))
    handles.append(Line2D([], [], color=style.colour, lw=1.8, label=_plain(arm_name(pair.cell))))
    handles.append(Line2D([], [], color=CONTROL, lw=1.8, label=_plain(arm_name(pair.control))))
    legend_below(figure, handles, 0.06, 2)
    return figure


def _plain(name: str) -> str:
    return label(name, 36)


def _differences(axes: Axes, shift: Shift, style: ArmStyle) -> None:
    x = -np.log10(1 - shift.p)
    percent = 100 * np.expm1(shift.middle)
    if shift.band is not None:
        beneath, above = 100 * np.expm1(shift.middle - shift.band), 100 * np.expm1(shift.middle + shift.band)
        axes.fill_between(x, beneath, above, color=style.colour, alpha=0.25, lw=0)
    if shift.pointwise is not None:
        for side in (-1, 1):
            edge = 100 * np.expm1(shift.middle + side * shift.pointwise)
            axes.plot(x, edge, color=style.colour, ls="--", lw=1.0)
    axes.plot(x, percent, color=style.colour, lw=1.8, marker=style.marker, ms=4)
    axes.axhline(0, color=FAINT, lw=1.2, zorder=1)
    named = {p: label for p, label in NAMED.items() if p in {0.05, 0.5, 0.9, 0.99, 0.999} and p <= shift.p[-1] + 1e-9}
    axes.set_xticks([float(-np.log10(1 - p)) for p in named], list(named.values()))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(lambda value, _: f"{signed(value, 0 if high - low > 8 else 1)} %")
    axes.grid(color=GRID, lw=0.8)
    axes.set_title("difference", loc="left", size=9.5, weight="bold", color=INK, pad=5)
    axes.set_xlabel("percentile of requests", size=8.5, color=FAINT)


def _distributions(axes: Axes, shift: Shift, style: ArmStyle) -> None:
    axes.plot(shift.control_ms, 100 * shift.p, color=CONTROL, lw=1.8)
    axes.plot(shift.arm_ms, 100 * shift.p, color=style.colour, lw=1.8)
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    low, high = axes.get_xlim()
    wanted = [round(f * 10.0**power, 6) for power in range(-3, 5) for f in (1, 1.5, 2, 3, 5, 7)]
    kept: list[float] = []
    room = np.log(high / low) / 4
    for tick in (t for t in wanted if low <= t <= high):
        if not kept or np.log(tick / kept[-1]) >= room:
            kept.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{t:g}" for t in kept])
    axes.set_xlim(low, high)
    axes.grid(color=GRID, lw=0.8)
    axes.set_title("requests answered within", loc="left", size=9.5, weight="bold", color=INK, pad=5)
    axes.set_xlabel("net response time, ms", size=8.5, color=FAINT)
