"""Latency over offered rate: where each arm still keeps up, and where it stops to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    MARGIN_STRIP,
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
from reports.readings.rate_curves import RateCurve, RateFamily, RatePoint
from reports.wording import count_range, level

TITLE = "How does latency grow with the rate?"
PANEL_IN = 2.1
SHARE_IN = 0.95
GAP_IN = 0.42
LEFT_IN = 0.85
LEGEND_COLUMNS = 3
LEGEND_ROW_IN = 0.24
MOST_ARMS = 10
NEAR_SATURATION = 0.7  # of the weakest arm's capacity (measurement.md 6)
NAMES = {"p50": "median latency (p50)", "p99": "tail latency (p99)"}
INVALID = "#b3261e"


def rate_latency_figure(family: RateFamily, styles: Mapping[str, ArmStyle], name: str) -> FigurePage:
    """Return p50, p99 and the share of requests answered over the offered rate, for the first MOST_ARMS arms."""
    curves = family.curves[:MOST_ARMS]
    return FigurePage(
        name=name,
        title=f"{TITLE} ({family.where})",
        alt=_alt(curves),
        rows=tuple(row for curve in family.curves for point in curve.points for row in _rows(curve, point)),
        draw=partial(_draw, family, curves, styles),
    )


def _rows(curve: RateCurve, point: RatePoint) -> list[Row]:
    rows: list[Row] = []
    for metric in NAMES:
        found = point.levels.get(metric)
        rows.append(
            {
                "arm": curve.arm,
                "offered_rps": point.rate_rps,
                "metric": metric,
                "latency_ms": None if found is None else found.middle_ms,
                "low_95_ms": None if found is None else found.low_ms,
                "high_95_ms": None if found is None else found.high_ms,
                "trials_valid": point.valid,
                "trials": point.trials,
                "seen_in_all_trials_ms": point.seen_ms.get(metric),
                "answered_ratio": point.answered_ratio,
                "errors_percent": point.errors_percent,
                "held": f"{point.passed} of {point.probed}",
            }
        )
    return rows


def _alt(curves: Sequence[RateCurve]) -> str:
    said = []
    for curve in curves:
        points = []
        for point in curve.points:
            p50, p99 = (point.levels.get(metric) for metric in NAMES)
            if p50 is None:
                points.append(f"at {point.rate_rps:g} rps no valid run")
            else:
                tail = f" and {level(p99.middle_ms, 'ms')}" if p99 else ""
                points.append(f"at {point.rate_rps:g} rps {level(p50.middle_ms, 'ms')}{tail}")
        said.append(f"{curve.arm}: {', '.join(points)}")
    return f"p50 and p99 of net response time by offered rate. {'; '.join(said)}."


def _draw(family: RateFamily, curves: Sequence[RateCurve], styles: Mapping[str, ArmStyle]) -> Figure:
    legend_rows = math.ceil((len(curves) + 1) / LEGEND_COLUMNS)
    bottom = 0.62 + 0.1 + LEGEND_ROW_IN * legend_rows
    total = HEAD_IN + 2 * PANEL_IN + SHARE_IN + 2 * GAP_IN + bottom + 0.15
    figure = new_figure(total)
    n = count_range(found.blocks for curve in curves for p in curve.points for found in p.levels.values())
    what = f"Net response time in ms: geometric mean of n = {n} blocks a point; bar: 95 % interval"
    put_title(figure, TITLE, what, family.where)
    y, width = bottom, WIDTH_IN - LEFT_IN - 0.2
    share = axes_at(figure, LEFT_IN, y, width, SHARE_IN)
    tail = axes_at(figure, LEFT_IN, y + SHARE_IN + GAP_IN, width, PANEL_IN)
    median = axes_at(figure, LEFT_IN, y + SHARE_IN + PANEL_IN + 2 * GAP_IN, width, PANEL_IN)
    for axes, metric in ((median, "p50"), (tail, "p99")):
        for at, curve in enumerate(curves):
            _line(axes, curve, metric, styles[curve.arm], _dodge(at, len(curves)))
        _latency_scale(axes)
        axes.set_title(NAMES[metric], loc="left", size=9.5, weight="bold", color=INK, pad=5)
    for at, curve in enumerate(curves):
        _answered(share, curve, styles[curve.arm], _dodge(at, len(curves)))
    share.set_title("requests answered, % of those offered", loc="left", size=9.5, weight="bold", color=INK, pad=5)
    share.set_xlabel("offered requests a second (rps)", size=8.5, color=FAINT)
    share.grid(axis="y", color=GRID, lw=0.8)
    _rates([share, tail, median], family, curves)
    _legend(figure, curves, styles, family, total)
    return figure


def _dodge(at: int, arms: int) -> float:
    """Return a factor on the rate that keeps the bars of arms at the same rate apart."""
    return math.pow(1.012, at - (arms - 1) / 2)


def _line(axes: Axes, curve: RateCurve, metric: str, style: ArmStyle, dodge: float) -> None:
    known = [(p.rate_rps * dodge, found) for p in curve.points if (found := p.levels.get(metric))]
    x, y = [rate for rate, _ in known], [found.middle_ms for _, found in known]
    axes.plot(x, y, color=style.colour, ls=style.dashes, marker=style.marker, ms=5, lw=1.6, zorder=3)
    bars = [(rate, f.low_ms, f.high_ms) for rate, f in known if f.low_ms is not None and f.high_ms is not None]
    axes.vlines(
        [r for r, _, _ in bars], [low for _, low, _ in bars], [h for _, _, h in bars], colors=style.colour, lw=2
    )
    for point in curve.points:
        seen = point.seen_ms.get(metric)
        if seen is not None and point.valid < point.trials:
            partly = point.levels.get(metric)
            height = partly.middle_ms if partly else seen
            axes.plot([point.rate_rps * dodge], [height], "x", ms=9, mew=1.8, color=INVALID, zorder=5)


def _answered(axes: Axes, curve: RateCurve, style: ArmStyle, dodge: float) -> None:
    known = [(p.rate_rps * dodge, 100 * p.answered_ratio) for p in curve.points if p.answered_ratio is not None]
    x, y = [rate for rate, _ in known], [share for _, share in known]
    axes.plot(x, y, color=style.colour, ls=style.dashes, marker=style.marker, ms=4, lw=1.4, zorder=3)


def _latency_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 1.5:
        low, high = low / 1.2, high * 1.2
    wanted = [round(f * 10.0**power, 6) for power in range(-3, 5) for f in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    inside = [t for t in wanted if low * 1.02 <= t <= high]
    room = math.log(high / low) / 8
    kept: list[float] = []
    for tick in inside:
        if not kept or math.log(tick / kept[-1]) >= room:
            kept.append(tick)
    inside = kept
    axes.yaxis.set_major_locator(FixedLocator(inside))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{t:g} ms" for t in inside])
    axes.set_ylim(low, high)
    axes.grid(axis="y", color=GRID, lw=0.8)


def _rates(panels: Sequence[Axes], family: RateFamily, curves: Sequence[RateCurve]) -> None:
    """Set the common scale of rates, and shade what lies beyond 70 % of the weakest arm's capacity."""
    rates = sorted({p.rate_rps for curve in curves for p in curve.points})
    logarithmic = rates[-1] / rates[0] >= 5
    span = math.log(rates[-1] / rates[0]) if logarithmic else rates[-1] - rates[0]
    air = 0.06 * span or 0.1 * rates[0]
    low = rates[0] * math.exp(-air) if logarithmic else rates[0] - air
    high = rates[-1] * math.exp(air) if logarithmic else rates[-1] + air
    kept: list[float] = []
    for rate in reversed(rates):
        distance = (math.log(kept[-1] / rate) if logarithmic else kept[-1] - rate) if kept else math.inf
        if distance >= span / 10:
            kept.append(rate)
    for at, axes in enumerate(panels):
        if logarithmic:
            axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(kept))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{rate:g}" for rate in kept] if at == 0 else [""] * len(kept))
        weakest = family.weakest_rps
        if weakest is not None and NEAR_SATURATION * weakest < high:
            axes.axvspan(max(NEAR_SATURATION * weakest, low), high, color=MARGIN_STRIP, lw=0, zorder=0)
        axes.set_xlim(low, high)


def _legend(
    figure: Figure, curves: Sequence[RateCurve], styles: Mapping[str, ArmStyle], family: RateFamily, total: float
) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=styles[c.arm].colour,
            ls=styles[c.arm].dashes,
            marker=styles[c.arm].marker,
            ms=5,
            label=label(c.arm, 30),
        )
        for c in curves
    ]
    if any(p.valid < p.trials for c in curves for p in c.points):
        handles.append(
            Line2D([], [], color=INVALID, ls="", marker="x", ms=8, mew=1.8, label="invalid or saturated trials")
        )
    legend_below(figure, handles, 0.24, LEGEND_COLUMNS)
    if family.weakest_rps is not None:
        shade = "shaded: may be over 70 % of the weakest arm's capacity; do not compare latencies there"
        figure.text(0.02, 0.10 / total, shade, size=8, color=FAINT, va="bottom")
