"""The whole system measures meshes of known cost: the truth must lie in the interval (measurement.md 8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.comparing.comparison import Comparison

PROGRAM = Path(__file__).parent / "delay_mesh" / "delay_proxy.py"
EXTRA_MS = {"delay-plus-0-again": 0.0, "delay-plus-5": 0.1, "delay-plus-20": 0.4}  # of 2 ms

RunPlan = Callable[[str], RunRecord]


def plan_of(meshes: list[str], blocks: int, window_s: float) -> str:
    entries = "".join(
        f"- {{adapter: {name}, label: {name}, placement: server, binary: {PROGRAM}}}\n" for name in meshes
    )
    return (
        f"name: known-truth\nmeshes:\n{entries}baseline: delay-plus-0\nprofiles: [plain]\n"
        "workloads: {name: http-1k, app: fixed-reply, reply_bytes: 1024}\n"
        f"loads: {{rate_rps: 300, connections: 16, warm_up_s: 1, window_s: {window_s}, cool_down_s: 0}}\n"
        f"blocks: {blocks}\nseed: 11\n"
    )


def median_of(run: RunRecord) -> dict[str, Comparison]:
    """Return the comparison of the median for each mesh against the one that adds nothing."""
    (answer,) = [a for a in analyse(run).answers if a.question.key == "baseline"]
    return {c.pair.cell.environment.mesh.label: c for c in answer.comparisons if c.metric.name == "p50"}


def true_effect(comparison: Comparison) -> float:
    """Return the ln ratio that the delay gives over the control as it was measured in the same run."""
    assert comparison.control_level is not None
    extra_ms = EXTRA_MS[comparison.pair.cell.environment.mesh.label]
    return math.log1p(extra_ms / comparison.control_level)


@pytest.mark.slow
def test_known_delays_are_found_with_the_truth_in_the_interval(run_plan: RunPlan) -> None:
    run = run_plan(plan_of(["delay-plus-0", *EXTRA_MS], blocks=8, window_s=5))
    assert run.state == "done"
    medians = median_of(run)
    for comparison in medians.values():
        assert comparison.interval is not None
        # A tenth of a millisecond of the instrument's own is granted on top (measurement.md 8).
        slack = 0.1 / (comparison.control_level or math.nan)
        assert comparison.interval.low - slack <= true_effect(comparison) <= comparison.interval.high + slack
    words = {label: comparison.verdict.word for label, comparison in medians.items() if comparison.verdict}
    assert words["delay-plus-0-again"] in {"equivalent", "inconclusive"}
    assert words["delay-plus-5"] == "slower"
    assert words["delay-plus-20"] == "slower"


def test_twenty_per_cent_more_is_seen_through_the_whole_system(run_plan: RunPlan) -> None:
    run = run_plan(plan_of(["delay-plus-0", "delay-plus-20"], blocks=2, window_s=2))
    assert run.state == "done", run.reason
    (comparison,) = median_of(run).values()
    assert comparison.n == 2, [(trial.state, trial.reason) for trial in run.trials]
    assert comparison.verdict is not None
    assert comparison.verdict.word == "invalid", "two blocks give no verdict"
    assert comparison.effect is not None
    assert comparison.effect.estimate == pytest.approx(true_effect(comparison), abs=0.1)
