"""The chapters of a run in the order of reading; those without data are left out."""

from __future__ import annotations

from dataclasses import replace

from reports.analysis import Analysis
from reports.chapter import Chapter
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

_STATELESS = frozenset({"configuration", "provenance"})  # true of a run however it ended


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
    said = state_of(analysis.run)
    return tuple(
        chapter if chapter.slug in _STATELESS else replace(chapter, answer=f"{said}{chapter.answer}")
        for chapter in found
        if chapter is not None
    )
