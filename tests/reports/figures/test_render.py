"""Figures as files: drawn by processes as they are here, again only when they changed, and never lost."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.figures import canvas, render
from reports.figures.canvas import FigurePage, new_figure
from reports.figures.gallery import gallery_of
from reports.figures.render import Rendered, content_mark, render_figures
from reports.pages.book import run_book
from reports.readings.metrics import METRICS


@pytest.fixture
def figures(make_run: Callable[..., RunRecord]) -> tuple[FigurePage, ...]:
    """The figures of a run of two loads."""
    loads = [{"rate_rps": rate, "warm_up_s": 1, "window_s": 20} for rate in (500, 1000)]
    return gallery_of(analyse(make_run(ratio={"envoy-1.40.0": 1.6}, loads=loads))).all


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have even a few figures drawn by processes."""
    monkeypatch.setattr(render, "FEWEST_A_PROCESS", 1)


def _plain(name: str, text: str = "text") -> FigurePage:
    return FigurePage(name, "Title", "Alt", ({"text": text},), partial(_drawn, text))


def _drawn(text: str) -> Figure:
    figure = new_figure(1.0)
    figure.text(0.1, 0.5, text)
    return figure


def _broken() -> Figure:
    raise ValueError("no such axis")


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_every_figure_of_a_run_can_travel_to_another_process(make_run: Callable[..., RunRecord]) -> None:
    """Else it is drawn where the pages are served: hand ``FigurePage.draw`` a functools.partial, not a closure."""
    loads = [{"rate_rps": rate, "warm_up_s": 1, "window_s": 20} for rate in (500, 1000, 2000)]
    figures = run_book(analyse(make_run(profiles=["plain", "mtls"], loads=loads, blocks=6))).figures
    assert len({figure.name.split("-")[0] for figure in figures}) > 5
    for figure in figures:
        there = pickle.loads(pickle.dumps(figure))  # noqa: S301 - our own figure
        assert there.rows == figure.rows
        assert content_mark(there) == content_mark(figure)
    assert [pickle.loads(pickle.dumps(metric)) is metric for metric in METRICS] == [True] * len(METRICS)  # noqa: S301


@pytest.mark.usefixtures("two_processes")
def test_processes_write_what_would_be_drawn_here(figures: tuple[FigurePage, ...], tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    assert render_figures(figures, there, processes=2) == Rendered(len(figures), 0)
    assert render_figures(figures, here, processes=1) == Rendered(len(figures), 0)
    assert sorted(_files(there)) == sorted(f"{f.name}.{kind}" for f in figures for kind in ("png", "svg"))
    assert _files(there) == _files(here)


def test_only_what_changed_is_drawn_again(tmp_path: Path) -> None:
    pages = [_plain("one"), _plain("two"), _plain("three")]
    assert render_figures(pages, tmp_path) == Rendered(3, 0)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert render_figures(pages, tmp_path) == Rendered(0, 3)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert render_figures([*pages[:2], _plain("three", "other data")], tmp_path) == Rendered(1, 2)
    changed = {path.name for path in tmp_path.iterdir() if path.stat().st_mtime_ns != before[path.name]}
    assert changed == {"three.png", "three.svg"}
    assert b"other data" in (tmp_path / "three.svg").read_bytes()


def test_a_missing_or_foreign_file_is_drawn_again(tmp_path: Path) -> None:
    page = _plain("one")
    render_figures([page], tmp_path)
    (tmp_path / "one.svg").unlink()
    assert render_figures([page], tmp_path) == Rendered(1, 0)
    (tmp_path / "one.png").write_bytes(b"something else")
    assert render_figures([page], tmp_path) == Rendered(1, 0)
    assert render_figures([page], tmp_path) == Rendered(0, 1)


@pytest.mark.parametrize("changed", [{"title": "x"}, {"alt": "x"}, {"rows": ({"text": None},)}, {"name": "x"}])
def test_the_mark_tells_contents_apart(changed: dict[str, object]) -> None:
    page = _plain("one")
    assert content_mark(replace(page, **changed)) != content_mark(page)  # type: ignore[arg-type]
    assert content_mark(_plain("one")) == content_mark(page)


def test_new_code_draws_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = _plain("one")
    render_figures([page], tmp_path)
    monkeypatch.setattr(render, "code_key", lambda: "tomorrow's")
    assert render_figures([page], tmp_path) == Rendered(1, 0)


@pytest.mark.usefixtures("two_processes")
def test_what_cannot_travel_or_was_left_undone_is_drawn_here(tmp_path: Path) -> None:
    """A closure cannot be pickled; a function of this module cannot be imported by the process, which then dies."""
    closure = FigurePage("closure", "Title", "Alt", (), lambda: _drawn("closure"))
    assert render_figures([closure, _plain("one"), _plain("two")], tmp_path, processes=2) == Rendered(3, 0)
    assert b"closure" in (tmp_path / "closure.svg").read_bytes()
    assert len(_files(tmp_path)) == 6


@pytest.mark.usefixtures("two_processes")
def test_the_error_of_a_figure_reaches_the_caller(tmp_path: Path) -> None:
    broken = FigurePage("broken", "Title", "Alt", (), _broken)
    with pytest.raises(ValueError, match="no such axis"):
        render_figures([_plain("one"), broken], tmp_path, processes=2)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "broken"))]


@pytest.mark.usefixtures("two_processes")
def test_a_lock_held_by_another_thread_does_not_stop_the_processes(
    figures: tuple[FigurePage, ...], tmp_path: Path
) -> None:
    """As in the coordinator, where another request may be drawing: a forked process would wait for ever."""
    done: list[Rendered] = []
    with canvas._DRAWING:
        thread = threading.Thread(target=lambda: done.append(render_figures(figures[:2], tmp_path, processes=2)))
        thread.start()
        thread.join(timeout=60)
        assert done == [Rendered(2, 0)]
