"""A book: chapters that share a folder with their figures and data, any file of which can be made alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from reports.analysis import Analysis
from reports.exchange.published import PublishedSeries
from reports.figures.canvas import FigurePage
from reports.pages.chapter import Chapter
from reports.pages.csv_text import to_csv
from reports.pages.document import Place, data_of, figures_of, render_page
from reports.pages.page import run_chapters, run_folder
from reports.pages.paging import ChapterPage, pages_of
from reports.tables import TABLES

Link = Callable[[str], str | None]
# Chapters that come by the dozen are reached from the overview and from each other, not from every page.
_MOST_OF_A_KIND = 6


@dataclass(frozen=True, slots=True)
class Book:
    """Pages of one thing: a run, a schedule's trends, a comparison.

    Attributes:
        folder: from the site's root.
        chapters: the first one is its ``index.html``, whatever its slug.
        figures: of all chapters, by their order.
    """

    folder: str
    chapters: tuple[Chapter, ...]
    figures: tuple[FigurePage, ...]
    _pages: Mapping[str, tuple[ChapterPage, Place]]
    _data: Mapping[str, Callable[[], bytes]]

    @property
    def page_names(self) -> tuple[str, ...]:
        """Names of all pages."""
        return tuple(self._pages)

    @property
    def data_names(self) -> tuple[str, ...]:
        """Names of all tables: ``data/<name>``."""
        return tuple(self._data)

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return name in self._pages or name in self._data or self._figure(name) is not None

    def file(self, name: str) -> bytes:
        """Return one file, made now: ``costs.html``, ``figures/cost.svg``, ``data/trials.csv``.

        Raises:
            KeyError: there is none of this name.
        """
        if name in self._pages:
            page, place = self._pages[name]
            return render_page(page, place).encode()
        if name in self._data:
            return self._data[name]()
        figure = self._figure(name)
        if figure is None:
            raise KeyError(name)
        return figure.svg() if name.endswith(".svg") else figure.png()

    def _figure(self, name: str) -> FigurePage | None:
        stem, _, kind = name.removeprefix("figures/").rpartition(".")
        if not name.startswith("figures/") or kind not in {"png", "svg"}:
            return None
        return next((figure for figure in self.figures if figure.name == stem), None)


def book_of(
    folder: str,
    chapters: Iterable[Chapter],
    *,
    tables: Mapping[str, Callable[[], bytes]] | None = None,
    link: Link | None = None,
) -> Book:
    """Return chapters as a book.

    Args:
        tables: what makes further files of ``data/``, by name.
        link: makes links of links from the site's root where the book is served; None: relative ones.
    """
    first, *others = chapters
    bound = (_named(first, "index"), *others)
    sisters = tuple((chapter.title, f"{folder}/{chapter.slug}.html") for chapter in _shown(bound))
    pages: dict[str, tuple[ChapterPage, Place]] = {}
    kin = _kin(bound)
    for chapter in bound:
        for page in pages_of(chapter):
            crumbs = [("All runs", "index.html")]
            if chapter is not bound[0]:
                crumbs.append((first.title, f"{folder}/index.html"))
            before, after = kin.get(chapter.slug, (None, None))
            pages[page.file_name] = (
                page,
                Place(
                    root="../" * (folder.count("/") + 1) if folder else "",
                    crumbs=tuple(crumbs),
                    pages=tuple(("Answer" if at == 0 else text, target) for at, (text, target) in enumerate(sisters)),
                    here=f"{folder}/{chapter.slug}.html",
                    link=link,
                    before=None if before is None else (before.title, f"{before.slug}.html"),
                    after=None if after is None else (after.title, f"{after.slug}.html"),
                ),
            )
    data = {f"data/{name}": make for chapter in bound for name, make in data_of(chapter).items()}
    data |= {f"data/{name}": make for name, make in (tables or {}).items()}
    return Book(folder, bound, figures_of(bound), pages, data)


def run_book(analysis: Analysis, link: Link | None = None, published: Sequence[PublishedSeries] = ()) -> Book:
    """Return the pages of a run, with what others published beside its results."""
    tables = {f"{name}.csv": partial(_table, analysis, name) for name in TABLES}
    return book_of(run_folder(analysis.run.run_id), run_chapters(analysis, published), tables=tables, link=link)


def _table(analysis: Analysis, name: str) -> bytes:
    return to_csv(TABLES[name](analysis)).encode()


def _named(chapter: Chapter, slug: str) -> Chapter:
    return Chapter(slug, chapter.title, chapter.answer, chapter.parts, chapter.files)


def _kind(slug: str) -> str:
    stem, _, number = slug.rpartition("-")
    return stem if number.isdigit() else slug


def _shown(chapters: tuple[Chapter, ...]) -> list[Chapter]:
    """Return the chapters that every page links to: of many of a kind the first one."""
    kinds: dict[str, list[Chapter]] = {}
    for chapter in chapters:
        kinds.setdefault(_kind(chapter.slug), []).append(chapter)
    return [c for members in kinds.values() for c in (members if len(members) <= _MOST_OF_A_KIND else members[:1])]


def _kin(chapters: tuple[Chapter, ...]) -> dict[str, tuple[Chapter | None, Chapter | None]]:
    """Return the chapters of the same kind before and after each one."""
    kinds: dict[str, list[Chapter]] = {}
    for chapter in chapters:
        kinds.setdefault(_kind(chapter.slug), []).append(chapter)
    return {
        chapter.slug: (members[at - 1] if at else None, members[at + 1] if at + 1 < len(members) else None)
        for members in kinds.values()
        for at, chapter in enumerate(members)
        if len(members) > 1
    }
