"""The folder of pages: whole files, relative links that lead somewhere, nothing made twice."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from PIL import Image

from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.pages.book import Book, book_of, run_book
from reports.pages.chapter import Cell, Chapter, Grid, Text
from reports.pages.files import write_whole
from reports.pages.site import (
    BookSource,
    RunLine,
    RunSource,
    Written,
    index_answer,
    index_files,
    write_book,
    write_site,
)

MakeRun = Callable[..., RunRecord]
RUN = "0190f0c2-7d3a-7000-8000-000000000001"
LOADS = [{"rate_rps": rate, "window_s": 20} for rate in (500, 1000)]


def trend(answer: str = "No step in 42 nights.") -> Book:
    """Return the smallest book there can be."""
    return book_of("trends/nightly", [Chapter("whatever", "Nightly", answer, (Text(("Calm.",)),))])


def source(run: RunRecord, key: str = "1", loaded: list[str] | None = None) -> RunSource:
    """Return a run to publish; ``loaded`` records that it was read."""

    def load() -> RunRecord:
        if loaded is not None:
            loaded.append(run.run_id)
        return run

    return RunSource(RunLine(run.run_id, run.plan.name, run.state, "2026-07-01 22:00"), key, load)


def targets(page: Path) -> list[str]:
    """Return every address a page names, what it carries itself (its icon) left out."""
    found = re.findall(r'(?:href|src)="([^"]+)"', page.read_text())
    return [unquote(address) for address in found if not address.startswith("data:")]


def test_every_link_of_every_page_leads_to_a_file_that_is_there(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        replace(make_run(blocks=6, ratio={"envoy-1.40.0": 1.6}, loads=LOADS), run_id="run-two"),
        replace(make_run(blocks=1, state="running", edit=lambda _: None), run_id="run-one"),
    ]
    write_site(tmp_path, map(source, runs), [BookSource("trends/nightly", "1", trend)], "code")
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 12
    for page in pages:
        for target in targets(page):
            path, anchor = urldefrag(target)
            assert "://" not in target
            assert not path.startswith("/")
            file = (page.parent / path).resolve() if path else page
            assert file.is_file(), (page, target)
            assert not anchor or f'id="{anchor}"' in file.read_text(), (page, target)


def test_what_did_not_change_is_neither_read_nor_written_again(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(blocks=1)
    loaded: list[str] = []
    assert write_site(tmp_path, [source(run, "1", loaded)], [], "code") == Written(1, 0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert write_site(tmp_path, [source(run, "1", loaded)], [], "code") == Written(0, 1)
    assert loaded == [RUN]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before
    assert write_site(tmp_path, [source(run, "2", loaded)], [], "code") == Written(1, 0)
    assert write_site(tmp_path, [source(run, "2", loaded)], [], "newer code") == Written(1, 0)


def test_what_was_interrupted_is_made_again(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [source(make_run(blocks=1))]

    def broken(_: Book, name: str) -> bytes:
        raise OSError(28, f"No space left on device for {name}")

    with monkeypatch.context() as patched:
        patched.setattr(Book, "file", broken)
        with pytest.raises(OSError, match="No space left"):
            write_site(tmp_path, sources, [], "code")
    assert not list(tmp_path.rglob("*.html"))
    assert write_site(tmp_path, sources, [], "code") == Written(1, 0)


def test_files_of_before_and_books_that_are_gone_do_not_stay(make_run: MakeRun, tmp_path: Path) -> None:
    many, few = make_run(blocks=1, loads=LOADS), make_run(blocks=1)
    write_site(tmp_path, [source(many, "1")], [BookSource("trends/nightly", "1", trend)], "code")
    assert (tmp_path / f"runs/{RUN}/results-2.html").exists()
    write_site(tmp_path, [source(few, "2")], [], "code")
    assert not (tmp_path / f"runs/{RUN}/results-2.html").exists()
    assert (tmp_path / f"runs/{RUN}/results-1.html").exists()
    assert not (tmp_path / "trends/nightly").exists()


def test_what_is_not_ours_is_left_alone(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    (tmp_path / "runs" / "notes" / "mine.txt").write_text("keep")
    write_site(tmp_path, [source(make_run(blocks=1))], [], "code")
    assert (tmp_path / "runs" / "notes" / "mine.txt").read_text() == "keep"


def test_the_index_stays_small_with_thousands_of_runs() -> None:
    finding = "Median request against no mesh: 3 slower (envoy-1.40.0 · mtls +61 %, nginx-1.31.0 · mtls +20 %)." * 5
    lines = [RunLine(f"{at:036d}", f"nightly-{at}", "done", "2026-07-01 22:00", finding) for at in range(3000)]
    pages = {name: text for name, text in index_files(lines, []).items() if name.endswith(".html")}
    assert len(pages) == 12
    assert max(map(len, pages.values())) < 300_000
    assert sum(text.count(b'">nightly-') for text in pages.values()) == 3000


def test_the_first_line_of_the_index_is_the_newest_finding_of_a_run_that_ended_well() -> None:
    running = RunLine("b", "tonight", "running", "", "So far: nothing.")
    done = RunLine("a", "yesterday", "done", "", "Envoy is slower.")
    assert index_answer([running, done]) == "2 runs. The newest finding, from yesterday: Envoy is slower."
    assert index_answer([running]) == "One run. The newest finding, from tonight: So far: nothing."
    assert index_answer([]) == "There is no run yet."


def test_trends_and_comparisons_are_on_the_index_with_their_answer(tmp_path: Path) -> None:
    write_site(tmp_path, [], [BookSource("trends/nightly", "1", trend)], "code")
    index = (tmp_path / "index.html").read_text()
    assert 'href="trends/nightly/index.html">Nightly<' in index
    assert "No step in 42 nights." in index
    assert "Calm." in (tmp_path / "trends/nightly/index.html").read_text()


def test_any_file_of_a_book_can_be_made_alone_and_is_the_one_in_the_folder(make_run: MakeRun, tmp_path: Path) -> None:
    book = run_book(analyse(make_run(blocks=6)))
    for name in write_book(tmp_path, book):
        assert book.has(name)
        made, written = book.file(name), (tmp_path / book.folder / name).read_bytes()
        if name.endswith(".png"):  # a written one also says what it was made from
            assert Image.open(io.BytesIO(made)).tobytes() == Image.open(io.BytesIO(written)).tobytes(), name
        elif not name.endswith(".svg"):  # identifiers within an SVG differ from drawing to drawing
            assert made == written, name
    for unknown in ("absent.html", "figures/absent.png", "figures/diary.exe", "../secret", "data/../index.html"):
        assert not book.has(unknown)
        with pytest.raises(KeyError):
            book.file(unknown)


def test_a_run_of_many_cells_makes_many_pages_and_none_of_them_is_giant(make_run: MakeRun) -> None:
    loads = [{"rate_rps": 500 + at, "window_s": 20} for at in range(40)]
    book = run_book(analyse(make_run(blocks=2, loads=loads)))
    sizes = {name: len(book.file(name)) for name in book.page_names}
    assert {"results-1.html", "results-40.html"} <= set(sizes)
    assert max(sizes.values()) < 600_000, sizes
    assert (
        book.file("index.html").count(f'href="../../runs/{RUN}/results-'.encode()) == 41
    )  # in its table, and one above it
    assert b'<a rel="next" href="results-8.html">' in book.file("results-7.html")


def test_a_failed_trial_is_told_in_the_folder_too(make_run: MakeRun) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        died = replace(trial, state="failed", reason="envoy died: signal 9", load=None, gates=())
        return died if trial.trial_id == "trial-7" else trial

    assert b"envoy died: signal 9" in run_book(analyse(make_run(edit=failing))).file("diary.html")


def test_links_of_a_served_book_lead_where_it_is_served() -> None:
    grid = Grid("runs", "Runs", ("Run",), ((Cell("the run", link="runs/r/index.html"),),))
    served = book_of("compare/a--b", [Chapter("x", "A and B", "Same.", (grid,))], link=lambda target: f"/at/{target}")
    page = served.file("index.html").decode()
    assert 'href="/at/runs/r/index.html"' in page
    assert 'href="/at/index.html"' in page


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.html"
    write_whole(file, b"old")

    def full(_: object, __: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
