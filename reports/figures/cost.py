"""What serving 1000 requests a second costs in CPU, stacked by component."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from reports.comparing.questions import Scope, arm_name
from reports.figures.canvas import FigurePage
from reports.figures.stacks import Bar, draw_stacks, stack_rows
from reports.readings.levels import CostStack
from reports.wording import decimals_for, level

TITLE = "What does it cost in CPU?"


def cost_figure(stacks: Sequence[CostStack], scope: Scope, name: str) -> FigurePage:
    """Return the stacked cost of all arms of one scope."""
    bars = tuple(map(_bar, stacks))
    totals = "; ".join(f"{bar.arm}: {bar.text}" for bar in bars)
    return FigurePage(
        name=name,
        title=f"{TITLE} ({scope})",
        alt=f"Cores per 1000 rps, application and proxies. {totals}.",
        rows=stack_rows(bars, "cores_per_1000_rps"),
        draw=partial(draw_stacks, bars, TITLE, "Cores per 1000 replies a second", "cores per 1000 rps", str(scope)),
    )


def _bar(stack: CostStack) -> Bar:
    return Bar(arm_name(stack.cell), stack.parts, stack.total, stack.low, stack.high, stack.blocks, _total_text(stack))


def _total_text(stack: CostStack) -> str:
    if stack.low is None or stack.high is None:
        return level(stack.total)
    decimals = decimals_for((stack.high - stack.low) / 2)
    return f"{stack.total:.{decimals}f} [{stack.low:.{decimals}f}, {stack.high:.{decimals}f}]"
