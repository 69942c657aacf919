"""Looking early, as declared before the first block: when a run is looked at, and whether it may stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshgauge.plan import LOOKS

if TYPE_CHECKING:
    from reports.comparing.comparison import Comparison

# Four looks at this level find a difference where there is none in 4.9 % of comparisons, a plain .05 in 12.8 %.
# Intervals of 1 - LOOK_ALPHA keep covering what they promise after stopping. Source: reference/statistics.md 3.5.
LOOK_ALPHA = 0.018


def look_at(valid_blocks: int) -> int | None:
    """Return the last look that so many valid blocks allow; None before the first."""
    return max((look for look in LOOKS if look <= valid_blocks), default=None)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look said.

    Attributes:
        decided, primary: results with their final word, of all primary results.
        looks: blocks that decided results were looked at with, smallest and largest; None before the first look.
        waiting: results that have too few valid blocks for their first look, and may get more.
        stop: whether more blocks would change nothing.
    """

    decided: int
    primary: int
    looks: tuple[int, int] | None
    waiting: int
    stop: bool

    @property
    def sentence(self) -> str:
        """What the diary of the run says."""
        if self.looks is None:
            return f"no look yet: the first is at {LOOKS[0]} valid blocks"
        low, high = self.looks
        at = f"{low}" if low == high else f"{low} to {high}"
        if not self.stop:
            wait = f", {self.waiting} still wait for their first look" if self.waiting else ""
            return (
                f"look at {at} valid blocks: {self.decided} of {self.primary} results are decided{wait}, so it goes on"
            )
        return (
            f"stopped at the look at {at} valid blocks: all {self.primary} results are decided, "
            "the remaining blocks are not needed"
        )


def decide(comparisons: Sequence[Comparison]) -> Decision:
    """Return whether a run may stop at its present look: every primary result decided, at least one of them judged.

    A result is decided when more blocks cannot change its word: it differs, it is equivalent, or no number of blocks
    would let it be judged (a closed loop, an arm that fails). Each result is read at the last look its own valid
    blocks allow, so that one found at a look and gone at the next counts as open again: that can only make false
    findings rarer than 3.5 says.
    """
    primary = [c for c in comparisons if c.verdict is not None]
    looks = [c.look for c in primary if c.look is not None]
    decided = sum(c.verdict is not None and not c.verdict.open for c in primary)
    judged = any(c.verdict is not None and c.verdict.word != "invalid" for c in primary)
    return Decision(
        decided,
        len(primary),
        (min(looks), max(looks)) if looks else None,
        sum(c.look is None and c.verdict is not None and c.verdict.open for c in primary),
        judged and decided == len(primary),
    )
