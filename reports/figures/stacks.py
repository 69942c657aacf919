"""Stacked bars, one an arm: what each component takes, and the total with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    WIDTH_IN,
    Row,
    axes_at,
    new_figure,
    put_title,
)
from reports.figures.names import fitted
from reports.wording import count_range

ROW_IN = 0.36
LABEL_IN = 1.95
TEXT_IN = 1.45
FOOT_IN = 0.92
# Components differ in lightness as well as hue, so that they are told apart in print.
COMPONENTS: Mapping[str, tuple[str, str]] = {
    "app": ("application", "#a6adb8"),
    "data_plane/client": ("client proxy", "#0072b2"),
    "data_plane/server": ("server proxy", "#56b4e9"),
    "data_plane/node": ("node proxy", "#009e73"),
    "control_plane": ("control plane", "#e69f00"),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One arm's stack. ``text`` is its total in words; ``low`` and ``high`` bound the total at 95 %."""

    arm: str
    parts: Mapping[str, float]
    total: float
    low: float | None
    high: float | None
    blocks: int
    text: str


def stack_rows(bars: Iterable[Bar], column: str) -> tuple[Row, ...]:
    """Return the data behind the bars; ``column`` names the value and its unit."""
    return tuple(row for bar in bars for row in _rows(bar, column))


def _rows(bar: Bar, column: str) -> list[Row]:
    parts: list[Row] = [
        {"arm": bar.arm, "component": part, column: value, "low_95": None, "high_95": None, "blocks": bar.blocks}
        for part, value in bar.parts.items()
    ]
    total: Row = {
        "arm": bar.arm,
        "component": "total",
        column: bar.total,
        "low_95": bar.low,
        "high_95": bar.high,
        "blocks": bar.blocks,
    }
    return [*parts, total]


def draw_stacks(bars: Sequence[Bar], title: str, quantity: str, unit: str, scope: str) -> Figure:
    """Return the figure.

    Args:
        quantity: what a bar's length is, with its unit: the start of the line below the title.
        unit: on the axis.
    """
    plot = ROW_IN * len(bars)
    figure = new_figure(HEAD_IN + plot + FOOT_IN)
    n = count_range(bar.blocks for bar in bars)
    what = f"{quantity}; mean of n = {n} blocks an arm, 95 % interval on the total."
    put_title(figure, title, what, scope)
    axes = axes_at(figure, LABEL_IN, FOOT_IN, WIDTH_IN - LABEL_IN - TEXT_IN - 0.1, plot)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, 1.06 * max(bar.high or bar.total for bar in bars))
    axes.set_yticks([])
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(unit, size=8.5, color=FAINT)
    for at, bar in enumerate(bars):
        _bar(axes, at, bar)
    _legend(figure, [name for name in COMPONENTS if any(name in bar.parts for bar in bars)])
    return figure


def _legend(figure: Figure, used: Sequence[str]) -> None:
    handles = [Patch(color=COMPONENTS[name][1], label=COMPONENTS[name][0]) for name in used]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=len(used), fontsize=8.5, frameon=False
    )


def _bar(axes: Axes, at: int, bar: Bar) -> None:
    left = 0.0
    for name, value in bar.parts.items():
        axes.barh(at, value, left=left, height=0.62, color=COMPONENTS[name][1], edgecolor="white", lw=0.6)
        left += value
    if bar.low is not None and bar.high is not None:
        axes.plot([bar.low, bar.high], [at, at], color=INK, lw=1.6)
        for end in (bar.low, bar.high):
            axes.plot([end, end], [at - 0.13, at + 0.13], color=INK, lw=1.6)
    outside = axes.get_yaxis_transform()
    name = fitted(bar.arm, 28)
    axes.text(-0.03, at, name, transform=outside, ha="right", va="center", size=8.5, color=INK, parse_math=False)
    axes.text(1.03, at, bar.text, transform=outside, va="center", size=8.5, color=INK)
