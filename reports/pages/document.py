"""Chapters as HTML: one page of a folder with its files beside it, or one document that holds everything itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import jinja2

from reports.figures.canvas import FigurePage
from reports.pages.chapter import Chapter, Grid, Heading, Picture
from reports.pages.csv_text import table_csv, to_csv
from reports.pages.paging import ChapterPage, GridSlice, page_file, pages_of, whole


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands, so that its links lead somewhere.

    Attributes:
        root: leads from the page to the site's root: ``../../`` from ``runs/<id>/index.html``.
        assets: leads from the page to the folder of its ``figures/`` and ``data/``; empty: beside the page.
        crumbs: (text, link from the root) of the pages above it, outermost first.
        pages: (text, link from the root) of its sisters, itself included; ``here`` is its own link.
        before, after: (text, file) of the chapters of its kind on both sides.
        link: makes a link of a link from the root, where that is not the root before it (served pages); None as
            its answer: the text stands without a link.
    """

    root: str = ""
    assets: str = ""
    crumbs: tuple[tuple[str, str], ...] = ()
    pages: tuple[tuple[str, str], ...] = ()
    here: str = ""
    before: tuple[str, str] | None = None
    after: tuple[str, str] | None = None
    link: Callable[[str], str | None] | None = None

    def to(self, target: str | None) -> str | None:
        """Return the address of ``target``, a path from the site's root, as the page has to write it."""
        if target is None or target.startswith("#"):
            return target
        return self.link(target) if self.link else self.root + target


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure's files; ``svg`` None: left out of the document."""

    png: bytes
    svg: bytes | None = None


@dataclass(frozen=True, slots=True)
class Front:
    """What a document of several chapters begins with.

    Attributes:
        chapter: gives the title, the answer and what stands before all other chapters.
        badge: state of what it is about, or empty. ``meta``: a line of facts beneath the title.
    """

    chapter: Chapter
    badge: str = ""
    meta: str = ""


# What a page may load: its own style, and pictures beside it or within it. No script, no form, nothing from elsewhere.
Images = Literal["linked", "embedded"]


def render_page(page: ChapterPage, place: Place) -> str:
    """Return one page of a chapter that was cut into pages."""
    return _template("chapter.html.j2").render(
        _shared("linked"), page=page, place=place, page_file=page_file, contents=_contents(page.chapter)
    )


def render_document(
    front: Front,
    chapters: Sequence[Chapter],
    drawn: Mapping[str, Drawn],
    origin: str,
    attachments: Mapping[str, bytes] | None = None,
) -> str:
    """Return chapters as one document that needs no other file.

    Args:
        drawn: files per figure name; a figure that is not among them is told in words, with its data.
        origin: what it was made from, for its last line.
        attachments: files of ``data/`` that cells link to; what is not among them stands without a link.
    """
    return _template("document.html.j2").render(
        _shared("embedded"),
        front=front,
        first=whole(front.chapter),
        pages=[whole(chapter) for chapter in chapters],
        place=Place(link=_within(chapters, attachments or {})),
        drawn=drawn,
        origin=origin,
    )


def _within(chapters: Sequence[Chapter], attachments: Mapping[str, bytes]) -> Callable[[str], str | None]:
    """Return a resolver of links that stays in the document: to its chapters, and to what is attached."""
    slugs = {page_file(chapter.slug, 1): chapter.slug for chapter in chapters}

    def link(target: str) -> str | None:
        path, _, anchor = target.partition("#")
        name = path.rpartition("/")[2]
        if "/data/" in path:
            return data_uri("text/csv;charset=utf-8", attachments[name]) if name in attachments else None
        slug = slugs.get(name)
        return None if slug is None else f"#{slug}-{anchor}" if anchor else f"#{slug}"

    return link


def figures_of(chapters: Sequence[Chapter]) -> tuple[FigurePage, ...]:
    """Return all figures, each name once, in the order of the pages."""
    found = {
        part.figure.name: part.figure for chapter in chapters for part in chapter.parts if isinstance(part, Picture)
    }
    return tuple(found.values())


def data_of(chapter: Chapter) -> Mapping[str, Callable[[], bytes]]:
    """Return what makes each file of the chapter's ``data/``: tables, data behind figures, its own files."""
    made: dict[str, Callable[[], bytes]] = {}
    for part in chapter.parts:
        if isinstance(part, Picture):
            made[figure_csv(part.figure)] = _Later(lambda figure: to_csv(figure.rows), part.figure)
        elif isinstance(part, Grid):
            made[grid_csv(chapter, part)] = _Later(_grid_text, part)
    return made | {
        own_file(chapter, name): (lambda content=content: content) for name, content in chapter.files.items()
    }


def figure_csv(figure: FigurePage) -> str:
    """Return the name of the file with the data of a figure."""
    return f"{figure.name}.csv"


def grid_csv(chapter: Chapter, grid: Grid) -> str:
    """Return the name of a table's file."""
    return f"{chapter.slug}-{grid.name}.csv"


def own_file(chapter: Chapter, name: str) -> str:
    """Return the name of one of a chapter's own files within ``data/``."""
    return f"{chapter.slug}-{name}"


def page_style() -> str:
    """Return the style sheet that is part of every page."""
    source, _, _ = _loader().get_source(_environment(), "page.css")
    return source


def security_policy(images: Images, *, forms: bool = False) -> str:
    """Return the Content-Security-Policy a page allows itself.

    Args:
        forms: the page asks its own server something.
    """
    digest = base64.b64encode(hashlib.sha256(page_style().encode()).digest()).decode()
    # A page's icon is part of it. `file:` is for browsers to which a page on disk has no self.
    pictures = "data:" if images == "embedded" else "'self' file: data:"
    action = "'self'" if forms else "'none'"
    return f"default-src 'none'; img-src {pictures}; style-src 'sha256-{digest}'; base-uri 'none'; form-action {action}"


def data_uri(media_type: str, content: bytes) -> str:
    """Return content as a link target that a browser saves."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True, slots=True)
class _Later:
    """A table written when somebody asks for it."""

    write: Callable[..., str]
    what: FigurePage | Grid = field(repr=False)

    def __call__(self) -> bytes:
        return self.write(self.what).encode()


def _grid_text(grid: Grid) -> str:
    return table_csv(grid.columns, ([cell.text for cell in row] for row in grid.rows))


def _contents(chapter: Chapter) -> tuple[tuple[str, str], ...]:
    """Return (text, link from the page's own folder) of each heading, whatever page it is on."""
    return tuple(
        (piece.text, f"{page.file_name}#{piece.anchor}")
        for page in pages_of(chapter)
        for piece in page.pieces
        if isinstance(piece, Heading)
    )


def _shared(images: Images) -> dict[str, object]:
    return {"style": page_style(), "policy": security_policy(images), "images": images}


def _kind(piece: object) -> str:
    return "Grid" if isinstance(piece, GridSlice) else type(piece).__name__


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


@cache
def _loader() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("reports.pages", "templates")


@cache
def _environment() -> jinja2.Environment:
    # Names and reasons come from plans and proxies: every value is escaped, and a missing one is an error.
    environment = jinja2.Environment(
        loader=_loader(), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["kind"] = _kind
    environment.filters["csv_uri"] = lambda content: data_uri("text/csv;charset=utf-8", content)
    environment.globals.update(
        data_uri=data_uri,
        figure_csv=figure_csv,
        grid_csv=grid_csv,
        own_file=own_file,
        grid_bytes=lambda grid: _grid_text(grid).encode(),
        rows_bytes=lambda figure: to_csv(figure.rows).encode(),
    )
    return environment
