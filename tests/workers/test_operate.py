"""The watch over an operation: its log in order and bounded, its end written once, and what cannot begin is said."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshgauge.conformance import ConformanceResult
from meshgauge.operations import OperationClaim, OperationRequest
from meshgauge.settings import Settings
from meshgauge.store import conformance, operations, schema
from meshgauge.store.database import transaction
from workers import operate, places
from workers.operation_runner import run
from workers.operation_work import OperationWork
from workers.work import EventStream

Away = Callable[[], contextlib.AbstractContextManager[None]]

RESULT = {
    "adapter": "envoy", "version": "1.40.0", "provider": "local", "infrastructure": "local, Linux", "revision": "abc",
    "at": "2026-11-23T12:00:00+00:00", "checks": [{"name": "traffic", "outcome": "pass", "sentence": "50 of 50"}],
}  # fmt: skip


@pytest.fixture
def claim(engine: sa.Engine) -> OperationClaim:
    """A claimed operation."""
    request = OperationRequest(action="conformance", adapter="envoy", provider="local")
    with transaction(engine) as connection:
        operations.submit(connection, request, "here", "key", "tester")
        connection.execute(sa.update(schema.site).values(state="free"))
        claimed = operations.claim_next(connection, "here", "worker-1", 60.0)
    assert claimed is not None
    return claimed


@pytest.fixture
def work(settings: Settings, engine: sa.Engine, claim: OperationClaim) -> OperationWork:
    """What its runner is told."""
    return operate._prepare(settings, engine, claim)


@pytest.fixture
def watch(settings: Settings, engine: sa.Engine, claim: OperationClaim, work: OperationWork) -> operate.OperationWatch:
    """A watch with nothing to watch yet."""
    return operate.OperationWatch(settings, engine, claim, work)


def log_of(engine: sa.Engine, claim: OperationClaim) -> list[str]:
    with transaction(engine) as connection:
        return [line.text for line in operations.lines(connection, claim.operation_id, limit=10_000)][2:]


def state_of(engine: sa.Engine, claim: OperationClaim) -> tuple[str, str | None]:
    with transaction(engine) as connection:
        row = operations.get(connection, claim.operation_id)
    return row.state, row.reason


def test_lines_that_waited_for_postgres_arrive_in_order(
    engine: sa.Engine, watch: operate.OperationWatch, claim: OperationClaim, postgres_away: Away
) -> None:
    with postgres_away():
        watch._on_phase("install")
        watch._on_line("chart base")
        watch._deliver()
        watch._on_line("chart istiod")
    watch._deliver()
    assert log_of(engine, claim) == ["install", "chart base", "chart istiod"]


def test_a_log_without_end_is_cut(
    engine: sa.Engine, watch: operate.OperationWatch, claim: OperationClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "MAX_LINES", 3)
    for number in range(10):
        watch._on_line(f"line {number}")
    watch._deliver()
    assert log_of(engine, claim) == ["line 0", "line 1", "(the log is cut here)"]


def test_a_result_is_kept_with_the_operation_that_gave_it(
    engine: sa.Engine, watch: operate.OperationWatch, claim: OperationClaim
) -> None:
    watch._on_conformance(dict(RESULT))
    watch._on_ended("done", None, {"version": "1.40.0"})
    watch._conclude()
    watch._deliver()
    assert state_of(engine, claim) == ("done", None)
    with transaction(engine) as connection:
        assert conformance.results(connection) == (ConformanceResult.of_json(RESULT),)


def test_a_fenced_watch_keeps_nothing(engine: sa.Engine, watch: operate.OperationWatch) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE site SET epoch = epoch + 1"))
    watch._on_conformance(dict(RESULT))
    watch._deliver()
    assert watch._fenced
    with transaction(engine) as connection:
        assert conformance.results(connection) == ()


@pytest.mark.parametrize(
    ("flag", "state", "reason"),
    [
        ("_cancelled", "cancelled", "what was half done is removed from the site"),
        ("_interrupted", "queued", None),
        ("_failure", "failed", "True"),
    ],
)
def test_an_end_before_the_runners_own_says_why(
    engine: sa.Engine, watch: operate.OperationWatch, claim: OperationClaim, flag: str, state: str, reason: str | None
) -> None:
    setattr(watch, flag, "True" if flag == "_failure" else True)
    watch._conclude()
    watch._deliver()
    assert state_of(engine, claim) == (state, reason)


def test_what_cannot_be_prepared_is_told_and_the_site_given_back(
    engine: sa.Engine, settings: Settings, claim: OperationClaim, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(engine) as connection:  # as if nobody had claimed it yet
        operations.end(connection, claim, "interrupted", "asked to stop", {})
        connection.execute(sa.update(schema.site).values(state="free"))
    monkeypatch.setattr(places, "full_disk", lambda _: "the disk is full")
    again = operate.operate_next(settings, engine, "here", "worker-2")
    assert again is not None
    assert state_of(engine, claim) == ("failed", "it could not be prepared: the disk is full")
    with transaction(engine) as connection:
        assert connection.execute(sa.select(schema.site.c.state)).scalar_one() == "dirty"


def test_the_runner_tells_an_error_as_the_reason(work: OperationWork, tmp_path: Path) -> None:
    told = tmp_path / "events"
    with told.open("w") as stream:
        run(replace(work, request={**work.request, "adapter": "envoi"}), EventStream(stream))
    (last,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert (last["event"], last["outcome"], last["result"]) == ("ended", "failed", {})
    assert "unknown mesh adapter 'envoi'" in last["reason"]
