"""How long a run still takes: from its estimate, then from its own pace."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.estimate import trial_s
from coordinator.progress import Share, progress_of, time_left_s
from meshgauge.document import load_plan
from meshgauge.plan import Plan
from meshgauge.store import leases
from meshgauge.store.database import transaction


@pytest.fixture
def plan(plan_text: str) -> Plan:
    return load_plan(
        plan_text.replace(
            "loads: {rate_rps: 1000,",
            "loads:\n  - {rate_rps: 1, name: long, window_s: 100}\n  - {name: short, rate_rps: 1000,",
        )
    )


def test_before_the_first_trial_it_goes_by_the_estimate(plan: Plan) -> None:
    shares = [Share("short", "pending", 6)]
    assert time_left_s(plan, shares, None, None, 100.0) == 100.0
    assert time_left_s(plan, shares, 30.0, None, 100.0) == 70.0
    assert time_left_s(plan, shares, 130.0, None, 100.0) == 0.0


def test_afterwards_it_goes_by_the_pace_of_what_is_over(plan: Plan) -> None:
    shares = [Share("short", "measured", 2), Share("short", "pending", 4)]
    assert time_left_s(plan, shares, 50.0, 50.0, 1.0) == pytest.approx(100.0)


def test_time_inside_of_a_trial_counts_down_not_up(plan: Plan) -> None:
    shares = [Share("short", "measured", 2), Share("short", "pending", 4)]
    assert time_left_s(plan, shares, 60.0, 50.0, 1.0) == pytest.approx(90.0)


def test_long_trials_weigh_more_than_short_ones(plan: Plan) -> None:
    shares = [Share("short", "measured", 1), Share("long", "pending", 1)]
    long, short = plan.loads
    expected = 20.0 * trial_s(long) / trial_s(short)
    assert time_left_s(plan, shares, 20.0, 20.0, 1.0) == pytest.approx(expected)


def test_invalid_failed_and_cancelled_trials_are_over_too(plan: Plan) -> None:
    shares = [Share("short", state, 1) for state in ("invalid", "failed", "cancelled")]
    assert time_left_s(plan, shares, 30.0, 30.0, 1.0) == 0.0


def test_an_environment_that_is_up_is_shown_with_its_phase(
    submit: Callable[..., dict[str, Any]], engine: sa.Engine
) -> None:
    run = submit()
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE site SET state = 'free'"))
        claim = leases.claim_next(connection, "local", "worker-1", "host", 60.0)
        assert claim is not None
        leases.set_phase(connection, claim, "install")
    with transaction(engine) as connection:
        progress = progress_of(connection, uuid.UUID(run["id"]))
    (now,) = progress.now
    assert (now.phase, now.block, now.position, now.attempt, now.worker) == ("install", 1, 1, 1, "worker-1")
    assert (now.trial, now.trials) == (None, 1)
    assert progress.run.state == "running"
    assert progress.elapsed_s is not None


def test_a_finished_run_has_no_time_left(
    submit: Callable[..., dict[str, Any]], engine: sa.Engine, set_state: Callable[..., None]
) -> None:
    run = submit()
    set_state(run["id"])
    with transaction(engine) as connection:
        progress = progress_of(connection, uuid.UUID(run["id"]))
    assert progress.time_left_s is None
    assert progress.elapsed_s == pytest.approx(0.0, abs=1.0)
    assert progress.run.finished_at is not None
    assert dt.datetime.now(dt.UTC) > progress.run.created_at
