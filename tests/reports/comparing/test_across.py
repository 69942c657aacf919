"""Any two runs: matched by what they measure, each divided by its own control, compared by Welch."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from meshgauge.errors import InvalidRequestError
from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.chapters.two_runs import two_runs_chapter
from reports.comparing.across import Across, AcrossResult, compare_runs
from reports.comparing.across_words import answer_of, remark_on, to_json
from reports.pages.chapter import Grid, Picture

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
TRUTH = {"envoy-1.40.0": 1.6, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2, "haproxy-2.8.9": 1.1}


def _named(run: RunRecord, last: int = 2, **changes: Any) -> RunRecord:
    moved = dt.timedelta(days=17)
    return replace(run, run_id=f"{last:08d}-7d3a-7000-8000-000000000002", created_at=run.created_at + moved, **changes)


def _across(first: RunRecord, second: RunRecord) -> Across:
    return compare_runs(analyse(first), analyse(second))


def _find(across: Across, label: str, metric: str = "p50") -> AcrossResult:
    return next(r for r in across.results if r.pair.label == label and r.metric.name == metric)


def _word(result: AcrossResult) -> str:
    assert result.verdict is not None
    return result.verdict.word


def test_the_numbers_are_those_of_scipys_welch_test(make_run: MakeRun) -> None:
    across = _across(make_run(ratio=TRUTH), _named(make_run(ratio=TRUTH | {"envoy-1.40.0": 1.8}, seed=2, blocks=8)))
    result = _find(across, "envoy-1.40.0 · mtls")
    oracle = stats.ttest_ind(result.second.differences, result.first.differences, equal_var=False)
    assert result.p == pytest.approx(float(oracle.pvalue))
    assert result.interval is not None
    assert (result.interval.low, result.interval.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert (_word(result), result.verdict.flags[-1] if result.verdict else "") == ("slower", "across runs")
    assert result.interval.low <= math.log(1.8 / 1.6) <= result.interval.high


def test_a_slower_day_is_no_difference(make_run: MakeRun) -> None:
    """The second day everything takes 1.5 times as long, the control included."""
    across = _across(make_run(ratio=TRUTH), _named(make_run(ratio=TRUTH, seed=2, world={"base_us": 525.0})))
    assert {_word(r) for r in across.results if r.metric.primary} <= {"equivalent", "inconclusive"}
    assert len(across.unmatched) == 0


def test_swapping_the_runs_mirrors_effect_and_verdict(make_run: MakeRun) -> None:
    one, other = make_run(ratio=TRUTH), _named(make_run(ratio=TRUTH | {"nginx-1.31.0": 1.5}, seed=2))
    forward, backward = (_find(_across(*runs), "nginx-1.31.0 · mtls") for runs in ((one, other), (other, one)))
    assert forward.effect is not None
    assert backward.effect is not None
    assert forward.effect.estimate == pytest.approx(-backward.effect.estimate)
    assert (_word(forward), _word(backward)) == ("slower", "faster")


def test_all_primary_results_are_one_family(make_run: MakeRun) -> None:
    across = _across(make_run(ratio=TRUTH), _named(make_run(ratio=TRUTH, seed=2)))
    primary = [r for r in across.results if r.metric.primary]
    assert len(primary) == 12
    oracle = stats.false_discovery_control([r.p for r in primary if r.p is not None]).tolist()
    assert [r.p_adjusted for r in primary] == pytest.approx(oracle)


def test_the_only_other_version_of_a_mesh_is_its_counterpart_and_both_versions_are_named(
    make_run: MakeRun, make_arm: MakeArm
) -> None:
    older = make_run((make_arm("none"), make_arm("envoy-1.36.4", "envoy", "1.36.4")), ratio={"envoy-1.36.4": 1.5})
    newer = make_run((make_arm("none"), make_arm("envoy-1.40.0", "envoy", "1.40.0")), seed=2)
    across = _across(older, _named(newer))
    result = _find(across, "envoy-1.40.0 · mtls vs envoy-1.36.4 · mtls")
    assert result.versions == ("envoy 1.36.4", "envoy 1.40.0")
    assert _word(result) == "faster"


def test_one_label_with_two_versions_says_which(make_run: MakeRun, make_arm: MakeArm) -> None:
    runs = [make_run((make_arm("none"), make_arm("envoy", "envoy", v))) for v in ("1.40.0", "1.40.1")]
    across = _across(runs[0], _named(runs[1]))
    assert across.results[0].pair.label == "envoy · mtls envoy 1.40.1 vs envoy 1.40.0"


def test_what_has_no_counterpart_is_listed_with_the_reason(make_run: MakeRun, make_arm: MakeArm) -> None:
    none, envoys = make_arm("none"), [make_arm(f"envoy-1.{v}.0", "envoy", f"1.{v}.0") for v in (38, 39, 40, 41)]
    first = make_run((none, *envoys[:2], make_arm("nginx", "nginx")))
    second = _named(make_run((none, *envoys[2:]), seed=2))
    across = _across(first, second)
    reasons = {(left.run[:8], left.cell.split("/")[0]): left.reason for left in across.unmatched}
    assert across.results == ()
    assert reasons[first.run_id[:8], "nginx"] == "the other run does not have it"
    assert "several versions could be meant" in reasons[second.run_id[:8], "envoy-1.41.0"]
    assert len(reasons) == 5
    assert answer_of(across).endswith("nothing to compare; no arm is in both runs with a control of its own.")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"loads": [{"rate_rps": 1000, "connections": 64, "name": "same", "window_s": 20}]},
            "the load differs: connections 16 / 64",
        ),
        (
            {"workloads": [{"name": "reply-1k", "app": "fixed-reply", "reply_bytes": 9}]},
            "the workload differs: reply_bytes 1024 / 9",
        ),
    ],
)
def test_cells_of_one_name_that_mean_different_things_are_not_compared(
    make_run: MakeRun, changes: dict[str, Any], reason: str
) -> None:
    loads = [{"rate_rps": 1000, "connections": 16, "name": "same", "window_s": 20}]
    across = _across(make_run(loads=loads), _named(make_run(**{"loads": loads, **changes})))
    assert across.results == ()
    assert {left.reason for left in across.unmatched} == {reason}


def test_a_run_without_controls_cannot_be_compared(make_run: MakeRun) -> None:
    across = _across(make_run(), _named(make_run(baseline="linkerd")))
    assert across.results == ()
    assert any("has no control (linkerd) in its own run" in left.reason for left in across.unmatched)


def test_too_few_blocks_in_either_run_give_no_verdict(make_run: MakeRun) -> None:
    across = _across(make_run(), _named(make_run(edit=lambda t: t if t.block < 5 else None)))
    result = _find(across, "envoy-1.40.0 · mtls")
    assert result.verdict is not None
    assert result.verdict.reason == "second run: 5 of 10 planned blocks are valid; a verdict needs 8"
    assert result.interval is not None


def test_different_engines_are_never_compared(make_run: MakeRun) -> None:
    def by_python(trial: Any) -> Any:
        return replace(trial, load=replace(trial.load, engine="python"))

    across = _across(make_run(), _named(make_run(edit=by_python)))
    result = _find(across, "envoy-1.40.0 · mtls")
    assert result.verdict is not None
    assert result.verdict.reason == "different load engines (native, python) are never compared"
    assert any(c.fact == "load engine" and c.weighty for c in across.conditions)


def test_an_aa_alarm_in_one_run_withholds_verdicts_across(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (make_arm("none"), make_arm("none-again"), make_arm("envoy", "envoy"))
    across = _across(make_run(arms, ratio={"none-again": 1.2}), _named(make_run(arms, ratio={"envoy": 2.0}, seed=2)))
    result = _find(across, "envoy · mtls")
    assert result.verdict is not None
    assert result.verdict.word == "invalid"
    assert "first run" in result.verdict.reason
    assert "withheld" in result.verdict.reason


def test_differing_hosts_kernels_and_tuning_are_stated_first(make_run: MakeRun) -> None:
    first, second = make_run(), make_run(seed=2)
    hosts = {"bench-2": {"cores": 8, "kernel": "6.12.0", "memory_bytes": 16 * 2**30}}
    moved = tuple(replace(e, host="bench-2") for e in second.environments)
    across = _across(first, _named(second, provenance={**second.provenance, "hosts": hosts}, environments=moved))
    facts = {c.fact: (c.first, c.second, c.weighty) for c in across.conditions}
    assert facts["hosts"] == ("bench-1", "bench-2", True)
    assert facts["host: kernel"] == ("6.8.0", "6.12.0", True)
    assert facts["made"][1].endswith("(17.0 days apart)")
    assert "host: cores" not in facts
    assert [c.weighty for c in across.conditions] == sorted((c.weighty for c in across.conditions), reverse=True)
    chapter = two_runs_chapter(across)
    assert "Not the same in both runs: hosts, host: kernel" in chapter.answer
    (grid,) = (part for part in chapter.parts if isinstance(part, Grid) and part.name == "conditions")
    assert [cell.text for cell in grid.rows[0]] == ["hosts", "bench-1", "bench-2", "may move results"]


def test_a_run_is_not_compared_with_itself(make_run: MakeRun) -> None:
    with pytest.raises(InvalidRequestError, match="two different runs"):
        _across(make_run(), make_run())


def test_an_inconclusive_result_says_what_it_would_take(make_run: MakeRun) -> None:
    noisy = {"run_sd": 0.08}
    result = _find(_across(make_run(world=noisy), _named(make_run(world=noisy, seed=2))), "nginx-1.31.0 · mtls")
    assert _word(result) == "inconclusive"
    assert remark_on(result).startswith("10 + 10 blocks show ")
    assert remark_on(result).endswith("is not reachable across runs here")


def test_the_chapter_and_the_json_tell_the_same_numbers(make_run: MakeRun) -> None:
    across = _across(make_run(ratio=TRUTH), _named(make_run(ratio=TRUTH | {"envoy-1.40.0": 1.8}, seed=2)))
    chapter, document = two_runs_chapter(across), to_json(across)
    assert chapter.answer == document["answer"]
    assert "1 slower (envoy-1.40.0 · mtls +" in chapter.answer
    rows = [row for row in document["results"] if row["metric"] == "p50"]
    (grid,) = (part for part in chapter.parts if isinstance(part, Grid) and part.name == "two-runs-1")
    shown = [row for row in grid.rows if row[1].text.startswith("median")]
    for row, cells in zip(rows, shown, strict=True):
        assert cells[0].text == row["label"]
        assert cells[2].text.startswith(row["verdict"])
        assert float(cells[3].text.split("\N{NO-BREAK SPACE}")[0].replace("−", "-")) == pytest.approx(
            row["difference"], abs=0.06
        )
    (picture,) = (part for part in chapter.parts if isinstance(part, Picture))
    assert len(picture.figure.rows) == 12
    assert picture.figure.png().startswith(b"\x89PNG")


def test_a_sequential_run_sets_the_level_for_both(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (make_arm("none"), make_arm("envoy", "envoy"))
    across = _across(make_run(arms), _named(make_run(arms, seed=2, blocks=20, sequential=True)))
    assert to_json(across)["level"] == pytest.approx(0.982)
    heads = [
        part.columns for part in two_runs_chapter(across).parts if isinstance(part, Grid) and part.name == "two-runs-1"
    ]
    assert "98.2\N{NO-BREAK SPACE}% interval" in heads[0]
