"""A run as a night: which series it has, what their values are, and why some are gaps."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshgauge.matrix import MeshArm
from meshgauge.plan import Plan
from meshgauge.run import RunRecord
from meshgauge.trend import SeriesName
from meshgauge.trial import TrialRecord
from reports.nightly.nights import night_points

AT = dt.datetime(2026, 11, 1, 1, tzinfo=dt.UTC)
Night = Callable[..., RunRecord]


@pytest.fixture
def night(make_run: Any, make_arm: Callable[..., MeshArm]) -> Night:
    """A night of three blocks: none, the moving envoy, a fixed older envoy, and the A/A arm."""

    def make(version: str = "1.40.0", **changes: Any) -> RunRecord:
        arms = [
            make_arm("none"),
            make_arm(f"envoy-{version}", "envoy", version),
            make_arm("envoy-1.36.4", "envoy", "1.36.4"),
            make_arm("none-again"),
        ]
        ratio = {f"envoy-{version}": 1.5, "envoy-1.36.4": 1.4}
        run: RunRecord = make_run(arms, ratio=ratio, **{"blocks": 3, "profiles": ["mtls"], **changes})
        meshes = ["none", {"adapter": "envoy", "versions": ["latest", "1.36.4"]}]
        document = run.plan.model_dump(mode="json", exclude_none=True) | {"meshes": meshes, "aa_arm": True}
        return replace(run, plan=Plan.model_validate(document))

    return make


def test_series_keep_their_name_while_the_version_moves(night: Night) -> None:
    first, second = (night_points(night(version), AT) for version in ("1.40.0", "1.41.0"))
    assert {point.series for point in first} == {point.series for point in second}
    assert {point.series for point in first} == {
        SeriesName(arm, "mtls", "reply-1k", "local", "1000rps-16c", against)
        for arm, against in (("envoy latest", "none"), ("envoy 1.36.4", "none"), ("envoy latest", "envoy 1.36.4"))
    }
    assert {point.arm["version"] for point in second if point.series.arm == "envoy latest"} == {"1.41.0"}


def test_the_value_is_the_mean_of_the_block_ratios(night: Night) -> None:
    run = night()
    points = {(p.series.arm, p.series.against, p.metric): p for p in night_points(run, AT)}
    assert {metric for _, _, metric in points} == {"p50", "p99", "cpu"}
    medians = {
        (trial.cell.split("/")[0], trial.block): trial.load.clock("net").quantile_ns(0.5)
        for trial in run.trials
        if trial.load is not None
    }
    ratios = [math.log(medians["envoy-1.40.0", b] / medians["none", b]) for b in range(3)]  # type: ignore[operator]
    point = points["envoy latest", "none", "p50"]
    assert point.value == pytest.approx(np.mean(ratios), abs=2e-3)
    assert point.sd == pytest.approx(np.std(ratios, ddof=1), abs=2e-3)
    assert point.blocks == 3
    second = points["envoy latest", "envoy 1.36.4", "p50"]
    older = points["envoy 1.36.4", "none", "p50"]
    assert point.value is not None
    assert older.value is not None
    assert second.value == pytest.approx(point.value - older.value)


def lose(cell_of: str, blocks: set[int]) -> Callable[[TrialRecord], TrialRecord | None]:
    def edit(trial: TrialRecord) -> TrialRecord | None:
        lost = trial.cell.startswith(cell_of) and trial.block in blocks
        return replace(trial, load=None, state="failed", reason="the proxy died") if lost else trial

    return edit


def test_one_lost_block_of_three_leaves_a_point_and_two_leave_a_gap(night: Night) -> None:
    def of_latest(run: RunRecord) -> Any:
        found = night_points(run, AT)
        return next(p for p in found if (p.series.arm, p.series.against, p.metric) == ("envoy latest", "none", "p50"))

    kept = of_latest(night(edit=lose("envoy-1.40.0/", {1})))
    assert kept.value is not None
    assert kept.blocks == 2
    gap = of_latest(night(edit=lose("envoy-1.40.0/", {0, 1})))
    assert gap.value is None
    assert gap.blocks == 1
    assert gap.reason == "1 of 3 blocks are valid, 2 are needed (arm: the proxy died 2x)"


def test_a_night_whose_twin_differs_is_a_gap(night: Night, make_histogram: Callable[..., Any], make_load: Any) -> None:
    def edit(trial: TrialRecord) -> TrialRecord:
        if not trial.cell.startswith("none"):
            return trial
        off = 1.5 if trial.cell.startswith("none-again") else 1.0
        return replace(trial, load=make_load(make_histogram(350.0 * off + trial.block, 0.35, 20_000), 1000, 20))

    points = night_points(night(edit=edit), AT)
    assert {point.value for point in points} == {None}
    assert all("A/A alarm" in str(point.reason) for point in points)


def test_a_cancelled_run_leaves_gaps(night: Night) -> None:
    points = night_points(replace(night(), state="cancelled"), AT)
    assert {(point.value, point.reason) for point in points} == {(None, "the run was cancelled")}


def test_the_fingerprint_follows_the_host_and_not_the_hour(night: Night) -> None:
    def on(**facts: Any) -> RunRecord:
        run = night()
        host = {"cpu_model": "EPYC", "kernel": "6.8.0", "load_average": [0.1], "boot_id": "x"} | facts
        provenance = {"host": host, "tuning": {"idle_spinners": True, "fifo_priority": 50}}
        return replace(run, environments=tuple(replace(e, provenance=provenance) for e in run.environments))

    plain, rebooted, upgraded = (
        night_points(run, AT)[0] for run in (on(), on(load_average=[3.0], boot_id="y"), on(kernel="6.9.1"))
    )
    assert plain.environment == rebooted.environment
    assert plain.environment != upgraded.environment
    assert upgraded.facts["hosts"]["bench-1"]["kernel"] == "6.9.1"
    assert upgraded.facts["tuning"] == {"idle_spinners": "True", "fifo_priority": "50"}
    assert upgraded.facts["load_engine"] == "native 1"
