"""Ranks as far as verdicts allow: how many meshes are shown to be better, and how many worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshgauge.matrix import Cell
from reports.chapters.answers import word_of
from reports.comparing.comparison import Comparison

_WORSE = frozenset({"slower", "more"})
_BETTER = frozenset({"faster", "less"})


@dataclass(slots=True)
class Standing:
    """What verdicts say of one mesh against the others, on one metric.

    Attributes:
        better_than, worse_than: shown by a verdict.
        equal_to: equivalent within the margin.
        open_to: inconclusive; refused: no verdict was given.
        unranked: no verdict was given, because the other mesh has none against anybody: it takes no rank.
    """

    cell: Cell
    better_than: list[Cell] = field(default_factory=list)
    worse_than: list[Cell] = field(default_factory=list)
    equal_to: list[Cell] = field(default_factory=list)
    open_to: list[Cell] = field(default_factory=list)
    refused: list[Cell] = field(default_factory=list)
    unranked: list[Cell] = field(default_factory=list)

    @property
    def others(self) -> int:
        """Meshes with a rank that it was held against."""
        return sum(map(len, (self.better_than, self.worse_than, self.equal_to, self.open_to, self.refused)))

    @property
    def best(self) -> int:
        """Its rank if everything undecided went its way."""
        return 1 + len(self.worse_than)

    @property
    def worst(self) -> int:
        """Its rank if everything undecided went against it."""
        return 1 + self.others - len(self.better_than)

    @property
    def is_ranked(self) -> bool:
        """Whether any verdict was given on it."""
        return self.others > len(self.refused)

    @property
    def rank(self) -> str:
        """The ranks it may have, such as ``2`` or ``1 to 3``; not ranked where no verdict was given at all."""
        if not self.is_ranked:
            return "not ranked"
        return f"{self.best}" if self.best == self.worst else f"{self.best} to {self.worst}"


def standings(comparisons: Sequence[Comparison]) -> tuple[Standing, ...]:
    """Return the standing of every mesh in comparisons of one metric; less is better.

    The best placed come first, those without any verdict last; nobody's rank waits for these.
    """
    found: dict[str, Standing] = {}
    for c in comparisons:
        this = found.setdefault(c.pair.cell.key, Standing(c.pair.cell))
        other = found.setdefault(c.pair.control.key, Standing(c.pair.control))
        word = word_of(c)
        if word in _WORSE:
            this.worse_than.append(other.cell)
            other.better_than.append(this.cell)
        elif word in _BETTER:
            this.better_than.append(other.cell)
            other.worse_than.append(this.cell)
        else:
            kind = {"equivalent": "equal_to", "inconclusive": "open_to"}.get(word or "", "refused")
            getattr(this, kind).append(other.cell)
            getattr(other, kind).append(this.cell)
    outside = {key for key, standing in found.items() if not standing.is_ranked}
    for standing in found.values():
        if standing.is_ranked:
            standing.unranked = [cell for cell in standing.refused if cell.key in outside]
            standing.refused = [cell for cell in standing.refused if cell.key not in outside]
    return tuple(sorted(found.values(), key=lambda s: (not s.is_ranked, s.best, s.worst)))
