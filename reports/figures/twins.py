"""A/A panel: what comes out when a thing is compared with itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.comparing.comparison import Comparison
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
)
from reports.figures.names import fitted
from reports.wording import count_range, difference, interval, level_name, percent_of_ln, signed

TITLE = "The same thing measured twice"
ROW_IN = 0.27
LABEL_IN = 2.75
TEXT_IN = 1.65
MOST_ROWS = 40
INSIDE = "#007a58"
OUTSIDE = "#b34700"


def twins_figure(found: Sequence[Comparison], name: str) -> FigurePage | None:
    """Return all A/A intervals of primary metrics; None where none could be computed."""
    known = [c for c in found if c.metric.primary and c.effect is not None and c.interval is not None]
    if not known:
        return None
    outside = sum(excludes_zero(c) for c in known)
    return FigurePage(
        name=name,
        title=TITLE,
        alt=f"{outside} of {len(known)} intervals of a thing compared with itself do not hold zero. "
        + "; ".join(f"{c.pair.label} {c.metric.name} {difference(c)} {interval(c)}" for c in known[:MOST_ROWS])
        + ".",
        rows=tuple(map(_row, known)),
        draw=partial(_draw, known),
    )


def excludes_zero(c: Comparison) -> bool:
    """Return whether the comparison's own interval excludes zero."""
    return c.interval is not None and c.interval.excludes_zero


def _row(c: Comparison) -> Row:
    span = c.interval
    return {
        "pair": c.pair.label,
        "scope": str(c.pair.scope),
        "metric": c.metric.name,
        "difference_percent": None if c.effect is None else percent_of_ln(c.effect.estimate),
        "low_percent": None if span is None else percent_of_ln(span.low),
        "high_percent": None if span is None else percent_of_ln(span.high),
        "interval_level": 1 - c.alpha,
        "blocks": c.n,
        "holds_zero": str(not excludes_zero(c)),
    }


def _draw(known: Sequence[Comparison]) -> Figure:
    shown = known[:MOST_ROWS]
    plot = ROW_IN * len(shown)
    total = HEAD_IN + plot + 0.82
    figure = new_figure(total)
    n = count_range(c.n for c in known)
    said, outside = level_name(known[0].alpha), sum(map(excludes_zero, known))
    what = f"Difference of a mesh to itself in %, with {said} interval; n = {n} blocks. The truth is 0."
    left_out = f"; the first {MOST_ROWS} are drawn" if len(known) > len(shown) else ""
    expected = f"{known[0].alpha * len(known):.1f}"
    told = f"{outside} of {len(known)} intervals miss 0; about {expected} would by chance{left_out}."
    put_title(figure, TITLE, what, told)
    axes = axes_at(figure, LABEL_IN, 0.82, WIDTH_IN - LABEL_IN - TEXT_IN - 0.1, plot)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks([])
    axes.axvline(0, color=FAINT, lw=1.2, zorder=1)
    place = axes.get_yaxis_transform()
    several = len({c.pair.scope for c in shown}) > 1
    for at, c in enumerate(shown):
        row, colour = _row(c), OUTSIDE if excludes_zero(c) else INSIDE
        low, middle, high = (float(row[key] or 0.0) for key in ("low_percent", "difference_percent", "high_percent"))
        axes.hlines([at], [low], [high], colors=[colour], lw=3, zorder=3)
        face = "white" if colour == INSIDE else colour
        axes.scatter([middle], [at], s=34, c=[face], edgecolors=[colour], linewidths=1.5, zorder=4)
        where = f" · {c.pair.scope.load}" if several else ""
        pair = fitted(f"{c.pair.label} · {c.metric.name}{where}", 44)
        axes.text(-0.03, at, pair, transform=place, ha="right", va="center", size=8, color=INK, parse_math=False)
        axes.text(1.03, at, f"{difference(c)} {interval(c)}", transform=place, va="center", size=8, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(lambda value, _: f"{signed(value, 0 if high - low > 8 else 1)} %")
    axes.grid(axis="x", color=GRID, lw=0.8)
    legend = "hollow: the interval holds 0   filled: it misses 0"
    figure.text(0.02, 0.10 / total, legend, size=8, color=FAINT, va="bottom")
    return figure
