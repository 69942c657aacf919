"""The page: true numbers, escaped names, nothing from outside, and something to say in every state."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.csv_text import to_csv
from reports.figures.gallery import gallery_of
from reports.page import page_security_policy, page_style, render_run_page
from reports.wording import blocks_compared, difference, interval, level, verdict_text

MakeRun = Callable[..., RunRecord]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2}
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


def test_every_comparison_on_the_page_is_the_computed_one(make_run: MakeRun) -> None:
    run = make_run(ratio=TRUTH)
    page = Page(render_run_page(run))
    shown = [row for row in page.rows if len(row) == 8]
    for answer in analyse(run).answers:
        for c in answer.comparisons:
            what = difference(c) if c.metric.scale == "ratio" else difference(c).split("\xa0")[0]
            numbers = [level(c.control_level), level(c.arm_level), what, interval(c)]
            word = verdict_text(c.verdict) if c.verdict else ""
            assert any(row[1:5] == numbers and row[6:] == [blocks_compared(c), word] for row in shown), (
                c.pair,
                c.metric,
            )


def test_every_trial_is_on_the_page_with_its_values(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    page = Page(render_run_page(run))
    for turn in analyse(run).readings.trials:
        values = [level(turn.reading[name]) for name in ("p50", "p99", "achieved_rps", "errors")]
        start = [str(turn.trial.block + 1), str(turn.trial.position + 1)]
        assert any(row[:2] == start and row[4:8] == values for row in page.rows), turn.trial.trial_id


def test_the_page_is_well_formed_and_asks_for_nothing(make_run: MakeRun) -> None:
    page = Page(render_run_page(make_run(blocks=6)))
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
    assert not re.search(r"url\(|@import|https?:", page_style())


def test_the_policy_allows_the_pages_own_style_and_is_part_of_it(make_run: MakeRun) -> None:
    text = render_run_page(make_run(blocks=1))
    assert f"<style>{page_style()}</style>" in text
    policies = [a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [page_security_policy()]
    assert "default-src 'none'" in page_security_policy()


def test_every_picture_has_an_alternative_text_and_its_data_one_click_away(make_run: MakeRun) -> None:
    run = make_run(blocks=6, ratio=TRUTH)
    page = Page(render_run_page(run))
    figures = gallery_of(analyse(run)).all
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    links = {a.get("download"): a.get("href") or "" for tag, a in page.tags if tag == "a"}
    assert alts == [figure.alt for figure in figures]
    for figure in figures:
        encoded = links[f"{figure.name}.csv"].partition("base64,")[2]
        assert base64.b64decode(encoded).decode() == to_csv(figure.rows)


HOSTILE = "<script>alert(1)</script>\"&'{{ 7*7 }}$x^$"


def test_hostile_texts_are_escaped_everywhere(make_run: MakeRun, make_arm: Callable[..., MeshArm]) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        return replace(trial, state="failed", reason=HOSTILE, load=None, gates=()) if trial.block == 1 else trial

    run = make_run((make_arm("none"), make_arm("evil", "envoy")), blocks=6, edit=failing, description=HOSTILE)
    hop = {"client": {"tls": HOSTILE, "x\ny": HOSTILE}}
    environments = tuple(replace(e, reason=HOSTILE, outcome="failed") for e in run.environments)
    text = render_run_page(
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
    page = Page(render_run_page(run))
    said = " ".join(page.text)
    assert "0 trials were measured so far" in said
    assert "No trial was made." in said
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_one_block_shows_levels_and_no_verdict(make_run: MakeRun) -> None:
    said = " ".join(Page(render_run_page(make_run(blocks=1))).text)
    assert "No verdict: 1 of 1 planned blocks are valid; a verdict needs 6." in said


def test_a_run_whose_baseline_is_missing_says_so(make_run: MakeRun, make_arm: Callable[..., MeshArm]) -> None:
    run = make_run((make_arm("envoy", "envoy"),), blocks=6)
    said = " ".join(" ".join(Page(render_run_page(run)).text).split())
    assert "Nothing to compare in" in said
    assert "The plan's baseline is “none”" in said


def test_invalid_trials_are_shown_with_their_reason(make_run: MakeRun) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        died = replace(trial, state="failed", reason="envoy died: signal 9", load=None, gates=())
        return died if trial.trial_id == "trial-7" else trial

    run = make_run(edit=failing)
    page = Page(render_run_page(run))
    at = next(at for at, row in enumerate(page.rows) if "invalid (failed)" in row)
    assert page.rows[at + 1] == ["envoy died: signal 9"]


def test_features_that_differ_come_first_and_are_marked(make_run: MakeRun) -> None:
    text = render_run_page(make_run(blocks=1))
    section = text[text.index('id="features"') : text.index('id="scope-1"')]
    rows = re.findall(r'<tr( class="differs")?><th scope="row">(.*?)</th>', section)
    assert rows[0] == (' class="differs"', "tls")
    assert [name for marked, name in rows if not marked] == ["threads", "http upstream", "retries"]


def test_many_scopes_have_a_section_each(make_run: MakeRun) -> None:
    loads = [{"rate_rps": rate, "window_s": 20} for rate in (500, 1000, 2000)]
    text = render_run_page(make_run(blocks=6, loads=loads))
    assert len(re.findall(r'<section id="scope-\d+">', text)) == 3
    identifiers = re.findall(r'\sid="([^"]+)"', text)
    assert len(set(identifiers)) == len(identifiers)


def test_settings_in_which_two_meshes_differ_stand_beside_their_verdict(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    older = {key: features for key, features in run.features.items() if key.startswith("envoy-1.36")}
    changed = {key: {role: {**f, "retries": "2"} for role, f in roles.items()} for key, roles in older.items()}
    page = Page(render_run_page(replace(run, features={**run.features, **changed})))
    assert ["Set differently on the two sides: retries (features in play)."] in page.rows
