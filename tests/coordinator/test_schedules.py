"""Schedules: nights when clocks change, missed times, overlaps, two tickers at once."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator import schedules
from coordinator.planner import Planner
from coordinator.schedules import Draft, due_times, fire_due, next_fire
from meshgauge.errors import ConflictError, InvalidPlanError
from meshgauge.settings import Settings
from meshgauge.store import schedules as stored
from meshgauge.store.database import transaction
from meshgauge.store.schedules import Fire, ScheduleRow

Tick = Callable[[dt.datetime], tuple[Fire, ...]]


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture
def nightly(engine: sa.Engine, planner: Planner, plan_text: str) -> ScheduleRow:
    """A schedule at 02:30 in Paris whose last decision was on 2026-10-23."""
    draft = Draft(plan_text, "tester", name="nightly", cron="30 2 * * *", time_zone="Europe/Paris")
    schedules.add(engine, planner, draft)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE schedule SET last_fire_at = :at"), {"at": utc("2026-10-23T12:00")})
        return stored.get(connection, "nightly")


@pytest.fixture
def tick(engine: sa.Engine, settings: Settings, planner: Planner, mailbox: Any) -> Tick:
    """One tick at a time of the test's choice."""
    return lambda now: fire_due(engine, settings, planner, mailbox, now)


def test_the_night_of_25_hours_has_one_half_past_two() -> None:
    first = next_fire("30 2 * * *", "Europe/Paris", utc("2026-10-24T12:00"))
    assert first == utc("2026-10-25T00:30")  # 02:30 summer time
    assert next_fire("30 2 * * *", "Europe/Paris", first) == utc("2026-10-26T01:30")


def test_the_night_of_23_hours_fires_when_clocks_have_moved_on() -> None:
    assert next_fire("30 2 * * *", "Europe/Paris", utc("2026-03-28T12:00")) == utc("2026-03-29T01:00")


def test_hourly_fires_every_hour_of_the_night_of_25_hours(nightly: ScheduleRow) -> None:
    hourly = ScheduleRow(**{name: getattr(nightly, name) for name in nightly.__slots__} | {"cron": "0 * * * *"})
    times = due_times(hourly, utc("2026-10-25T12:00"))
    assert len(times) == 48
    assert {later - sooner for sooner, later in itertools.pairwise(times)} == {dt.timedelta(hours=1)}


def test_a_due_time_becomes_a_run_once(engine: sa.Engine, nightly: ScheduleRow, tick: Tick, mailbox: Any) -> None:
    assert tick(utc("2026-10-24T00:29")) == ()
    (fire,) = tick(utc("2026-10-24T00:30:05"))
    assert (fire.decision, fire.fire_at) == ("run", utc("2026-10-24T00:30"))
    assert tick(utc("2026-10-24T00:30:10")) == ()
    with transaction(engine) as connection:
        row = connection.execute(sa.text("SELECT id, submitted_by, schedule_id, fire_at FROM run")).one()
    assert (row.id, row.submitted_by, row.schedule_id) == (fire.run_id, "schedule nightly", nightly.id)
    assert mailbox.sent == [("meshgauge.site.clean", "local")]


def test_tickers_at_once_make_one_run(engine: sa.Engine, nightly: ScheduleRow, tick: Tick) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(tick, [utc("2026-10-24T00:30:05")] * 4))
    assert sorted(map(len, answers)) == [0, 0, 0, 1]
    with transaction(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM run")).scalar_one() == 1


def test_within_the_grace_a_late_tick_still_runs(nightly: ScheduleRow, tick: Tick) -> None:
    (fire,) = tick(utc("2026-10-24T02:29"))
    assert fire.decision == "run"


def test_after_an_outage_only_the_newest_runs_and_the_others_are_recorded(nightly: ScheduleRow, tick: Tick) -> None:
    fires = tick(utc("2026-10-26T01:45"))
    assert [(fire.fire_at, fire.decision) for fire in fires] == [
        (utc("2026-10-24T00:30"), "missed"),
        (utc("2026-10-25T00:30"), "missed"),
        (utc("2026-10-26T01:30"), "run"),
    ]


def test_beyond_the_grace_even_the_newest_is_only_recorded(engine: sa.Engine, nightly: ScheduleRow, tick: Tick) -> None:
    (fire,) = tick(utc("2026-10-24T02:31"))
    assert (fire.decision, fire.reason) == ("missed", "more than 2 h had passed")
    with transaction(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM run")).scalar_one() == 0


def test_a_run_that_is_still_open_is_not_doubled(nightly: ScheduleRow, tick: Tick) -> None:
    (first,) = tick(utc("2026-10-24T00:31"))
    (second,) = tick(utc("2026-10-25T00:31"))
    assert second.decision == "overlap"
    assert str(first.run_id) in str(second.reason)


def test_after_the_run_is_over_the_next_time_runs_again(
    nightly: ScheduleRow, tick: Tick, set_state: Callable[[str], None]
) -> None:
    (first,) = tick(utc("2026-10-24T00:31"))
    set_state(str(first.run_id))
    (second,) = tick(utc("2026-10-25T00:31"))
    assert second.decision == "run"
    assert second.run_id != first.run_id


def test_selectors_are_resolved_anew_each_time(
    engine: sa.Engine, nightly: ScheduleRow, tick: Tick, shelf: Any, set_state: Callable[[str], None]
) -> None:
    (first,) = tick(utc("2026-10-24T00:31"))
    set_state(str(first.run_id))
    shelf.known["envoy"] = ["1.41.0", *shelf.known["envoy"]]
    (second,) = tick(utc("2026-10-25T00:31"))
    with transaction(engine) as connection:
        arms = connection.execute(
            sa.text("SELECT resolved->'arms'->1->>'label' FROM run WHERE id = :id"), {"id": second.run_id}
        ).scalar_one()
    assert arms == "envoy-1.41.0"


def test_a_plan_that_no_longer_resolves_is_refused_with_the_reason(
    nightly: ScheduleRow, tick: Tick, shelf: Any
) -> None:
    shelf.known["envoy"] = []
    (fire,) = tick(utc("2026-10-24T00:31"))
    assert fire.decision == "refused"
    assert "no version fits 'latest'" in str(fire.reason)


def test_an_absent_index_is_waited_for_as_long_as_the_grace(nightly: ScheduleRow, tick: Tick, shelf: Any) -> None:
    shelf.is_away = True
    assert tick(utc("2026-10-24T00:31")) == ()
    shelf.is_away = False
    (fire,) = tick(utc("2026-10-24T01:00"))
    assert fire.decision == "run"


def test_a_paused_schedule_does_not_fire_and_misses_nothing(
    engine: sa.Engine, nightly: ScheduleRow, tick: Tick
) -> None:
    with transaction(engine) as connection:
        stored.set_paused(connection, "nightly", paused=True)
    assert tick(utc("2026-10-26T02:00")) == ()
    with transaction(engine) as connection:
        resumed = stored.set_paused(connection, "nightly", paused=False)
    assert resumed.last_fire_at > nightly.last_fire_at  # what fell into the pause is no debt


def test_one_schedule_that_fails_does_not_stop_the_others(
    engine: sa.Engine, planner: Planner, nightly: ScheduleRow, tick: Tick, plan_text: str
) -> None:
    schedules.add(engine, planner, Draft(plan_text, "tester", name="broken", cron="0 0 * * *"))
    with transaction(engine) as connection:
        connection.execute(
            sa.text("UPDATE schedule SET time_zone = 'Nowhere/At-All', last_fire_at = :at WHERE name = 'broken'"),
            {"at": utc("2026-10-23T12:00")},
        )
    (fire,) = tick(utc("2026-10-24T00:31"))
    assert fire.decision == "run"


@pytest.mark.parametrize(
    ("cron", "time_zone", "path"),
    [
        ("30 2 * *", "UTC", "schedule.cron"),
        ("0 30 2 * * *", "UTC", "schedule.cron"),
        ("61 2 * * *", "UTC", "schedule.cron"),
        ("0 0 30 2 *", "UTC", "schedule.cron"),
        ("30 2 * * *", "Europe/Atlantis", "schedule.time_zone"),
        ("30 2 * * *", "../../etc/passwd", "schedule.time_zone"),
        ("30 2 * * *", "", "schedule.time_zone"),
    ],
)
def test_times_that_make_no_sense_are_named(cron: str, time_zone: str, path: str) -> None:
    with pytest.raises(InvalidPlanError) as refused:
        next_fire(cron, time_zone, utc("2026-01-01T00:00"))
    assert refused.value.problems[0].path == path


def test_a_schedule_needs_times_from_somewhere(engine: sa.Engine, planner: Planner, plan_text: str) -> None:
    with pytest.raises(InvalidPlanError, match="is needed"):
        schedules.add(engine, planner, Draft(plan_text, "tester"))


def test_a_name_is_used_once(engine: sa.Engine, planner: Planner, nightly: ScheduleRow, plan_text: str) -> None:
    with pytest.raises(ConflictError, match="'nightly' already"):
        schedules.add(engine, planner, Draft(plan_text, "tester", name="nightly", cron="0 0 * * *"))
