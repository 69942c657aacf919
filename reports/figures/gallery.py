"""Which figures a run has, in the order of the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reports.analysis import Analysis
from reports.comparing.questions import QuestionKey, Scope, scope_of
from reports.figures.canvas import FigurePage, arm_styles
from reports.figures.cost import cost_figure
from reports.figures.diary import diary_figure
from reports.figures.forest import forest_plot
from reports.figures.percentiles import percentile_figure
from reports.readings.levels import cost_stack, percentile_curve


@dataclass(frozen=True, slots=True)
class Gallery:
    """All figures of a run.

    Attributes:
        forests: per question and scope, only where there is something to compare.
        percentiles, costs: per scope, only where something was measured.
    """

    forests: dict[tuple[QuestionKey, Scope], FigurePage]
    percentiles: dict[Scope, FigurePage]
    costs: dict[Scope, FigurePage]
    diary: FigurePage | None

    @property
    def all(self) -> tuple[FigurePage, ...]:
        """Every figure, in the order of the page."""
        found = (*self.forests.values(), *self.percentiles.values(), *self.costs.values())
        return (*found, self.diary) if self.diary else found


def gallery_of(analysis: Analysis) -> Gallery:
    """Return the figures of a run, not yet drawn."""
    run, readings = analysis.run, analysis.readings
    styles = arm_styles(run)
    scopes = tuple(dict.fromkeys(scope_of(cell) for cell in run.cells))
    gallery = Gallery({}, {}, {}, None)
    for answer in analysis.answers:
        for scope in scopes:
            if any(c.pair.scope == scope and c.metric.primary for c in answer.comparisons):
                name = file_stem("forest", answer.question.key, scope, scopes)
                gallery.forests[answer.question.key, scope] = forest_plot(answer, scope, name)
    for scope in scopes:
        cells = [cell for cell in run.cells if scope_of(cell) == scope]
        curves = [curve for cell in cells if (curve := percentile_curve(cell, readings))]
        if curves:
            name = file_stem("percentiles", "", scope, scopes)
            gallery.percentiles[scope] = percentile_figure(curves, scope, styles, name)
        stacks = [stack for cell in cells if (stack := cost_stack(cell, readings))]
        if stacks:
            gallery.costs[scope] = cost_figure(stacks, scope, file_stem("cost", "", scope, scopes))
    diary = diary_figure(run, readings, styles, "diary")
    return Gallery(gallery.forests, gallery.percentiles, gallery.costs, diary)


def file_stem(kind: str, question: str, scope: Scope, scopes: Sequence[Scope]) -> str:
    """Return a file name that is safe anywhere and unique in the run: the scope's number keeps names apart."""
    words = [kind, question] if question else [kind]
    if len(scopes) > 1:
        readable = re.sub(r"[^a-z0-9.]+", "-", f"{scope.workload}-{scope.infrastructure}-{scope.load}".lower())
        words += [str(scopes.index(scope) + 1), readable.strip("-.")[:80]]
    return "-".join(words)
