"""The pages of an installation as a folder that opens from disk, written again only where something changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.exchange.published import PublishedSeries
from reports.figures.render import render_figures
from reports.pages.book import Book, run_book
from reports.pages.chapter import Cell, Chapter, Grid, Part, Text
from reports.pages.document import Place, data_of, render_page
from reports.pages.files import write_whole
from reports.pages.paging import pages_of

# Some 0.6 kB a row: the first page stays far below 300 kB however many runs there are.
RUNS_A_PAGE = 250

_MARKER = "book.json"  # written last: a folder without it, or with another key, is made again


@dataclass(frozen=True, slots=True)
class RunLine:
    """What the index says about a run. ``finding``: its answer in words; None: its pages were not made yet."""

    run_id: str
    name: str
    state: str
    at: str
    finding: str | None = None


@dataclass(frozen=True, slots=True)
class RunSource:
    """A run to publish.

    Attributes:
        key: changes whenever something of the run does.
        load: reads the run; called only where its pages have to be made.
        published: what others published, drawn beside it; part of ``key``.
    """

    line: RunLine
    key: str
    load: Callable[[], RunRecord]
    published: tuple[PublishedSeries, ...] = ()


@dataclass(frozen=True, slots=True)
class BookSource:
    """Any other book to publish: trends, comparisons. ``folder`` is known without making it."""

    folder: str
    key: str
    make: Callable[[], Book]


@dataclass(frozen=True, slots=True)
class _Marker:
    """What is known of a book that was written."""

    key: str
    title: str
    answer: str
    files: list[str]


@dataclass(frozen=True, slots=True)
class Written:
    """What was done: books made, and books found unchanged."""

    made: int
    kept: int


def write_site(
    directory: Path,
    runs: Iterable[RunSource],
    books: Iterable[BookSource],
    code_key: str,
) -> Written:
    """Write every page of an installation; books whose key is unchanged are left as they are.

    A file appears whole or not at all. Books of runs that are no longer there are removed.

    Args:
        runs: newest first.
        code_key: changes when the code that makes pages does (``reports.pages.code_key``).
    """
    made = kept = 0
    lines: list[RunLine] = []
    folders: list[tuple[str, str, str]] = []
    for source in runs:
        folder = f"runs/{source.line.run_id}"

        def of_run(source: RunSource = source) -> Book:
            return run_book(analyse(source.load()), published=source.published)

        is_new, answer = _write_if_changed(directory, folder, f"{source.key} {code_key}", of_run)
        made, kept = made + is_new, kept + (not is_new)
        lines.append(RunLine(**(asdict(source.line) | {"finding": answer})))
        folders.append((folder, source.line.name, answer))
    others: list[tuple[str, str, str]] = []
    for book in books:
        is_new, answer = _write_if_changed(directory, book.folder, f"{book.key} {code_key}", book.make)
        made, kept = made + is_new, kept + (not is_new)
        others.append((book.folder, _title(directory, book.folder), answer))
    _remove_others(directory, {folder for folder, _, _ in (*folders, *others)})
    for name, content in index_files(lines, others).items():
        write_whole(directory / name, content)
    return Written(made, kept)


def index_files(lines: Sequence[RunLine], others: Sequence[tuple[str, str, str]]) -> Mapping[str, bytes]:
    """Return the files of the index by name, its pages last.

    Args:
        lines: runs, newest first.
        others: folder, title and answer of each other book.
    """
    chapter = index_chapter(lines, others)
    data = {f"data/{name}": make() for name, make in data_of(chapter).items()}
    return data | {page.file_name: render_page(page, Place()).encode() for page in pages_of(chapter, RUNS_A_PAGE)}


def index_chapter(lines: Sequence[RunLine], others: Sequence[tuple[str, str, str]]) -> Chapter:
    """Return the index of runs, trends and comparisons."""
    parts: list[Part] = []
    for kind, title in (("trends", "Trends of schedules"), ("compare", "Comparisons of two runs")):
        found = tuple(
            (Cell(name, link=f"{folder}/index.html"), Cell(answer))
            for folder, name, answer in others
            if folder.startswith(f"{kind}/")
        )
        if found:
            parts.append(Grid(kind, title, ("Page", "What it says"), found))
    rows = tuple(
        (
            Cell(line.name, link=f"runs/{line.run_id}/index.html"),
            Cell(line.state, "bad" if line.state == "failed" else ""),
            Cell(line.at),
            Cell(_short(line.finding) if line.finding else "its pages were not made yet"),
            Cell(line.run_id[:8]),
        )
        for line in lines
    )
    if not lines:
        parts.append(Text(("Nothing has run yet. Start with: meshgauge run plans/quickstart.yaml",)))
    else:
        parts.append(Grid("runs", "Runs, newest first", ("Plan", "State", "Submitted (UTC)", "Finding", "Run"), rows))
    return Chapter("index", "Service mesh benchmarks", index_answer(lines), tuple(parts))


def index_answer(lines: Sequence[RunLine]) -> str:
    """Return how many runs there are, and the newest finding."""
    if not lines:
        return "There is no run yet."
    count = "One run." if len(lines) == 1 else f"{len(lines)} runs."
    newest = next((line for line in lines if line.finding and line.state == "done"), None)
    newest = newest or next((line for line in lines if line.finding), None)
    return count if newest is None else f"{count} The newest finding, from {newest.name}: {newest.finding}"


def _write_if_changed(directory: Path, folder: str, key: str, make: Callable[[], Book]) -> tuple[bool, str]:
    """Return whether the book was made, and its answer."""
    marker = directory / folder / _MARKER
    known = _read_marker(marker)
    if known is not None and known.key == key:
        return False, known.answer
    book = make()
    files = write_book(directory, book)
    for name in set(known.files if known else ()) - set(files):
        (directory / folder / name).unlink(missing_ok=True)
    title, answer = book.chapters[0].title, book.chapters[0].answer
    write_whole(marker, json.dumps(asdict(_Marker(key, title, answer, files))).encode())
    return True, answer


def write_book(directory: Path, book: Book) -> list[str]:
    """Write a book into its folder beneath ``directory``; return the names of its files.

    Figures and data come first, pages after them: a reader never meets a page whose files are not there.
    """
    root = directory / book.folder
    with ThreadPoolExecutor(max_workers=1) as beside:
        # The thread waits for processes that draw; the text is made meanwhile.
        drawing = beside.submit(render_figures, book.figures, root / "figures")
        for name in book.data_names:
            write_whole(root / name, book.file(name))
        pages = {name: book.file(name) for name in book.page_names}
        drawing.result()
    for name, content in pages.items():
        write_whole(root / name, content)
    images = [f"figures/{figure.name}.{kind}" for figure in book.figures for kind in ("png", "svg")]
    return [*images, *book.data_names, *book.page_names]


def _read_marker(marker: Path) -> _Marker | None:
    try:
        return _Marker(**json.loads(marker.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # never written, or by another version: made again


def _title(directory: Path, folder: str) -> str:
    marker = _read_marker(directory / folder / _MARKER)
    return marker.title if marker else folder


def _short(text: str, characters: int = 400) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _remove_others(directory: Path, folders: set[str]) -> None:
    for kind in ("runs", "trends", "compare"):
        for marker in (directory / kind).glob(f"*/{_MARKER}"):
            if f"{kind}/{marker.parent.name}" not in folders:
                shutil.rmtree(marker.parent)
