"""Stages are earned by dated results, and lost with time or with a check that fails."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from adapters import registry
from adapters.stage import FRESH_DAYS, checked_on, shipped, stage_of
from meshgauge.conformance import CheckOutcome, ConformanceCheck, ConformanceResult

TODAY = dt.date(2026, 11, 23)


def result(version: str, outcome: CheckOutcome = "pass", days_ago: int = 1, **changed: Any) -> ConformanceResult:
    at = dt.datetime.combine(TODAY - dt.timedelta(days=days_ago), dt.time(12), dt.UTC)
    checks = (ConformanceCheck("traffic", outcome, "50 of 50"), ConformanceCheck("upgrade", "not applicable", "local"))
    fields = {"adapter": "envoy", "provider": "local", "infrastructure": "local, Linux", "revision": "abc"} | changed
    return ConformanceResult(version=version, at=at, checks=checks, **fields)


@pytest.mark.parametrize(
    ("results", "stage"),
    [
        ([], "alpha"),
        ([result("1.40.0")], "beta"),
        ([result("1.40.0"), result("1.40.1")], "beta"),  # one minor line
        ([result("1.40.0"), result("1.39.2")], "stable"),
        ([result("1.40.0"), result("1.39.2", "fail")], "beta"),
        ([result("1.40.0", "fail"), result("1.39.2")], "alpha"),
        ([result("1.40.0", "fail", 3), result("1.40.0", "pass", 2), result("1.39.2")], "stable"),  # the newest counts
        ([result("1.40.0"), result("1.39.2", days_ago=FRESH_DAYS + 1)], "beta"),
        ([result("1.40.0", days_ago=FRESH_DAYS + 1)], "alpha"),
        ([result("1.40.0", "not applicable")], "alpha"),
        ([result("1.10.0"), result("1.9.0", "fail")], "beta"),  # 1.10 is newer than 1.9
        ([result("1.40.0", provider="kubernetes"), result("1.39.2", adapter="nginx")], "alpha"),
    ],
)
def test_the_stage_is_what_the_results_have_earned(results: list[ConformanceResult], stage: str) -> None:
    assert stage_of("envoy", "local", results, TODAY) == stage


def test_the_day_is_that_of_the_newest_result_that_counts() -> None:
    results = [result("1.40.0", days_ago=9), result("1.39.2", days_ago=4), result("1.39.2", days_ago=40)]
    assert checked_on("envoy", "local", results, TODAY) == TODAY - dt.timedelta(days=4)
    assert checked_on("nginx", "local", results, TODAY) is None


def test_a_result_survives_the_way_to_a_file_and_back() -> None:
    one = result("1.40.0")
    assert ConformanceResult.of_json(one.to_json()) == one


def test_rows_are_staged_by_what_is_shipped_and_what_was_found_here() -> None:
    before = {row.name: row for row in registry.adapter_rows(as_of=TODAY)}
    assert all(row.stage == "alpha" for row in before.values() if row.providers == ("kubernetes",))
    own = [result(version, adapter="istio", provider="kubernetes") for version in ("1.31.0", "1.30.3")]
    after = {row.name: row for row in registry.adapter_rows(own, TODAY)}
    assert (after["istio"].stage, after["istio"].checked_on) == ("stable", TODAY - dt.timedelta(days=1))
    assert after["none"].stage == "stable"


def test_what_is_shipped_was_really_checked() -> None:
    for one in shipped():
        assert one.provider == "local", "no cluster was there to check meshes on"
        assert len(one.checks) >= 15
        assert len(one.revision) >= 40
        assert {"nothing left", "features", "versions"} <= {check.name for check in one.checks}
