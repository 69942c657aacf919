"""Chapters are checked as data: what any page must be able to rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.chapters.book import chapters_of
from reports.figures.canvas import FigurePage
from reports.pages.chapter import Chapter, Grid, Heading, Listing, Picture, Text


class Book:
    """The chapters of a run by slug, with ways to look into them."""

    def __init__(self, run: RunRecord) -> None:
        self.analysis = analyse(run)
        self.chapters = {chapter.slug: chapter for chapter in chapters_of(self.analysis)}

    def __getitem__(self, slug: str) -> Chapter:
        return self.chapters[slug]

    def __contains__(self, slug: str) -> bool:
        return slug in self.chapters

    def grid(self, slug: str, name: str) -> list[dict[str, str]]:
        """Return a table's rows as column -> text."""
        found = next(part for part in self[slug].parts if isinstance(part, Grid) and part.name == name)
        return [dict(zip(found.columns, (cell.text for cell in row), strict=True)) for row in found.rows]

    def figures(self, slug: str) -> list[FigurePage]:
        """Return a chapter's figures."""
        return [part.figure for part in self[slug].parts if isinstance(part, Picture)]

    def words(self, slug: str) -> str:
        """Return everything a chapter says, one piece a line."""
        return "\n".join((self[slug].title, self[slug].answer, *_words(self[slug])))


def _words(chapter: Chapter) -> Iterator[str]:
    for part in chapter.parts:
        match part:
            case Text(paragraphs):
                yield from paragraphs
            case Listing(points):
                yield from (f"{word} {text}" for word, text in points)
            case Heading(text):
                yield text
            case Picture(figure):
                yield from (figure.title, figure.alt)
            case Grid():
                yield part.title
                yield " | ".join(part.columns)
                yield from (" | ".join(cell.text for cell in row) for row in part.rows)


@pytest.fixture
def read() -> Callable[[RunRecord], Book]:
    """Return the chapters of a run, by slug."""
    return Book
