"""The page about thresholds: the gate's own answer, its checks in a table, and how to confirm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.chapters.book import chapters_of
from reports.chapters.thresholds import thresholds_chapter
from reports.pages.chapter import Grid, Text
from reports.thresholds.holding import hold

Runs = Callable[..., RunRecord]
CHECKS = (
    {"metric": "p99", "at_most": 5},
    {"metric": "p50", "worse_by_at_most": 5},
    {"metric": "errors", "at_most": 0.1},
)


def test_its_first_line_is_the_answer_of_the_gate_and_its_table_has_every_check(run_with: Runs) -> None:
    analysis = analyse(run_with(*CHECKS, new=1.12))
    chapter = thresholds_chapter(analysis)
    assert chapter is not None
    outcome = hold(analysis)
    assert chapter.answer == outcome.sentence
    (grid,) = [part for part in chapter.parts if isinstance(part, Grid)]
    assert len(grid.rows) == len(outcome.checks) == 5
    assert all(len(row) == len(grid.columns) for row in grid.rows)
    assert [row[-1].text for row in grid.rows] == ["failed (unconfirmed)", "passed", "passed", "passed", "passed"]
    assert grid.rows[0][3].text.endswith("(90 %)")
    assert grid.rows[1][3].text.endswith("(95 %)")


def test_it_says_how_to_confirm_only_where_something_waits_for_it(run_with: Runs) -> None:
    def told(new: float) -> str:
        chapter = thresholds_chapter(analyse(run_with(*CHECKS, new=new)))
        assert chapter is not None
        return " ".join(text for part in chapter.parts if isinstance(part, Text) for text in part.paragraphs)

    assert "--confirm repeats their 2 cells on 10 fresh blocks" in told(1.12)
    assert "--confirm" not in told(1.0)


def test_a_plan_without_thresholds_has_no_such_page_and_one_with_them_has(run_with: Runs) -> None:
    assert thresholds_chapter(analyse(run_with())) is None
    assert "thresholds" in {chapter.slug for chapter in chapters_of(analyse(run_with(CHECKS[0])))}


def test_a_threshold_that_selects_nothing_is_said_and_breaks_no_page(run_with: Runs) -> None:
    chapter = thresholds_chapter(analyse(run_with({"metric": "p50", "at_most": 1, "where": {"mesh": "envoi"}})))
    assert chapter is not None
    assert "selects no cell" in chapter.answer


def test_a_run_without_a_single_trial_has_the_page(run_with: Runs) -> None:
    chapter = thresholds_chapter(analyse(replace(run_with(*CHECKS), trials=(), state="queued", finished_at=None)))
    assert chapter is not None
    assert chapter.answer.startswith("Undecided")
