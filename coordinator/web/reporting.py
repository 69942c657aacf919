"""Results and pages, made when asked for and kept until the run they are about changes.

`reports` is imported at the first call: drawing and statistics take a second to load, serving needs neither.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from coordinator.web.beside import published_beside
from meshgauge.errors import UnknownNameError
from meshgauge.store import records, runs
from meshgauge.store.database import transaction

if TYPE_CHECKING:
    from reports.analysis import Analysis
    from reports.pages.book import Book

T = TypeVar("T")

_KEPT_PAGES = 8  # of one to three megabytes
_KEPT_ANALYSES = 3
_KEPT_BOOKS = 6
_KEPT_FIGURES = 64  # of some 50 kB: what a reader turns pages between


class Reporting:
    """Makes one result at a time: two at once would only slow each other, and a measurement beside them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pages: OrderedDict[Hashable, str] = OrderedDict()
        self._analyses: OrderedDict[Hashable, Analysis] = OrderedDict()
        self._books: OrderedDict[Hashable, Book] = OrderedDict()
        self._figures: OrderedDict[Hashable, bytes] = OrderedDict()
        self._findings: dict[uuid.UUID, tuple[Hashable, str]] = {}

    def page(self, engine: sa.Engine, run_id: uuid.UUID) -> str:
        """Return the self-contained report of a run as it stands now.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.pages.page import render_analysis  # noqa: PLC0415

        with self._lock:
            key = change_key(engine, run_id)
            return _kept(self._pages, _KEPT_PAGES, key, lambda: render_analysis(self.analysis(engine, run_id)))

    def page_policy(self) -> str:
        """Return the Content-Security-Policy of a report."""
        from reports.pages.document import security_policy  # noqa: PLC0415

        return security_policy("embedded")

    def summary(self, engine: sa.Engine, run_id: uuid.UUID) -> dict[str, Any]:
        """Return the answers, remarks and result rows of a run as JSON.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.summary import to_json  # noqa: PLC0415

        return to_json(self.analysis(engine, run_id))

    def tables(self, engine: sa.Engine, run_id: uuid.UUID) -> Mapping[str, str]:
        """Return the tables of a run as CSV, by name.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.tables import tables_of  # noqa: PLC0415

        return tables_of(self.analysis(engine, run_id))

    def exported(self, engine: sa.Engine, run_id: uuid.UUID, name: str, table: str) -> bytes:
        """Return a run in the export format called ``name``; ``table`` says which where it holds one table.

        Raises:
            UnknownNameError: no such run, format or table.
            ConfigurationError: the format needs a package that is not installed.
        """
        from reports.exchange.formats import export  # noqa: PLC0415

        return export(self.analysis(engine, run_id), name, table)

    def analysis(self, engine: sa.Engine, run_id: uuid.UUID) -> Analysis:
        """Return the analysis of a run as it stands now.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.analysis import analyse  # noqa: PLC0415
        from reports.comparing.confirmation import analyse_confirming  # noqa: PLC0415

        def make() -> Analysis:
            with transaction(engine) as connection:
                record = records.read_run(connection, run_id)
                repeats = record.confirms
                screen = None if repeats is None else records.read_run(connection, uuid.UUID(repeats))
            return analyse(record) if screen is None else analyse_confirming(record, screen)

        with self._lock:
            return _kept(self._analyses, _KEPT_ANALYSES, change_key(engine, run_id), make)

    def book(self, engine: sa.Engine, run_id: uuid.UUID) -> Book:
        """Return the pages of a run as it stands now, links as they are served here.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.pages.book import run_book  # noqa: PLC0415

        key, beside = change_key(engine, run_id), published_beside(engine)
        book = self.other_book(
            (key, beside.key), lambda: run_book(self.analysis(engine, run_id), link=served, published=beside.series)
        )
        self._findings[run_id] = key, book.chapters[0].answer
        return book

    def other_book(self, key: Hashable, make: Callable[[], Book]) -> Book:
        """Return a book that changes with ``key``, made where none is kept."""
        with self._lock:
            return _kept(self._books, _KEPT_BOOKS, key, make)

    def run_file(self, engine: sa.Engine, run_id: uuid.UUID, name: str) -> bytes:
        """Return one file of a run's pages.

        Raises:
            UnknownNameError: no such run or file.
        """
        key = (change_key(engine, run_id), published_beside(engine).key)
        return self.file(key, self.book(engine, run_id), name)

    def file(self, key: Hashable, book: Book, name: str) -> bytes:
        """Return one file of a book that changes with ``key``.

        Raises:
            UnknownNameError: the book has no such file.
        """
        if not book.has(name):
            raise UnknownNameError("page", name, book.page_names)
        with self._lock:
            if not name.startswith("figures/"):
                return book.file(name)
            return _kept(self._figures, _KEPT_FIGURES, (key, name), lambda: book.file(name))

    def finding(self, engine: sa.Engine, run_id: uuid.UUID, *, make: bool) -> str | None:
        """Return a run's answer in words; None where it is not known yet and not to be made now."""
        known = self._findings.get(run_id)
        if not make or (known is not None and known[0] == change_key(engine, run_id)):
            return known[1] if known else None
        from reports.chapters.overview import answer_of  # noqa: PLC0415

        key = change_key(engine, run_id)
        self._findings[run_id] = key, answer_of(self.analysis(engine, run_id))
        return self._findings[run_id][1]


def change_key(engine: sa.Engine, run_id: uuid.UUID) -> tuple[uuid.UUID, int, str]:
    """Return what changes whenever the run does: its newest event and its state.

    Raises:
        UnknownNameError: no such run.
    """
    with transaction(engine) as connection:
        return run_id, records.last_change(connection, run_id), runs.get(connection, run_id).state


def served(target: str) -> str:
    """Return where the coordinator serves ``target``, a path from the root of a folder of pages."""
    parts = target.split("/", 2)
    if target == "index.html":
        return "/"
    if parts[0] == "runs" and len(parts) == 3:
        return f"/runs/{parts[1]}/pages/{parts[2]}"
    return f"/{target}"


def _kept(kept: OrderedDict[Hashable, T], most: int, key: Hashable, make: Callable[[], T]) -> T:
    """Return what is kept under ``key``, made now where nothing is."""
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
