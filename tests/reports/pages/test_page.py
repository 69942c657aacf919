"""The page: true numbers, escaped names, nothing from outside, and something to say in every state."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.pages.chapter import Grid, Listing
from reports.pages.csv_text import to_csv
from reports.pages.document import figures_of, page_style, security_policy
from reports.pages.page import MOST_SCOPES, document_chapters, render_analysis, run_chapters
from reports.wording import blocks_compared, difference, interval, level, verdict_text

MakeRun = Callable[..., RunRecord]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2}
RUN = "0190f0c2-7d3a-7000-8000-000000000001"
LOADS = [{"rate_rps": rate, "window_s": 20} for rate in (500, 1000, 2000)]
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects rows of tables, attributes of tags, and whether tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag in {"td", "th"} and self._cell is not None:
            self.rows[-1].append(" ".join("".join(self._cell).split(" ")).strip())
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._cell is not None:
            self._cell.append(data)


def whole_page(run: RunRecord) -> str:
    """Return the report of a run as one document."""
    return render_analysis(analyse(run))


def test_every_comparison_on_the_page_is_the_computed_one(make_run: MakeRun) -> None:
    run = make_run(ratio=TRUTH)
    shown = Page(whole_page(run)).rows
    for answer in analyse(run).answers:
        for c in answer.comparisons:
            word = verdict_text(c.verdict) if c.verdict else verdict_text(None)
            unit = c.metric.unit
            row = [c.pair.label, c.metric.title, word, difference(c), interval(c), blocks_compared(c)]
            row += [level(c.arm_level, unit), level(c.control_level, unit)]
            assert row in [found[: len(row)] for found in shown], (c.pair, c.metric)


def test_every_trial_is_on_the_page_with_its_values(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    page = Page(whole_page(run))
    for turn in analyse(run).readings.trials:
        values = [level(turn.reading[name]) for name in ("p50", "p99", "achieved_rps", "errors")]
        start = [str(turn.trial.block + 1), str(turn.trial.position + 1)]
        assert any(row[:2] == start and row[6:10] == values for row in page.rows), turn.trial.trial_id


def test_the_page_is_well_formed_and_asks_for_nothing(make_run: MakeRun) -> None:
    page = Page(whole_page(make_run(blocks=6)))
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)


def test_every_place_a_link_leads_to_is_in_the_page(make_run: MakeRun) -> None:
    page = Page(whole_page(make_run(blocks=6, loads=LOADS)))
    places = [found for _, attributes in page.tags if (found := attributes.get("id"))]
    assert len(set(places)) == len(places)
    targets = {a["href"][1:] for tag, a in page.tags if tag == "a" and (a.get("href") or "").startswith("#")}  # type: ignore[index]
    assert targets <= set(places)


def test_the_policy_allows_the_pages_own_style_and_is_part_of_it(make_run: MakeRun) -> None:
    text = whole_page(make_run(blocks=1))
    assert f"<style>{page_style()}</style>" in text
    policies = [a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [security_policy("embedded")]


def test_every_picture_has_an_alternative_text_and_its_data_one_click_away(make_run: MakeRun) -> None:
    run = make_run(blocks=6, ratio=TRUTH)
    page = Page(whole_page(run))
    figures = figures_of(run_chapters(analyse(run)))
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    links = {a.get("download"): a.get("href") or "" for tag, a in page.tags if tag == "a"}
    assert set(alts) == {figure.alt for figure in figures}
    for figure in figures:
        encoded = links[f"{figure.name}.csv"].partition("base64,")[2]
        assert base64.b64decode(encoded).decode() == to_csv(figure.rows)


def test_the_answer_is_the_first_line_and_each_page_of_the_run_is_named_with_its_own(make_run: MakeRun) -> None:
    chapters = run_chapters(analyse(make_run(ratio=TRUTH)))
    first = chapters[0]
    assert first.answer.startswith("Median request against no mesh: 3 slower")
    listing = next(part for part in first.parts if isinstance(part, Grid) and part.name == "pages")
    told = {row[0].text: row[1].text for row in listing.rows}
    assert all(told[chapter.title] == chapter.answer for chapter in chapters[2:])


HOSTILE = "<script>alert(1)</script>\"&'{{ 7*7 }}$x^$"


def test_hostile_texts_are_escaped_everywhere(make_run: MakeRun, make_arm: Callable[..., MeshArm]) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        return replace(trial, state="failed", reason=HOSTILE, load=None, gates=()) if trial.block == 1 else trial

    run = make_run((make_arm("none"), make_arm("evil", "envoy")), blocks=6, edit=failing, description=HOSTILE)
    hop = {"client": {"tls": HOSTILE, "x\ny": HOSTILE}}
    environments = tuple(replace(e, reason=HOSTILE, outcome="failed") for e in run.environments)
    text = whole_page(
        replace(
            run,
            reason=HOSTILE,
            state="failed",
            submitted_by=HOSTILE,
            environments=environments,
            features=dict.fromkeys(run.features, hop),
            provenance={HOSTILE: {"nested": [HOSTILE]}, "hosts": {HOSTILE: {"kernel": HOSTILE}}},
        )
    )
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script" not in text
    assert "".join(page.text).count(HOSTILE) >= 8  # as it was written, the template braces included


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
def test_a_run_without_any_trial_still_says_what_is_missing(make_run: MakeRun, state: str) -> None:
    run = replace(make_run(blocks=6, state=state, edit=lambda _: None), started_at=None, finished_at=None)
    page = Page(whole_page(run))
    said = " ".join(page.text)
    assert "0 trials were measured so far" in said
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_one_block_shows_levels_and_no_verdict(make_run: MakeRun) -> None:
    said = " ".join(Page(whole_page(make_run(blocks=1))).text)
    assert "No verdict: 1 of 1 planned blocks are valid; a verdict needs 6." in said


def test_a_run_whose_baseline_is_missing_says_so(make_run: MakeRun, make_arm: Callable[..., MeshArm]) -> None:
    run = make_run((make_arm("envoy", "envoy"),), blocks=6)
    said = " ".join(" ".join(Page(whole_page(run)).text).split())
    assert "Nothing to compare in" in said
    assert "the plan's baseline is “none”" in said


def test_invalid_trials_are_shown_with_their_reason(make_run: MakeRun) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        died = replace(trial, state="failed", reason="envoy died: signal 9", load=None, gates=())
        return died if trial.trial_id == "trial-7" else trial

    run = make_run(edit=failing)
    page = Page(whole_page(run))
    assert [row[5] for row in page.rows if row[-1] == "envoy died: signal 9"] == ["failed"]


def test_each_scope_has_a_page_of_its_own_and_an_answer_on_the_first(make_run: MakeRun) -> None:
    chapters = run_chapters(analyse(make_run(blocks=6, loads=LOADS)))
    results = [chapter for chapter in chapters if chapter.slug.startswith("results-")]
    assert [chapter.slug for chapter in results] == ["results-1", "results-2", "results-3"]
    answers = next(part for part in chapters[0].parts if isinstance(part, Grid) and part.name == "answers")
    assert [row[0].link for row in answers.rows] == [f"runs/{RUN}/{chapter.slug}.html" for chapter in results]


def test_one_document_holds_the_first_scopes_only_so_that_it_opens_on_a_phone(make_run: MakeRun) -> None:
    loads = [{"rate_rps": rate, "window_s": 20} for rate in range(500, 500 + 100 * (MOST_SCOPES + 3), 100)]
    chapters = run_chapters(analyse(make_run(blocks=1, loads=loads)))
    kept = [c.slug for c in document_chapters(chapters) if c.slug.startswith("results-")]
    assert kept == [f"results-{at}" for at in range(1, MOST_SCOPES + 1)]


def test_settings_in_which_two_meshes_differ_stand_beside_their_verdict(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    older = {key: features for key, features in run.features.items() if key.startswith("envoy-1.36")}
    changed = {key: {role: {**f, "retries": "2"} for role, f in roles.items()} for key, roles in older.items()}
    (results,) = [
        chapter
        for chapter in run_chapters(analyse(replace(run, features={**run.features, **changed})))
        if chapter.slug == "results-1"
    ]
    listings = [part for part in results.parts if isinstance(part, Listing)]
    assert (("envoy-1.40.0 vs envoy-1.36.4 · mtls", "retries"),) in [part.points for part in listings]
