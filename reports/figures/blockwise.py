"""Block by block: a line from the control to the arm for every block, so that one odd block shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from reports.comparing.questions import Scope
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
    new_figure,
    put_title,
)
from reports.figures.names import label
from reports.wording import count_range

TITLE = "Does every block tell the same story?"
COLUMNS = 3
MOST_ARMS = 9
PANEL_IN = 1.75
PANEL_HEAD_IN = 0.34
PANEL_FOOT_IN = 0.34
LEFT_IN = 0.75
GAP_IN = 0.25
FOOT_IN = 0.36


@dataclass(frozen=True, slots=True)
class BlockLines:
    """One arm: p50 in ms of the control and of the arm, per block in which both are valid."""

    arm: str
    control: str
    blocks: tuple[int, ...]
    control_ms: tuple[float, ...]
    arm_ms: tuple[float, ...]

    @property
    def against_the_rest(self) -> tuple[int, ...]:
        """Blocks whose difference has the other sign than most have."""
        rising = [arm > control for arm, control in zip(self.arm_ms, self.control_ms, strict=True)]
        most = sum(rising) * 2 >= len(rising)
        return tuple(block for block, up in zip(self.blocks, rising, strict=True) if up != most)


def blockwise_figure(
    found: Sequence[BlockLines], scope: Scope, styles: Mapping[str, ArmStyle], name: str
) -> FigurePage | None:
    """Return a panel for each of the first MOST_ARMS arms of a scope; None without a block."""
    known = [lines for lines in found if lines.blocks]
    if not known:
        return None
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt="p50 of control and arm in every block. " + "; ".join(map(_said, known)) + ".",
        rows=tuple(row for lines in known for row in _rows(lines, scope)),
        draw=partial(_draw, known[:MOST_ARMS], scope, styles),
    )


def _said(lines: BlockLines) -> str:
    odd = lines.against_the_rest
    return f"{lines.arm}: {len(lines.blocks) - len(odd)} of {len(lines.blocks)} blocks agree in direction"


def _rows(lines: BlockLines, scope: Scope) -> list[Row]:
    return [
        {
            "arm": lines.arm,
            "control": lines.control,
            "scope": str(scope),
            "block": block + 1,
            "control_p50_ms": control,
            "arm_p50_ms": arm,
        }
        for block, control, arm in zip(lines.blocks, lines.control_ms, lines.arm_ms, strict=True)
    ]


def _draw(found: Sequence[BlockLines], scope: Scope, styles: Mapping[str, ArmStyle]) -> Figure:
    rows = math.ceil(len(found) / COLUMNS)
    tall = PANEL_HEAD_IN + PANEL_IN + PANEL_FOOT_IN
    total = HEAD_IN + tall * rows + FOOT_IN
    figure = new_figure(total)
    n = count_range(len(lines.blocks) for lines in found)
    put_title(figure, TITLE, f"p50 of net response time in ms; one line a block, n = {n} blocks an arm.", str(scope))
    width = (WIDTH_IN - LEFT_IN - 0.15 - GAP_IN * (COLUMNS - 1)) / COLUMNS
    values = [value for lines in found for value in (*lines.control_ms, *lines.arm_ms)]
    low, high = min(values) / 1.06, max(values) * 1.06
    for at, lines in enumerate(found):
        row, column = divmod(at, COLUMNS)
        bottom = total - HEAD_IN - tall * row - PANEL_HEAD_IN - PANEL_IN
        axes = axes_at(figure, LEFT_IN + column * (width + GAP_IN), bottom, width, PANEL_IN)
        _panel(axes, lines, styles[lines.arm])
        _scale(axes, low, high, named=column == 0)
    legend = "solid: the direction of most blocks   dashed black: against the rest"
    figure.text(0.02, 0.10 / total, legend, size=8, color=FAINT, va="bottom")
    return figure


def _panel(axes: Axes, lines: BlockLines, style: ArmStyle) -> None:
    odd = set(lines.against_the_rest)
    for block, control, arm in zip(lines.blocks, lines.control_ms, lines.arm_ms, strict=True):
        colour, dashes = (INK, (0, (4, 2))) if block in odd else (style.colour, (0, ()))
        axes.plot([0, 1], [control, arm], color=colour, ls=dashes, lw=1.3, alpha=0.85, zorder=3)
    count = len(lines.blocks)
    axes.scatter([0] * count, lines.control_ms, s=14, c=CONTROL, zorder=4)
    axes.scatter([1] * count, lines.arm_ms, s=14, c=style.colour, marker=style.marker, zorder=4)
    axes.set_xlim(-0.25, 1.25)
    axes.set_xticks([0, 1], [label(lines.control, 14), "this arm"])
    axes.set_title(label(lines.arm, 27), loc="left", size=9, weight="bold", color=INK, pad=5)


def _scale(axes: Axes, low: float, high: float, *, named: bool) -> None:
    axes.set_yscale("log")
    wanted = [round(f * 10.0**power, 6) for power in range(-3, 5) for f in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)]
    room = math.log(high / low) / 6
    kept: list[float] = []
    for tick in (t for t in wanted if low <= t <= high):
        if not kept or math.log(tick / kept[-1]) >= room:
            kept.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(kept))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{t:g} ms" for t in kept] if named else [""] * len(kept))
    axes.set_ylim(low, high)
    axes.grid(axis="y", color=GRID, lw=0.8)
