"""Folders of pages as archives: one run's, or all of the newest runs with what is between them."""

from __future__ import annotations

import tempfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from coordinator.web import books
from coordinator.web.beside import published_beside
from coordinator.web.installation import Installation
from coordinator.web.reporting import change_key
from meshgauge.run import RunRecord
from meshgauge.store import records, runs, schedules, series
from meshgauge.store.database import transaction
from meshgauge.store.runs import RunRow

if TYPE_CHECKING:
    from reports.pages.book import Book
    from reports.pages.site import BookSource, RunSource

_FOLDER = "pages"  # of the data directory: what did not change since the last archive is not made again
_IN_MEMORY_BYTES = 8_000_000
_WRITING = threading.Lock()


def run_archive(installed: Installation, run_id: uuid.UUID) -> IO[bytes]:
    """Return the pages of a run as a ZIP archive that needs nothing beside it.

    Raises:
        UnknownNameError: no such run.
    """
    from reports.pages.book import run_book  # noqa: PLC0415
    from reports.pages.site import write_book  # noqa: PLC0415

    own = f"runs/{run_id}/"

    def within(target: str) -> str | None:
        return target.removeprefix(own) if target.startswith(own) else None

    beside = published_beside(installed.engine).series
    book = run_book(installed.reporting.analysis(installed.engine, run_id), link=within, published=beside)
    with tempfile.TemporaryDirectory(prefix="meshgauge-pages-") as folder:
        names = write_book(Path(folder), book)
        return _zipped(Path(folder) / book.folder, names)


def site_archive(installed: Installation, limit: int) -> IO[bytes]:
    """Return the pages of the newest ``limit`` runs and what is between them, with an index, as a ZIP archive.

    Only what changed since the last archive is made; the first one takes seconds a run.
    """
    from reports.pages.code_key import code_key  # noqa: PLC0415
    from reports.pages.site import write_site  # noqa: PLC0415

    directory = installed.settings.data_dir / _FOLDER
    with _WRITING:
        with transaction(installed.engine) as connection:
            rows = runs.newest(connection, limit)
        write_site(directory, map(_source(installed), rows), _between(installed, rows), code_key())
        names = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
        return _zipped(directory, sorted(name for name in names if not name.endswith("book.json")))


def _source(installed: Installation) -> Callable[[RunRow], RunSource]:
    from reports.pages.site import RunLine, RunSource  # noqa: PLC0415

    beside = published_beside(installed.engine)

    def source(row: RunRow) -> RunSource:
        def load() -> RunRecord:
            with transaction(installed.engine) as connection:
                return records.read_run(connection, row.id)

        line = RunLine(str(row.id), row.name, row.state, f"{row.created_at:%Y-%m-%d %H:%M}")
        return RunSource(line, str((change_key(installed.engine, row.id), beside.key)), load, beside.series)

    return source


def _between(installed: Installation, rows: Sequence[RunRow]) -> Iterator[BookSource]:
    """Yield the comparison of the newest two finished runs of each plan, and the nights of each schedule."""
    from reports.pages.site import BookSource  # noqa: PLC0415

    yield from _trends(installed, rows)
    finished: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.state == "done" and row.trials.get("measured"):
            finished.setdefault(row.name, []).append(row)
    for second, first, *_ in (members for members in finished.values() if len(members) > 1):
        keys = (change_key(installed.engine, first.id), change_key(installed.engine, second.id))

        def make(first: RunRow = first, second: RunRow = second) -> Book:
            return books.comparison(installed, first.id, second.id, link=None)[1]

        yield BookSource(books.comparison_folder(first.id, second.id), str(keys), make)


def _trends(installed: Installation, rows: Sequence[RunRow]) -> Iterator[BookSource]:
    """Yield the nights of each schedule; only runs of this archive are linked."""
    from reports.pages.site import BookSource  # noqa: PLC0415

    here = {f"runs/{row.id}/index.html" for row in rows}
    with transaction(installed.engine) as connection:
        named = [(row.name, series.change_key(connection, row.name)) for row in schedules.listed(connection)]

    def link(target: str) -> str | None:
        return f"../../{target}" if target in here or not target.startswith("runs/") else None

    for name, key in named:

        def make(name: str = name) -> Book:
            return books.trend(installed, name, link=link)[1]

        yield BookSource(books.trend_folder(name), f"{key} {sorted(here)}", make)


def _zipped(directory: Path, names: Sequence[str]) -> IO[bytes]:
    """Return files as a ZIP archive, to be read from its beginning; in memory while it is small."""
    archive = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the answer closes it
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
        for name in names:
            kind = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            out.write(directory / name, name, compress_type=kind)
    archive.seek(0)
    return archive
