"""How much memory each arm holds, stacked by component."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from reports.comparing.questions import Scope, arm_name
from reports.figures.canvas import FigurePage
from reports.figures.stacks import Bar, draw_stacks, stack_rows
from reports.readings.costs import MemoryStack
from reports.wording import decimals_for

TITLE = "How much memory does it hold?"


def memory_figure(stacks: Sequence[MemoryStack], scope: Scope, name: str) -> FigurePage:
    """Return the stacked memory of all arms of one scope."""
    bars = tuple(map(_bar, stacks))
    totals = "; ".join(f"{bar.arm}: {bar.text}" for bar in bars)
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt=f"Resident memory in MiB, application and proxies. {totals}.",
        rows=stack_rows(bars, "memory_mib"),
        draw=partial(draw_stacks, bars, TITLE, "Resident memory in MiB under load", "MiB", str(scope)),
    )


def _bar(stack: MemoryStack) -> Bar:
    mean = stack.total
    return Bar(arm_name(stack.cell), stack.parts, mean.value, mean.low, mean.high, mean.blocks, total_text(stack))


def total_text(stack: MemoryStack) -> str:
    """Return the total in MiB with its interval."""
    mean = stack.total
    if mean.low is None or mean.high is None:
        return f"{mean.value:.1f}"
    decimals = min(decimals_for((mean.high - mean.low) / 2), 1)
    return f"{mean.value:.{decimals}f} [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"
