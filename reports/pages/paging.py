"""Long chapters cut into pages that open at once, at headings where it can be, within tables where it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.pages.chapter import Chapter, Grid, Heading, Listing, Part, Picture, Text

# A row of a table weighs 1 and comes to some 0.5 kB: a page stays within some 300 kB beside its pictures.
ROWS_A_PAGE = 500
_PICTURE_WEIGHT = 25


@dataclass(frozen=True, slots=True)
class GridSlice:
    """Rows ``start`` to ``stop`` (from 0, the end not included) of a table; its CSV has all of them."""

    grid: Grid
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the table is left to other pages."""
        return self.stop - self.start == len(self.grid.rows)


Piece = Text | Listing | Picture | Heading | GridSlice


@dataclass(frozen=True, slots=True)
class ChapterPage:
    """One page of a chapter; ``number`` counts from 1."""

    chapter: Chapter
    number: int
    of: int
    pieces: tuple[Piece, ...]

    @property
    def file_name(self) -> str:
        """Name of the page's file."""
        return page_file(self.chapter.slug, self.number)


def page_file(slug: str, number: int) -> str:
    """Return the file of one page of a chapter: the first one has the chapter's own name."""
    return f"{slug}.html" if number == 1 else f"{slug}-page-{number}.html"


def pages_of(chapter: Chapter, most: int = ROWS_A_PAGE) -> tuple[ChapterPage, ...]:
    """Return a chapter's pages, at least one."""
    filled: list[list[Piece]] = [[]]
    weight = 0
    for section in _sections(chapter.parts):
        pieces = tuple(piece for part in section for piece in _pieces(part, most))
        # Before the section, never between a heading and what it heads: pieces that follow break only after content.
        if weight and weight + sum(map(_weight, pieces)) > most:
            filled.append([])
            weight = 0
        for piece in pieces:
            if weight and weight + _weight(piece) > most:
                filled.append([])
                weight = 0
            filled[-1].append(piece)
            weight += _weight(piece)
    return tuple(ChapterPage(chapter, at + 1, len(filled), tuple(pieces)) for at, pieces in enumerate(filled))


def whole(chapter: Chapter, most: int = ROWS_A_PAGE) -> ChapterPage:
    """Return a chapter as one page, with the first ``most`` rows of each table."""
    pieces = tuple(
        GridSlice(part, 0, min(most, len(part.rows))) if isinstance(part, Grid) else part for part in chapter.parts
    )
    return ChapterPage(chapter, 1, 1, pieces)


def _sections(parts: tuple[Part, ...]) -> Iterator[list[Part]]:
    section: list[Part] = []
    for part in parts:
        # Headings that follow each other head the same thing.
        if isinstance(part, Heading) and section and not isinstance(section[-1], Heading):
            yield section
            section = []
        section.append(part)
    if section:
        yield section


def _pieces(part: Part, most: int) -> Iterator[Piece]:
    if not isinstance(part, Grid):
        yield part
        return
    for start in range(0, max(len(part.rows), 1), most):
        yield GridSlice(part, start, min(start + most, len(part.rows)))


def _weight(piece: Piece) -> int:
    if isinstance(piece, GridSlice):
        return max(piece.stop - piece.start, 1)
    if isinstance(piece, Picture):
        return _PICTURE_WEIGHT
    return 0 if isinstance(piece, Heading) else 1
