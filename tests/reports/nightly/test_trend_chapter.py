"""The page of a schedule: its answer, its figures and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.trend import Trend
from reports.chapters.trend import trend_answer, trend_chapter
from reports.figures.canvas import FigurePage
from reports.pages.chapter import Chapter, Grid, Picture

Trends = Callable[..., Trend]


def figures(chapter: Chapter) -> dict[str, FigurePage]:
    return {part.figure.name: part.figure for part in chapter.parts if isinstance(part, Picture)}


def grid(chapter: Chapter, name: str) -> Grid:
    return next(part for part in chapter.parts if isinstance(part, Grid) and part.name == name)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_answer_says_that_nothing_stepped_and_what_would_have_shown(trend_of: Trends) -> None:
    answer = plain(trend_chapter(trend_of(steps=False)).answer)
    assert answer == (
        "No step in 40 nights; the smallest one that would show within 14 nights is 3.2 % in p50, 7.4 % in p99, "
        "1.5 % in cpu."
    )


def test_the_answer_names_the_gravest_step_first(trend_of: Trends) -> None:
    answer = plain(trend_answer(trend_of()))
    assert answer.startswith(
        "Confirmed: median latency (p50) of envoy latest · mtls, against no mesh (web, local, 1000rps-16c): +10.0 % "
        "since the night of 2026-09-25, with 1.40.0 to 1.41.0. 1 more step is open."
    )


def test_a_settled_step_is_no_news(trend_of: Trends) -> None:
    trend = trend_of()
    settled = tuple(replace(s, state="acknowledged", reason="known", changed_by="ada") for s in trend.steps)
    answer = trend_answer(replace(trend, steps=settled))
    assert answer.startswith("No open step in 40 nights")
    assert answer.endswith("2 earlier steps were settled.")


@pytest.mark.parametrize(
    ("nights", "answer"),
    [
        (6, "No step can show yet: 6 nights of the 17 that are needed."),
        (0, "No night of nightly has given a value yet."),
    ],
)
def test_with_few_nights_the_answer_says_how_many_are_needed(trend_of: Trends, nights: int, answer: str) -> None:
    if nights:
        assert trend_answer(trend_of(steps=False, nights=nights)) == answer
    else:
        assert trend_answer(replace(trend_of(steps=False), points=(), baseline=None)) == answer


def test_a_chapter_without_nights_can_be_shown(trend_of: Trends) -> None:
    chapter = trend_chapter(replace(trend_of(steps=False), points=(), baseline=None, annotations=()))
    assert figures(chapter) == {}


def test_each_series_and_metric_has_a_figure_with_all_its_nights(trend_of: Trends) -> None:
    found = figures(trend_chapter(trend_of()))
    assert list(found) == ["trend-1-p50", "trend-1-p99", "trend-1-cpu"]
    figure = found["trend-1-p50"]
    assert len(figure.rows) == 42  # 40 with a value, one gap, one night that never ran
    assert [row["night"] for row in figure.rows if row.get("value") is None] == [
        "2026-09-09T01:00:00+00:00", "2026-10-01T01:00:00+00:00"
    ]  # fmt: skip
    (stepped,) = [row for row in figure.rows if row.get("step")]
    assert plain(str(stepped["step"])) == "step of +10.0 %, confirmed"
    assert stepped["unit"] == "%"
    low, value, high = (float(stepped[name]) for name in ("low_95", "value", "high_95"))  # type: ignore[arg-type]
    assert low < value < high


def test_a_figure_says_its_unit_its_nights_and_the_smallest_step(trend_of: Trends) -> None:
    figure = figures(trend_chapter(trend_of()))["trend-1-p50"]
    drawn = figure.draw()
    texts = {plain(text.get_text()) for text in drawn.texts}
    assert "Difference to no mesh of the same night in %; n = 40 nights." in texts
    assert "Smallest step that would show within 14 nights: 3.2 %." in texts
    assert "1  2026-09-13: environment: hosts bench-1 kernel 6.8.0 to 6.9.1" in texts
    assert "2  2026-09-19: rack moved to the other hall (ada)" in texts
    inside = {plain(text.get_text()).strip() for text in drawn.axes[0].texts}
    assert {"+10.0 %, confirmed", "1.39.3", "1.40.0", "1.41.0", "pinned run"} <= inside
    assert "step of +10.0 %, confirmed on 2026-09-25" in plain(figure.alt)


def test_figures_can_be_drawn_with_nothing_to_draw(trend_of: Trends) -> None:
    trend = trend_of(steps=False, nights=3)
    empty = tuple(replace(point, value=None, sd=None, reason="lost") for point in trend.points)
    for one in (trend, replace(trend, points=empty), replace(trend, points=trend.points[:1], missed=())):
        for figure in figures(trend_chapter(one)).values():
            assert figure.png().startswith(b"\x89PNG")


def test_nights_without_a_value_say_why(trend_of: Trends) -> None:
    rows = [[cell.text for cell in row] for row in grid(trend_chapter(trend_of()), "gaps").rows]
    assert rows == [
        ["2026-10-01 01:00", "the whole night", "nothing was there to start it in time"],
        ["2026-09-09 01:00", "all results of the night", "1 of 3 blocks are valid, 2 are needed"],
    ]


def test_the_last_nights_are_told_in_full(trend_of: Trends) -> None:
    nights = grid(trend_chapter(trend_of()), "nights")
    assert nights.title.startswith("The last 10 nights")
    assert len(nights.rows) == 10 * 3
    first = [plain(cell.text) for cell in nights.rows[0]]
    assert first[0] == "2026-10-12 01:00"
    assert first[4:8] == ["1.41.0", "0.400", "0.600", first[7]]


def test_the_pinned_run_is_held_against_the_last_night(trend_of: Trends) -> None:
    rows = [[plain(cell.text) for cell in row] for row in grid(trend_chapter(trend_of()), "pinned").rows]
    assert rows[0][1:] == [
        "median latency (p50)", "1.39.3: +53.4 % (3 blocks)", "1.41.0: +68.9 % (3 blocks)", "+10.1 %",
        "[+5.2 %, +15.2 %]",
    ]  # fmt: skip


def test_a_pinned_run_of_another_plan_is_matched_by_its_mesh(trend_of: Trends) -> None:
    trend = trend_of()
    baseline: Any = trend.baseline
    other = tuple(replace(p, series=replace(p.series, arm="envoy 1.39.3")) for p in baseline.points)
    matched = trend_chapter(replace(trend, baseline=replace(baseline, points=other)))
    assert len(grid(matched, "pinned").rows) == 3
    elsewhere = tuple(replace(p, series=replace(p.series, load="2000rps-16c")) for p in baseline.points)
    alone = trend_chapter(replace(trend, baseline=replace(baseline, points=elsewhere)))
    assert not any(isinstance(part, Grid) and part.name == "pinned" for part in alone.parts)


def test_steps_lead_to_the_run_that_confirmed_them(trend_of: Trends) -> None:
    first, *_ = grid(trend_chapter(trend_of()), "steps").rows
    assert first[1].text == "confirmed"
    assert first[7].link == "runs/c0ffee00-0000-4000-8000-000000000001/index.html"


def test_tables_have_a_column_for_every_field(trend_of: Trends) -> None:
    for part in trend_chapter(trend_of()).parts:
        if isinstance(part, Grid):
            assert {len(row) for row in part.rows} == {len(part.columns)}
