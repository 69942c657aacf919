"""Runs with known truths, and the fresh runs that repeat them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord

DAY = dt.timedelta(days=1)


@pytest.fixture
def releases(make_arm: Callable[..., MeshArm]) -> tuple[MeshArm, ...]:
    """No mesh, an old release and a new one."""
    return make_arm("none"), make_arm("envoy-1.39.0", "envoy", "1.39.0"), make_arm("envoy-1.40.0", "envoy", "1.40.0")


@pytest.fixture
def run_with(make_run: Any, releases: tuple[MeshArm, ...]) -> Callable[..., RunRecord]:
    """Return ``run_with(*thresholds, new=ratio of the new release to the old, ...)``."""

    def make(*thresholds: dict[str, Any], new: float = 1.0, arms: Any = None, **changes: Any) -> RunRecord:
        ratio = {"envoy-1.39.0": 1.5, "envoy-1.40.0": 1.5 * new}
        run: RunRecord = make_run(arms or releases, thresholds=list(thresholds), **{"ratio": ratio} | changes)
        return run

    return make


@pytest.fixture
def fresh_of() -> Callable[..., RunRecord]:
    """Return a function that makes a run one that was measured the day after another."""

    def make(run: RunRecord, run_id: str = "fresh-run") -> RunRecord:
        def later(trial: TrialRecord) -> TrialRecord:
            assert trial.started_at is not None
            assert trial.finished_at is not None
            return replace(trial, started_at=trial.started_at + DAY, finished_at=trial.finished_at + DAY)

        return replace(run, run_id=run_id, trials=tuple(map(later, run.trials)))

    return make
