"""What serving 1000 requests a second costs in CPU, stacked by component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.comparing.questions import Scope, arm_name
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
from reports.readings.levels import CostStack
from reports.wording import decimals_for, level

TITLE = "What does it cost in CPU?"
ROW_IN = 0.36
LABEL_IN = 1.95
TEXT_IN = 1.45
# Components differ in lightness as well as hue, so that they are told apart in print.
COMPONENTS: Mapping[str, tuple[str, str]] = {
    "app": ("application", "#a6adb8"),
    "data_plane/client": ("client proxy", "#0072b2"),
    "data_plane/server": ("server proxy", "#56b4e9"),
    "data_plane/node": ("node proxy", "#009e73"),
    "control_plane": ("control plane", "#e69f00"),
}


def cost_figure(stacks: Sequence[CostStack], scope: Scope, name: str) -> FigurePage:
    """Return the stacked cost of all arms of one scope."""
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt="Cores per 1000 rps, application and proxies. "
        + "; ".join(f"{arm_name(stack.cell)}: {_total(stack)}" for stack in stacks)
        + ".",
        rows=tuple(row for stack in stacks for row in _rows(stack)),
        draw=partial(_draw, stacks, scope),
    )


def _rows(stack: CostStack) -> list[Row]:
    arm = arm_name(stack.cell)
    parts: list[Row] = [
        {
            "arm": arm,
            "component": part,
            "cores_per_1000_rps": value,
            "low_95": None,
            "high_95": None,
            "blocks": stack.blocks,
        }
        for part, value in stack.parts.items()
    ]
    total: Row = {
        "arm": arm,
        "component": "total",
        "cores_per_1000_rps": stack.total,
        "low_95": stack.low,
        "high_95": stack.high,
        "blocks": stack.blocks,
    }
    return [*parts, total]


def _total(stack: CostStack) -> str:
    if stack.low is None or stack.high is None:
        return level(stack.total)
    decimals = decimals_for((stack.high - stack.low) / 2)
    return f"{stack.total:.{decimals}f} [{stack.low:.{decimals}f}, {stack.high:.{decimals}f}]"


def _draw(stacks: Sequence[CostStack], scope: Scope) -> Figure:
    plot = ROW_IN * len(stacks)
    height = HEAD_IN + plot + 0.92
    figure = new_figure(height)
    counts = {stack.blocks for stack in stacks}
    n = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    what = f"Cores per 1000 replies a second; mean of n = {n} blocks an arm, 95 % interval on the total."
    put_title(figure, TITLE, what, str(scope))
    axes = axes_at(figure, LABEL_IN, 0.92, WIDTH_IN - LABEL_IN - TEXT_IN - 0.1, plot)
    axes.set_ylim(len(stacks) - 0.5, -0.5)
    axes.set_xlim(0, 1.06 * max(stack.high or stack.total for stack in stacks))
    axes.set_yticks([])
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("cores per 1000 rps", size=8.5, color=FAINT)
    for at, stack in enumerate(stacks):
        _bar(axes, at, stack)
    used = [name for name in COMPONENTS if any(name in stack.parts for stack in stacks)]
    handles = [Patch(color=COMPONENTS[name][1], label=COMPONENTS[name][0]) for name in used]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=len(used), fontsize=8.5, frameon=False
    )
    return figure


def _bar(axes: Axes, at: int, stack: CostStack) -> None:
    left = 0.0
    for name, value in stack.parts.items():
        axes.barh(at, value, left=left, height=0.62, color=COMPONENTS[name][1], edgecolor="white", lw=0.6)
        left += value
    if stack.low is not None and stack.high is not None:
        axes.plot([stack.low, stack.high], [at, at], color=INK, lw=1.6)
        for end in (stack.low, stack.high):
            axes.plot([end, end], [at - 0.13, at + 0.13], color=INK, lw=1.6)
    outside = axes.get_yaxis_transform()
    name = shortened(arm_name(stack.cell), 28)
    axes.text(-0.03, at, name, transform=outside, ha="right", va="center", size=8.5, color=INK, parse_math=False)
    axes.text(1.03, at, _total(stack), transform=outside, va="center", size=8.5, color=INK)
