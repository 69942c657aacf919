"""Numbers and answers in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.headlines import headlines, overall
from reports.wording import ABSENT, NBSP, added, companion, difference, interval, level, on_scale, signed

MakeRun = Callable[..., RunRecord]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2, "haproxy-2.8.9": 1.1}


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(61.2, 0, "+61"), (-3.04, 1, "−3.0"), (-0.001, 1, "0.0"), (0.0, 0, "0")]
)
def test_signs_are_shown_and_zero_has_none(value: float, decimals: int, text: str) -> None:
    assert signed(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (0.36261, "0.363"), (1234.5, "1,234"), (0.0123, "0.0123"), (12.34, "12.3")],
)
def test_levels_have_three_digits_and_a_missing_one_is_a_dash(value: float | None, text: str) -> None:
    assert level(value) == text
    assert level(value, "ms").startswith(text)


def test_the_first_line_is_the_answer_with_its_range_and_cost(make_run: MakeRun) -> None:
    first = headlines(analyse(make_run(ratio=TRUTH, cores={"nginx-1.31.0": 0.1})))[0]
    assert first.text.startswith("All 4 meshes make the median request slower than no mesh, by ")
    assert "(haproxy-2.8.9 · mtls)" in first.text
    assert "(envoy-1.36.4 · mtls)" in first.text
    assert "cores per 1000 requests a second" in first.text


def test_each_arms_sentence_has_size_interval_milliseconds_and_cost(make_run: MakeRun) -> None:
    analysis = analyse(make_run(ratio=TRUTH))
    sentences = dict(headlines(analysis)[0].sentences)
    text = sentences["envoy-1.40.0 · mtls"]
    c = next(c for c in analysis.answers[0].comparisons if c.pair.label == "envoy-1.40.0 · mtls")
    assert f"the median request is {difference(c).lstrip('+')} slower than no mesh [" in text
    assert f"{added(c)} in this run" in text
    assert "its 2 proxies cost 0.398 [0.393, 0.403] cores per 1000 rps." in text


def test_a_single_block_has_a_size_and_no_interval(make_run: MakeRun) -> None:
    sentences = [text for answer in headlines(analyse(make_run(blocks=1, ratio=TRUTH))) for _, text in answer.sentences]
    assert any(text.endswith("cores per 1000 rps in a single block.") for text in sentences)
    assert any("CPU of the proxies" in text and "in a single block (app and data plane:" in text for text in sentences)
    assert not any(ABSENT in text for text in sentences)


def test_an_inconclusive_answer_says_what_it_would_take(make_run: MakeRun) -> None:
    analysis = analyse(make_run(blocks=10, seed=4, world={"run_sd": 0.025}))
    c = next(c for c in analysis.answers[0].comparisons if c.verdict and c.verdict.word == "inconclusive")
    assert c.needed is not None
    assert c.needed <= 30
    sentence = dict(headlines(analysis)[0].sentences)[c.pair.label]
    assert (
        f"{difference(c)} {interval(c)}; about {c.needed} blocks would show {on_scale(c.metric, c.margin)}" in sentence
    )
    assert companion(c).endswith(f"the margin of {on_scale(c.metric, c.margin)} takes about {c.needed} blocks")


def test_a_margin_out_of_reach_is_called_so_with_the_smallest_detectable_effect(make_run: MakeRun) -> None:
    analysis = analyse(make_run(blocks=6, world={"run_sd": 0.08}))
    c = analysis.answers[0].comparisons[0]
    assert c.needed is not None
    assert c.needed > 30
    assert c.detectable is not None
    least = f"{100 * math.expm1(c.detectable):.1f}{NBSP}%"
    sentence = headlines(analysis)[0].sentences[0][1]
    assert f"3.0{NBSP}% is not reachable here, 6 blocks show {least} or more" in sentence
    assert companion(c) == (
        f"6 blocks show {least} or more; the margin of 3.0{NBSP}% is not reachable here: "
        f"it takes about {c.needed} blocks"
    )


def test_a_run_without_valid_blocks_says_so_first(make_run: MakeRun) -> None:
    text = headlines(analyse(make_run(blocks=10, edit=lambda t: t if t.block < 3 else None)))[0].text
    assert text == "No verdict: 3 of 10 planned blocks are valid; a verdict needs 8."


def test_different_reasons_for_no_verdict_are_summed_up(make_run: MakeRun) -> None:
    run = make_run(blocks=10, edit=lambda t: t if t.block < (5 if t.cell.startswith("nginx") else 3) else None)
    none_too = replace(
        run, trials=(*run.trials, *(t for t in make_run().trials if t.block in {3, 4} and "none/" in t.cell))
    )
    text = headlines(analyse(none_too))[0].text
    assert text == "No verdict: 3 to 5 of 10 planned blocks are valid; each table below says why."


def test_mixed_results_are_counted_and_named(make_run: MakeRun) -> None:
    text = headlines(analyse(make_run(ratio={"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7})))[0].text
    assert text.startswith("Median request against no mesh: 2 slower (envoy-1.40.0 · mtls +")


def test_the_same_thing_twice_says_how_large_noise_is(make_run: MakeRun, make_arm: Callable[..., MeshArm]) -> None:
    arms = (make_arm("none"), make_arm("none-again"))
    assert "results differ at p < 0.05; the largest difference is" in headlines(analyse(make_run(arms)))[0].text


def test_several_scopes_have_one_first_line_over_all(make_run: MakeRun) -> None:
    loads = [{"rate_rps": rate, "window_s": 20} for rate in (500, 1000)]
    analysis = analyse(make_run(ratio=TRUTH, loads=loads))
    text = overall(analysis)
    assert text is not None
    assert text.startswith("All 8 combinations of mesh, profile and load make the median request slower than no mesh")
    assert overall(analyse(make_run(ratio=TRUTH))) is None
