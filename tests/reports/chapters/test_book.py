"""Chapters of runs in every state: an answer always, no verdict word where none was given, tables that add up."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from meshgauge.matrix import Hop, MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, TrialRecord
from reports.pages.chapter import Chapter, Grid, Heading, Picture

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
Read = Callable[[RunRecord], Any]
States = Mapping[str, Callable[[], RunRecord]]
LOADS = [
    {"rate_rps": rate, "connections": 16, "warm_up_s": 3, "window_s": 20, "cool_down_s": 1}
    for rate in (500, 1000, 2000)
]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2, "haproxy-2.8.9": 1.4}
JUDGED = {"slower", "faster", "more", "less", "equivalent", "inconclusive"}


def _unmeasured(trial: TrialRecord) -> TrialRecord:
    return replace(trial, load=None, usage=(), gates=(), state="pending", started_at=None, finished_at=None)


def _spoilt(trial: TrialRecord) -> TrialRecord:
    gate = GateResult("steal_mean", "invalid", frozenset({"latency", "cpu"}), 30.0, 10.0, "%", "host steal: 30 %")
    return replace(trial, gates=(gate,), state="invalid")


def _failed(trial: TrialRecord) -> TrialRecord:
    return replace(trial, load=None, usage=(), gates=(), state="failed", reason="the proxy did not start")


@pytest.fixture
def states(make_run: MakeRun, make_arm: MakeArm) -> States:
    """Return how to make one run of every state a report may be asked for."""
    twins = (make_arm("none"), make_arm("none-again"), make_arm("envoy-1.40.0", "envoy", "1.40.0"))
    envoy, haproxy = Hop("client", "envoy", "1.40.0"), Hop("server", "haproxy", "2.8.9")
    mixed = (make_arm("none"), MeshArm("mixed", "pair", (envoy, haproxy)))
    return {
        "done": partial(make_run, ratio=TRUTH),
        "queued": partial(make_run, state="queued", edit=lambda _: None),
        "running": partial(make_run, ratio=TRUTH, state="running", edit=lambda t: _unmeasured(t) if t.block > 3 else t),
        "cancelled": partial(make_run, ratio=TRUTH, state="cancelled", edit=lambda t: None if t.block else t),
        "failed": partial(make_run, state="failed", edit=_failed),
        "all invalid": partial(make_run, ratio=TRUTH, edit=_spoilt),
        "few blocks": partial(make_run, ratio=TRUTH, blocks=4),
        "one block": partial(make_run, ratio=TRUTH, blocks=1),
        "one arm": partial(make_run, (make_arm("none"),)),
        "a mesh alone": partial(make_run, (make_arm("envoy-1.40.0", "envoy", "1.40.0"),)),
        "baseline is a mesh": partial(make_run, ratio=TRUTH, baseline="envoy-1.36.4"),
        "sequential": partial(make_run, ratio=TRUTH, sequential=True, blocks=20),
        "several rates": partial(make_run, ratio=TRUTH, loads=LOADS, blocks=6),
        "several profiles": partial(make_run, ratio=TRUTH, profiles=["plain", "mtls"], blocks=6),
        "closed loop": partial(make_run, ratio=TRUTH, loads=[{"loop": "closed", "connections": 4}], blocks=6),
        "alarm": partial(make_run, twins, ratio={"none-again": 1.3, "envoy-1.40.0": 1.6}),
        "mixed pair": partial(make_run, mixed, ratio={"mixed": 1.4}),
    }


def _grids(chapter: Chapter) -> Iterator[Grid]:
    yield from (part for part in chapter.parts if isinstance(part, Grid))


def test_every_chapter_of_every_state_has_an_answer_and_sound_tables(states: States, read: Read) -> None:
    for name, make in states.items():
        book = read(make())
        assert {"diary", "provenance"} <= set(book.chapters), name
        for slug, chapter in book.chapters.items():
            assert chapter.answer.strip().endswith("."), (name, slug, chapter.answer)
            assert "None" not in book.words(slug), (name, slug)
            assert "nan" not in book.words(slug).split(), (name, slug)
            names = [grid.name for grid in _grids(chapter)]
            assert len(set(names)) == len(names), (name, slug, names)
            anchors = [part.anchor for part in chapter.parts if isinstance(part, Heading)]
            assert len(set(anchors)) == len(anchors), (name, slug)
            for grid in _grids(chapter):
                assert grid.rows, (name, slug, grid.name)
                assert all(len(row) == len(grid.columns) for row in grid.rows), (name, slug, grid.name)
                assert all(column < len(grid.columns) for column in grid.numeric)


def test_the_answer_of_an_unfinished_run_says_so_first(states: States, read: Read) -> None:
    begins = {"running": "So far: ", "cancelled": "The run was cancelled; ", "failed": "The run failed; "}
    for name, start in begins.items():
        book = read(states[name]())
        assert all(
            chapter.answer.startswith(start) or slug in {"provenance", "configuration"}
            for slug, chapter in book.chapters.items()
        )


@pytest.mark.parametrize("name", ["alarm", "all invalid", "few blocks", "one block", "closed loop"])
def test_no_verdict_word_stands_where_the_analysis_gave_none(states: States, read: Read, name: str) -> None:
    book = read(states[name]())
    for slug, chapter in book.chapters.items():
        # A thing against itself keeps its words: they are why the others are withheld.
        others = [grid for grid in _grids(chapter) if grid.name != "aa"]
        tones = {cell.tone for grid in others for row in grid.rows for cell in row}
        assert not tones & JUDGED, (name, slug, tones & JUDGED)
        ranks = [row[1].text for grid in _grids(chapter) if grid.name.startswith("ranks") for row in grid.rows]
        assert set(ranks) <= {"not ranked"}, (name, slug)


def test_a_withheld_run_says_why_in_the_first_line_of_each_comparison(states: States, read: Read) -> None:
    book = read(states["alarm"]())
    assert "comparisons of a thing with itself came out different" in book["steadiness"].answer
    assert "comparisons of a thing with itself came out different" in book["which-requests"].answer


def test_every_figure_has_title_alt_text_and_data_and_can_be_drawn_elsewhere(states: States, read: Read) -> None:
    for name in ("one block", "sequential", "several rates", "mixed pair"):
        book = read(states[name]())
        seen: dict[str, tuple[str, str]] = {}
        for chapter in book.chapters.values():
            for part in chapter.parts:
                if isinstance(part, Picture):
                    page = part.figure
                    assert page.rows, (name, page.name)
                    assert len(page.alt) > 40, (name, page.name)
                    assert seen.setdefault(page.name, (page.title, page.alt)) == (page.title, page.alt), page.name
                    figure = pickle.loads(pickle.dumps(page)).draw()  # noqa: S301 - made one line above
                    assert figure.texts[0].get_text()


def test_tables_say_the_level_of_a_plan_that_looks_early(states: States, read: Read) -> None:
    book = read(states["sequential"]())
    grid = next(grid for grid in _grids(book["mesh-against-mesh"]) if grid.name == "results-1")
    assert "98.2\N{NO-BREAK SPACE}% interval" in grid.columns
    words = [text.get_text() for text in book.figures("releases")[0].draw().texts]
    assert any("98.2\N{NO-BREAK SPACE}% interval" in word for word in words)


def test_chapters_without_data_are_left_out(states: States, read: Read) -> None:
    assert set(read(states["one arm"]()).chapters) == {"cost", "steadiness", "diary", "provenance"}
    assert "rates" not in read(states["done"]())
    assert "interoperability" not in read(states["done"]())
    assert "application-versions" not in read(states["done"]())
    assert set(read(states["queued"]()).chapters) <= {
        "configuration",
        "diary",
        "provenance",
        "mesh-against-mesh",
        "releases",
    }
