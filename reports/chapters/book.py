"""The chapters of a run in the order of reading; those without data are left out."""

from __future__ import annotations

from dataclasses import replace

from reports.analysis import Analysis
from reports.chapters.answers import state_of
from reports.chapters.applications import applications_chapter
from reports.chapters.configuration import configuration_chapter
from reports.chapters.cost import cost_chapter
from reports.chapters.diary import diary_chapters
from reports.chapters.interoperability import interoperability_chapter
from reports.chapters.meshes import duels_of, meshes_chapter
from reports.chapters.provenance import provenance_chapter
from reports.chapters.rates import rates_chapter
from reports.chapters.releases import releases_chapter
from reports.chapters.shifts import shifts_chapter
from reports.chapters.steadiness import steadiness_chapter
from reports.chapters.thresholds import thresholds_chapter
from reports.pages.chapter import Chapter, Text

_STATELESS = frozenset({"configuration", "provenance"})  # true of a run however it ended
_JUDGED = frozenset({"mesh-against-mesh", "releases", "application-versions", "interoperability"})  # hold verdicts


def chapters_of(analysis: Analysis) -> tuple[Chapter, ...]:
    """Return the chapters of a run in any state, slugs unique."""
    duels = duels_of(analysis)
    found = (
        thresholds_chapter(analysis),
        meshes_chapter(analysis, duels),
        releases_chapter(analysis),
        applications_chapter(analysis),
        interoperability_chapter(analysis),
        shifts_chapter(analysis),
        rates_chapter(analysis),
        cost_chapter(analysis),
        steadiness_chapter(analysis),
        configuration_chapter(analysis, duels.comparisons if duels else ()),
        *diary_chapters(analysis),
        provenance_chapter(analysis),
    )
    return tuple(_completed(chapter, analysis) for chapter in found if chapter is not None)


def _completed(chapter: Chapter, analysis: Analysis) -> Chapter:
    """Return the chapter with what holds for the whole run: a page may be the only one a reader opens."""
    answer = chapter.answer if chapter.slug in _STATELESS else f"{state_of(analysis.run)}{chapter.answer}"
    parts = chapter.parts
    if analysis.indicative and chapter.slug in _JUDGED:
        parts = (Text((f"All verdicts are indicative. {analysis.indicative}",), "warning"), *parts)
    return replace(chapter, answer=answer, parts=parts)
