"""A run's pages: its chapters in the order of reading, and all of them as one self-contained document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis import Analysis
from reports.chapters.book import chapters_of
from reports.chapters.overview import overview_chapter, run_line
from reports.chapters.published import published_chapter
from reports.chapters.reading import data_chapter, reading_chapter
from reports.chapters.results import result_chapters
from reports.exchange.published import PublishedSeries
from reports.figures.gallery import gallery_of
from reports.pages.chapter import Chapter
from reports.pages.csv_text import to_csv
from reports.pages.document import Drawn, Front, figures_of, render_document
from reports.tables import TABLES

# A document has to open on a phone: what is larger has its place in the run's folder of pages.
MOST_EMBEDDED_BYTES = 1_000_000
MOST_SCOPES = 8
MOST_FIGURES = 60


def run_folder(run_id: str) -> str:
    """Return the folder of a run's pages, from the site's root."""
    return f"runs/{run_id}"


def run_chapters(analysis: Analysis, published: Sequence[PublishedSeries] = ()) -> tuple[Chapter, ...]:
    """Return every chapter of a run in any state, the overview first; ``published`` is drawn beside its results."""
    folder = run_folder(analysis.run.run_id)
    others = (
        *result_chapters(analysis, gallery_of(analysis)),
        *chapters_of(analysis),
        *((beside,) if (beside := published_chapter(analysis, published)) else ()),
        reading_chapter(analysis),
        data_chapter(analysis, folder),
    )
    return (overview_chapter(analysis, others, folder), *others)


def render_analysis(analysis: Analysis) -> str:
    """Return the report of an analysed run as one document."""
    chapters = document_chapters(run_chapters(analysis))
    figures = figures_of(chapters)[:MOST_FIGURES]
    drawn = {figure.name: Drawn(figure.png()) for figure in figures}
    tables = {f"{name}.csv": to_csv(rows(analysis)).encode() for name, rows in TABLES.items()}
    return render_run_document(analysis, chapters, drawn, tables)


def document_chapters(chapters: Sequence[Chapter]) -> tuple[Chapter, ...]:
    """Return the chapters that go into one document: of many scopes' results the first ones."""
    results = [chapter.slug for chapter in chapters if chapter.slug.startswith("results-")]
    left_out = set(results[MOST_SCOPES:])
    return tuple(chapter for chapter in chapters if chapter.slug not in left_out)


def render_run_document(
    analysis: Analysis, chapters: Sequence[Chapter], drawn: Mapping[str, Drawn], tables: Mapping[str, bytes]
) -> str:
    """Return the report from parts already made.

    Args:
        chapters: the overview first.
        drawn: pictures per figure name. tables: CSV per file name; large ones are named, not embedded.
    """
    run = analysis.run
    front = Front(chapters[0], run.state, run_line(analysis))
    small = {name: content for name, content in tables.items() if len(content) <= MOST_EMBEDDED_BYTES}
    return render_document(front, chapters[1:], drawn, f"run {run.run_id}", small)
