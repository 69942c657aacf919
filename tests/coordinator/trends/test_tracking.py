"""The whole chain on a real database: nights, a step, the run that confirms it, and what its answer does."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from coordinator import submission, tracking
from coordinator.web.diary import told as told_in_words
from meshgauge.errors import ConflictError
from meshgauge.store import steps
from meshgauge.store.database import transaction

Nights = Any  # of this folder's conftest
Plans = Callable[[Nights, str], dict[str, Any]]


def test_every_night_is_stored_once_however_many_trackers_there_are(nights: Nights) -> None:
    nights.pass_by(3, follow=False)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(nights.follow) for _ in range(4)]:
            done.result()
    nights.follow()
    points = nights.trend.points
    assert len(points) == 3 * 3  # nights and primary metrics
    assert {point.series.arm for point in points} == {"envoy latest"}
    latency = [point for point in points if point.metric == "p50"]
    assert [point.at for point in latency] == [nights.first + dt.timedelta(days=night) for night in range(3)]
    assert all(point.value == pytest.approx(math.log(1.5), abs=0.05) for point in latency)


def test_a_step_of_a_release_is_suspected_confirmed_and_told(nights: Nights, plan_of: Plans) -> None:
    nights.rows(
        "INSERT INTO channel (name, kind, target, events) VALUES ('ops', 'webhook', 'http://127.0.0.1:9/',"
        """ '["step_suspected", "step_confirmed", "step_not_reproduced"]') RETURNING id"""
    )
    nights.pass_by(26)
    assert nights.steps == {}
    nights.release("1.41.0", 1.5 * 1.10)
    nights.pass_by(4)

    suspected = nights.steps
    assert set(suspected) == {"p50", "p99"}
    step = suspected["p50"]
    assert step.state == "suspected"
    assert 100 * math.expm1(step.size) == pytest.approx(10, abs=3)
    assert abs((step.onset_at - nights.first).days - 26) <= 2
    assert (step.cause.kind, step.cause.text) == ("version", "1.40.0 to 1.41.0")

    assert step.confirming_run_id == suspected["p99"].confirming_run_id  # one run for one change
    plan = plan_of(nights, step.confirming_run_id)
    assert [mesh.get("versions") for mesh in plan["meshes"]] == [["latest"], ["1.40.0"], ["1.41.0"]]
    assert (plan["blocks"], plan["baseline"], plan["aa_arm"]) == (10, "none", False)
    assert plan["loads"][0]["rate_rps"] == 1000
    assert "schedule" not in plan
    ((confirms, schedule_id),) = nights.rows(
        "SELECT confirms, schedule_id FROM run WHERE id = :id", id=uuid.UUID(step.confirming_run_id)
    )
    assert (confirms, schedule_id) == (None, None)  # no night of the schedule, and no answer to its thresholds

    nights.measure(uuid.UUID(step.confirming_run_id))
    nights.follow()
    confirmed = nights.steps["p50"]
    assert confirmed.state == "confirmed"
    assert confirmed.finding.startswith("1.41.0 against 1.40.0 on 10 fresh blocks: p50 +")
    assert "p = " in confirmed.finding
    told = [row.event for row in nights.rows("SELECT event FROM notice ORDER BY id")]
    assert sorted(told) == ["step_confirmed"] * 2 + ["step_suspected"] * 2
    diary = nights.rows("SELECT kind, data FROM event WHERE run_id = :id", id=uuid.UUID(step.detected_run_id))
    sentences = {row.kind: told_in_words(row.kind, row.data) for row in diary}
    assert sentences["step_suspected"].startswith("Suspected step: ")
    assert sentences["step_confirmed"].startswith("Confirmed step: ")

    nights.follow()
    nights.pass_by(6)
    later = nights.steps["p50"]
    assert (later.onset_run_id, later.size, later.detected_run_id, later.state) == (
        step.onset_run_id, step.size, step.detected_run_id, "confirmed"
    )  # fmt: skip
    assert len(nights.rows("SELECT 1 FROM run WHERE schedule_id IS NULL")) == 1
    assert len(nights.rows("SELECT 1 FROM notice")) == 4


def test_a_step_the_versions_do_not_show_is_not_reproduced(nights: Nights) -> None:
    nights.pass_by(20)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4)
    step = nights.steps["p50"]
    nights.ratio["1.41.0"] = 1.5  # it was something else: both versions are equally fast now
    nights.measure(uuid.UUID(step.confirming_run_id))
    nights.follow()
    assert nights.steps["p50"].state == "not_reproduced"


def test_a_confirming_run_that_fails_says_so_and_can_be_asked_for_again(nights: Nights) -> None:
    nights.pass_by(20)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4)
    first = nights.steps["p50"]
    with pytest.raises(ConflictError, match="wait until it has ended"):
        tracking.confirm_again(nights.engine, nights.planner, nights.announce, first.id)
    nights.measure(uuid.UUID(first.confirming_run_id), failed=True)
    nights.follow()
    undecided = nights.steps["p50"]
    assert undecided.state == "suspected"
    assert "0 of 10 blocks are valid, 6 are needed" in undecided.finding
    assert f"meshgauge trend confirm {first.id}" in undecided.finding
    again = tracking.confirm_again(nights.engine, nights.planner, nights.announce, first.id)
    assert again.confirming_run_id not in (None, first.confirming_run_id)
    nights.measure(uuid.UUID(again.confirming_run_id))
    nights.follow()
    assert nights.steps["p50"].state == "confirmed"


def test_a_change_of_the_environment_is_an_annotation_and_no_alert(nights: Nights) -> None:
    nights.pass_by(20)
    nights.kernel, nights.every = "6.9.1", 1.1
    nights.pass_by(4)
    step = nights.steps["p50"]
    assert (step.state, step.changed_by) == ("acknowledged", "Meshgauge")
    assert step.reason == "the environment changed, the mesh did not: hosts bench-1 kernel 6.8.0 to 6.9.1"
    assert step.confirming_run_id is None
    assert nights.rows("SELECT 1 FROM run WHERE schedule_id IS NULL") == []
    assert nights.rows("SELECT 1 FROM event WHERE kind LIKE 'step_%'") == []


@pytest.mark.parametrize(("persists", "state"), [(True, "confirmed"), (False, "not_reproduced")])
def test_where_nothing_changed_the_same_thing_is_measured_again(
    nights: Nights, plan_of: Plans, persists: bool, state: str
) -> None:
    nights.pass_by(20)
    nights.every = 1.1
    nights.pass_by(4)
    step = nights.steps["p50"]
    assert (step.state, step.cause.kind) == ("suspected", "nothing")
    plan = plan_of(nights, step.confirming_run_id)
    assert [mesh["label"] for mesh in plan["meshes"]] == ["none", "again-1.40.0"]
    nights.every = 1.1 if persists else 1.0
    nights.measure(uuid.UUID(step.confirming_run_id))
    nights.follow()
    judged = nights.steps["p50"]
    assert judged.state == state
    assert "nights before, p = " in judged.finding


def test_an_acknowledged_step_stays_so_whatever_its_run_says(nights: Nights) -> None:
    nights.pass_by(20)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4)
    step = nights.steps["p50"]
    with transaction(nights.engine) as connection:
        steps.acknowledge(connection, step.id, "known: new TLS defaults", "ada")
    with pytest.raises(ConflictError, match="by ada already"), transaction(nights.engine) as connection:
        steps.acknowledge(connection, step.id, "again", "bob")
    nights.measure(uuid.UUID(step.confirming_run_id))
    nights.follow()
    after = nights.steps["p50"]
    assert (after.state, after.reason, after.changed_by) == ("acknowledged", "known: new TLS defaults", "ada")
    assert "fresh blocks" in after.finding


def test_history_wakes_nobody(nights: Nights) -> None:
    nights.pass_by(20, follow=False)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4, follow=False)
    nights.passed += 60
    nights.follow()
    step = nights.steps["p50"]
    assert step.state == "suspected"
    assert step.finding.startswith("Seen in nights long past")
    assert nights.rows("SELECT 1 FROM run WHERE schedule_id IS NULL") == []


def test_a_night_that_failed_is_a_gap_and_moves_no_alert(nights: Nights) -> None:
    nights.pass_by(18)
    resolved = nights.planner.resolve(nights.schedule.body, may_run_programs=True)
    with transaction(nights.engine) as connection:
        run_id, _ = submission.store(
            connection, nights.planner.settings, resolved, "bad night", "tests",
            (nights.schedule.id, nights.first + dt.timedelta(days=18))
        )  # fmt: skip
    nights.measure(run_id, failed=True)
    nights.passed += 1
    nights.pass_by(3)
    points = [point for point in nights.trend.points if point.metric == "p50"]
    assert len(points) == 22
    (gap,) = [point for point in points if point.run_id == str(run_id)]
    assert gap.value is None
    assert gap.reason.startswith("0 of 3 blocks are valid, 2 are needed")
    assert nights.steps == {}


def test_an_index_that_is_away_delays_the_confirming_run(nights: Nights, shelf: Any) -> None:
    nights.pass_by(20)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4, follow=False)
    shelf.is_away = True
    nights.follow()
    assert nights.steps["p50"].confirming_run_id is None
    assert nights.steps["p50"].finding is None
    shelf.is_away = False
    nights.follow()
    assert nights.steps["p50"].confirming_run_id is not None


def test_a_version_that_is_gone_leaves_the_step_suspected_with_the_reason(nights: Nights, shelf: Any) -> None:
    nights.pass_by(20)
    nights.release("1.41.0", 1.65)
    nights.pass_by(4, follow=False)
    shelf.known["envoy"] = ["1.41.0"]
    nights.follow()
    step = nights.steps["p50"]
    assert step.state == "suspected"
    assert "no version fits '1.40.0'" in step.finding
