"""A ladder of releases: how each older release compares with the newest, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.comparing.comparison import Comparison
from reports.comparing.statistics import ALPHA
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
from reports.wording import count_range, level_name, percent_of_ln, signed

PANEL_IN = 1.55
PANEL_HEAD_IN = 0.34
LEFT_IN = 0.85
FOOT_IN = 0.95
MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Step:
    """One release on the ladder.

    Attributes:
        against_newest: per metric, the newest release compared with this one; empty for the newest itself.
    """

    release: str
    against_newest: Mapping[str, Comparison]


def ladder_figure(mesh: str, where: str, steps: Sequence[Step], name: str) -> FigurePage:
    """Return the ladder of one mesh, oldest release to the left; its last step is the newest release."""
    title = f"{mesh}, release by release: slower or faster than the newest?"
    return FigurePage(
        name=name,
        title=f"{title} ({where})",
        alt=_alt(steps),
        rows=tuple(row for step in steps for row in _rows(step, steps[-1].release)),
        draw=partial(_draw, title, where, steps),
    )


def _rows(step: Step, newest: str) -> list[Row]:
    rows: list[Row] = []
    for name, c in step.against_newest.items():
        span = _span(c)
        rows.append(
            {
                "release": step.release,
                "compared_with": newest,
                "metric": name,
                "difference_percent": None if span is None else span[0],
                "low_percent": None if span is None else span[1],
                "high_percent": None if span is None else span[2],
                "interval_level": 1 - c.alpha,
                "blocks": c.n,
                "verdict_on_newest": None if c.verdict is None else c.verdict.word,
                "reason": None if c.verdict is None else c.verdict.reason,
            }
        )
    return rows


def _span(c: Comparison) -> tuple[float, float | None, float | None] | None:
    """Return the older release against the newest, in per cent: the comparison turned round."""
    if c.effect is None:
        return None
    interval = c.interval
    if interval is None:
        return percent_of_ln(-c.effect.estimate), None, None
    return percent_of_ln(-c.effect.estimate), percent_of_ln(-interval.high), percent_of_ln(-interval.low)


def _alt(steps: Sequence[Step]) -> str:
    said = []
    for step in steps[:-1]:
        for name, c in step.against_newest.items():
            span = _span(c)
            word = c.verdict.word if c.verdict else "not judged"
            size = "not measured" if span is None else f"{signed(span[0], 1)} %"
            said.append(f"{step.release} {name} {size} of the newest (newest: {word})")
    return f"Difference of each older release to {steps[-1].release}. {'; '.join(said)}."


def _draw(title: str, where: str, steps: Sequence[Step]) -> Figure:
    metrics = list(dict.fromkeys(name for step in steps for name in step.against_newest))
    total = HEAD_IN + (PANEL_IN + PANEL_HEAD_IN) * len(metrics) + FOOT_IN
    figure = new_figure(total)
    counts = sorted({c.n for step in steps for c in step.against_newest.values()})
    n = count_range(counts)
    said = level_name(max((c.alpha for step in steps for c in step.against_newest.values()), default=ALPHA))
    with_interval = f"{said} interval" if counts and counts[-1] > 1 else "without interval"
    what = f"Difference of each release to {steps[-1].release} (line at 0) in %, {with_interval}; n = {n} blocks."
    put_title(figure, title, what, where)
    top = total - HEAD_IN
    for at, metric in enumerate(metrics):
        top -= PANEL_HEAD_IN + PANEL_IN
        axes = axes_at(figure, LEFT_IN, top, WIDTH_IN - LEFT_IN - 0.2, PANEL_IN)
        _panel(axes, metric, steps, named=at == len(metrics) - 1)
    legend = "filled: shown to differ from the newest   hollow: not shown to   grey strip: too small to matter"
    figure.text(0.02, 0.10 / total, legend, size=8, color=FAINT, va="bottom")
    return figure


def _panel(axes: Axes, metric: str, steps: Sequence[Step], *, named: bool) -> None:
    known = [
        (at, c, span) for at, step in enumerate(steps) if (c := step.against_newest.get(metric)) and (span := _span(c))
    ]
    comparisons = [c for _, c, _ in known]
    if comparisons:
        axes.set_title(comparisons[0].metric.title, loc="left", size=9.5, weight="bold", color=INK, pad=5)
        margin = comparisons[0].margin or 0.0  # symmetric on the ln scale
        axes.axhspan(percent_of_ln(-margin), percent_of_ln(margin), color=MARGIN_STRIP, lw=0, zorder=0)
    axes.axhline(0, color=FAINT, lw=1.2, zorder=1)
    for at, c, (middle, low, high) in known:
        word = c.verdict.word if c.verdict else "invalid"
        shown = word in {"slower", "faster", "more", "less"}
        # Where the newest is slower, the older release is the faster one, and is coloured so.
        turned = {"slower": "faster", "faster": "slower", "more": "less", "less": "more"}.get(word, word)
        colour = VERDICT_COLOURS[turned]
        if low is not None and high is not None:
            axes.vlines([at], [low], [high], colors=[colour], lw=3, zorder=3)
        axes.scatter(
            [at], [middle], s=46, c=[colour if shown else "white"], edgecolors=[colour], linewidths=1.6, zorder=4
        )
    axes.scatter([len(steps) - 1], [0], s=46, marker="D", c=[INK], zorder=4)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{signed(value, 0 if abs(high - low) > 8 else 1)} %")
    axes.grid(axis="y", color=GRID, lw=0.8)
    every = -(-len(steps) // MOST_NAMES)
    ticks = [at for at in range(len(steps)) if (len(steps) - 1 - at) % every == 0] if named else []
    axes.set_xticks(ticks, [_name(steps, at) for at in ticks], rotation=20 if len(ticks) > 6 else 0)


def _name(steps: Sequence[Step], at: int) -> str:
    release = shortened(steps[at].release, 16).replace("$", r"\$")
    return f"{release}\n(newest)" if at == len(steps) - 1 else release
