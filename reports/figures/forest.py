"""The forest plot: every verdict of one question as a difference with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.analysis import Answer
from reports.comparing.questions import Scope
from reports.comparing.result import Result
from reports.comparing.statistics import ALPHA, Interval
from reports.comparing.verdict import margin_on_scale
from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    MARGIN_STRIP,
    VERDICT_COLOURS,
    WIDTH_IN,
    FigurePage,
    Row,
    axes_at,
    new_figure,
    put_title,
    shortened,
)
from reports.wording import (
    NBSP,
    count_range,
    difference,
    difference_bounds,
    interval,
    level_name,
    percent_of_ln,
    signed,
    verdict_text,
)

ROW_IN = 0.40
LABEL_IN = 1.95
TEXT_IN = 1.95
PANEL_HEAD_IN = 0.30
PANEL_FOOT_IN = 0.36
FOOT_IN = 0.34
TICKS_PERCENT: tuple[int, ...] = (
    *(-90, -80, -60, -40, -30, -20, -10, -5, -3, -1, 0, 1, 3, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300),
    *(400, 600, 900, 1400, 1900, 2900, 4900, 9900),
)
MOST_TICKS = 6


def forest_plot(answer: Answer, scope: Scope, name: str) -> FigurePage:
    """Return the forest plot of one question in one scope: a panel per primary metric, a row per pair."""
    primary = [c for c in answer.comparisons if c.metric.primary and c.pair.scope == scope]
    title = f"{answer.question.title}: what differs, and how surely"
    return forest_of(primary, title, answer.question.against, scope, name)


def forest_of(primary: Sequence[Result], title: str, against: str, scope: Scope, name: str) -> FigurePage:
    """Return the forest plot of any results of one scope: a panel per metric, a row per pair.

    Args:
        against: what the differences are to, as in a sentence.
    """
    return FigurePage(
        name=name,
        title=f"{title} ({scope})",
        alt=_alt(primary, against),
        rows=tuple(_row(c) for c in primary),
        draw=partial(_draw, primary, title, scope, against),
    )


def _row(c: Result) -> Row:
    bounds = difference_bounds(c) or (None, None, None)
    wide = c.selected
    return {
        "arm": c.pair.label,
        "scope": str(c.pair.scope),
        "metric": c.metric.name,
        "difference_percent": bounds[0],
        "low_percent": bounds[1],
        "high_percent": bounds[2],
        "level": 1 - c.alpha,
        "low_selected_percent": None if wide is None else percent_of_ln(wide.low),
        "high_selected_percent": None if wide is None else percent_of_ln(wide.high),
        "blocks": c.n,
        "verdict": c.verdict.word if c.verdict else None,
        "flags": " ".join(c.verdict.flags) if c.verdict else None,
        "reason": c.verdict.reason if c.verdict else None,
    }


def _alt(primary: Sequence[Result], against: str) -> str:
    said = "; ".join(
        f"{c.pair.label} {c.metric.name} {difference(c)} {interval(c)} {c.verdict.word if c.verdict else ''}"
        for c in primary
    )
    return f"Differences against {against} with {_level(primary)} intervals. {said}."


def _level(results: Sequence[Result]) -> str:
    return level_name(min((c.alpha for c in results), default=ALPHA)).replace(NBSP, " ")


def _draw(primary: Sequence[Result], title: str, scope: Scope, against: str) -> Figure:
    panels: dict[str, list[Result]] = {}
    for comparison in primary:
        panels.setdefault(comparison.metric.name, []).append(comparison)
    heights = [ROW_IN * len(rows) for rows in panels.values()]
    total = HEAD_IN + sum(heights) + (PANEL_HEAD_IN + PANEL_FOOT_IN) * len(panels) + FOOT_IN
    figure = new_figure(total)
    n = f"n = {count_range(c.n for c in primary)}"
    put_title(figure, title, f"Difference to {against} in %, with {_level(primary)} interval; {n} blocks.", str(scope))
    top = total - HEAD_IN
    for rows, height in zip(panels.values(), heights, strict=True):
        top -= PANEL_HEAD_IN
        width = WIDTH_IN - LABEL_IN - TEXT_IN - 0.1
        axes = axes_at(figure, LABEL_IN, top - height, width, height)
        _panel(axes, rows)
        top -= height + PANEL_FOOT_IN
    legend = (
        f"grey strip: differences too small to matter   thick: {_level(primary)} interval   "
        "thin: wider, fit for picking"
    )
    figure.text(0.02, 0.12 / total, legend, size=7.5, color=FAINT, va="bottom")
    return figure


def _panel(axes: Axes, rows: Sequence[Result]) -> None:
    metric = rows[0].metric
    margin = rows[0].margin or margin_on_scale(metric, 0.0)
    low, high = _range(rows, margin)
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvspan(-margin, margin, color=MARGIN_STRIP, lw=0, zorder=0)
    axes.axvline(0, color=FAINT, lw=1, zorder=1)
    axes.set_title(metric.title, loc="left", size=9.5, weight="bold", color=INK, pad=5)
    ticks = _ticks(low, high)
    axes.set_xticks([math.log1p(t / 100) for t in ticks], [f"{signed(t, 0)} %" for t in ticks])
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_yticks([])
    _whiskers(axes, rows)
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "parse_math": False}
    for at, comparison in enumerate(rows):
        _words(axes, at, comparison, place)


def _whiskers(axes: Axes, rows: Sequence[Result]) -> None:
    """Draw all intervals at once, which is much faster than one by one, then the estimates."""
    spans = [(at, c.selected, _colour(c)) for at, c in enumerate(rows) if c.selected is not None]
    _bars(axes, spans, 1.0)
    _bars(axes, [(at, c.interval, _colour(c)) for at, c in enumerate(rows) if c.interval is not None], 3.5)
    known = [(at, c.effect.estimate, c) for at, c in enumerate(rows) if c.effect is not None]
    colours = [_colour(c) for _, _, c in known]
    faces = ["white" if _word(c) in {"invalid", "inconclusive"} else _colour(c) for _, _, c in known]
    x, y = [estimate for _, estimate, _ in known], [at for at, _, _ in known]
    axes.scatter(x, y, s=42, c=faces, edgecolors=colours, linewidths=1.6, zorder=4)


def _bars(axes: Axes, spans: Sequence[tuple[int, Interval, str]], width: float) -> None:
    y, low, high = [at for at, _, _ in spans], [s.low for _, s, _ in spans], [s.high for _, s, _ in spans]
    axes.hlines(y, low, high, colors=[colour for _, _, colour in spans], lw=width, zorder=3)


def _word(c: Result) -> str:
    return c.verdict.word if c.verdict else "invalid"


def _colour(c: Result) -> str:
    return VERDICT_COLOURS[_word(c)]


def _words(axes: Axes, at: int, c: Result, place: Mapping[str, Any]) -> None:
    """Write the arm's name to the left; to the right its verdict and, beneath, the numbers."""
    name = "\n".join(shortened(part, 28) for part in c.pair.label.replace(" vs ", "\nvs ").split("\n"))
    axes.text(-0.03, at, name, ha="right", size=8.5, color=INK, **place)
    axes.text(1.03, at - 0.2, verdict_text(c.verdict), size=8.5, weight="bold", color=_colour(c), **place)
    numbers = f"{difference(c)} {interval(c)}  n {c.n}" if c.effect else shortened(c.losses[0] if c.losses else "", 30)
    axes.text(1.03, at + 0.2, numbers, size=8, color=INK, **place)


def _range(rows: Sequence[Result], margin: float) -> tuple[float, float]:
    """Return limits that hold every whisker and the margin strip, with some air."""
    ends = [-margin * 1.5, margin * 1.5]
    for c in rows:
        for part in (c.interval, c.selected):
            ends += [part.low, part.high] if part else []
        ends += [c.effect.estimate] if c.effect else []
    air = 0.06 * (max(ends) - min(ends))
    return min(ends) - air, max(ends) + air


def _ticks(low: float, high: float) -> list[int]:
    """Return round percentages inside the limits, never two so close that their labels meet."""
    inside = [t for t in TICKS_PERCENT if low <= math.log1p(t / 100) <= high]
    room = (high - low) / MOST_TICKS
    kept = [0]
    for tick in sorted(inside, key=lambda t: (t % 10 != 0, abs(t))):
        if all(abs(math.log1p(tick / 100) - math.log1p(k / 100)) >= room for k in kept):
            kept.append(tick)
    return sorted(kept)
