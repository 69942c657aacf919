"""How much memory each arm holds, stacked by component."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

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
)
from reports.figures.cost import COMPONENTS, LABEL_IN, ROW_IN, TEXT_IN
from reports.figures.names import fitted
from reports.readings.costs import MemoryStack
from reports.wording import decimals_for

TITLE = "How much memory does it hold?"


def memory_figure(stacks: Sequence[MemoryStack], scope: Scope, name: str) -> FigurePage:
    """Return the stacked memory of all arms of one scope."""
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt="Resident memory in MiB, application and proxies. "
        + "; ".join(f"{arm_name(stack.cell)}: {total_text(stack)}" for stack in stacks)
        + ".",
        rows=tuple(row for stack in stacks for row in _rows(stack)),
        draw=partial(_draw, stacks, scope),
    )


def total_text(stack: MemoryStack) -> str:
    """Return the total in MiB with its interval."""
    mean = stack.total
    if mean.low is None or mean.high is None:
        return f"{mean.value:.1f}"
    decimals = min(decimals_for((mean.high - mean.low) / 2), 1)
    return f"{mean.value:.{decimals}f} [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"


def _rows(stack: MemoryStack) -> list[Row]:
    arm, mean = arm_name(stack.cell), stack.total
    parts: list[Row] = [
        {"arm": arm, "component": part, "memory_mib": value, "low_95": None, "high_95": None, "blocks": mean.blocks}
        for part, value in stack.parts.items()
    ]
    total: Row = {
        "arm": arm,
        "component": "total",
        "memory_mib": mean.value,
        "low_95": mean.low,
        "high_95": mean.high,
        "blocks": mean.blocks,
    }
    return [*parts, total]


def _draw(stacks: Sequence[MemoryStack], scope: Scope) -> Figure:
    plot = ROW_IN * len(stacks)
    figure = new_figure(HEAD_IN + plot + 0.92)
    runs = sorted({stack.total.blocks for stack in stacks})
    n = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    what = f"Resident memory in MiB under load: mean of n = {n} blocks, 95 % interval on the total."
    put_title(figure, TITLE, what, str(scope))
    axes = axes_at(figure, LABEL_IN, 0.92, WIDTH_IN - LABEL_IN - TEXT_IN - 0.1, plot)
    axes.set_ylim(len(stacks) - 0.5, -0.5)
    axes.set_xlim(0, 1.06 * max(stack.total.high or stack.total.value for stack in stacks))
    axes.set_yticks([])
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("MiB", size=8.5, color=FAINT)
    outside = axes.get_yaxis_transform()
    for at, stack in enumerate(stacks):
        left = 0.0
        for name, value in stack.parts.items():
            axes.barh(at, value, left=left, height=0.62, color=COMPONENTS[name][1], edgecolor="white", lw=0.6)
            left += value
        if stack.total.low is not None and stack.total.high is not None:
            axes.plot([stack.total.low, stack.total.high], [at, at], color=INK, lw=1.6)
        arm = fitted(arm_name(stack.cell), 28)
        axes.text(-0.03, at, arm, transform=outside, ha="right", va="center", size=8.5, color=INK, parse_math=False)
        axes.text(1.03, at, total_text(stack), transform=outside, va="center", size=8.5, color=INK)
    used = [name for name in COMPONENTS if any(name in stack.parts for stack in stacks)]
    handles = [Patch(color=COMPONENTS[name][1], label=COMPONENTS[name][0]) for name in used]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=len(used), fontsize=8.5, frameon=False
    )
    return figure
