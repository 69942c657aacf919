"""What a page is made of, before anybody thinks of HTML: an answer in words, then text, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reports.figures.canvas import FigurePage


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a table.

    Attributes:
        text: as shown.
        tone: how it is marked: a verdict's word, ``good``, ``warning``, ``bad`` or nothing. Never the only sign.
        link: where it leads, relative to the site's root (``runs/<id>/index.html``); None: nowhere.
    """

    text: str
    tone: str = ""
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Paragraphs; with ``tone`` a remark."""

    paragraphs: tuple[str, ...]
    tone: Literal["", "info", "warning"] = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Points, each a lead-in word or none, and its text."""

    points: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. The first column heads its rows.

    Attributes:
        name: stem of its CSV, unique in the chapter.
        numeric: indices of columns that hold numbers, set flush right.
        rows: one tuple of cells per row, as many as there are columns.
        folded: shown only when asked for.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure with its caption in its own data."""

    figure: FigurePage


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part of a chapter; ``anchor`` is what links name."""

    text: str
    anchor: str


Part = Text | Listing | Grid | Picture | Heading


@dataclass(frozen=True, slots=True)
class Chapter:
    """One page of a site.

    Attributes:
        slug: stem of its file, letters, digits and hyphens.
        title: what a stranger understands.
        answer: the first line of the page: the answer in words.
        files: data to download with it, content per file name, beyond what tables and figures bring.
    """

    slug: str
    title: str
    answer: str
    parts: tuple[Part, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
