"""Looks at sequential runs on a real database: taken once, at their blocks, and stopping what has its answers."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from coordinator.looks import take_due
from coordinator.plan_check import check_plan
from meshgauge.claim import Claim
from meshgauge.document import load_plan
from meshgauge.histogram import Histogram
from meshgauge.matrix import expand
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.settings import Settings
from meshgauge.store import leases, looks, results, runs, schema
from meshgauge.store.database import transaction
from meshgauge.trial import ComponentUsage, LoadResult, MeasuredTrial

PLAN = """
name: looked-at
meshes: [none, {adapter: envoy, version: 1.40.0}]
workloads: {name: web, app: fixed-reply, reply_bytes: 1024}
loads: {rate_rps: 1000, connections: 4, window_s: 20, warm_up_s: 1, cool_down_s: 0}
sequential: true
blocks: 20
seed: 3
"""
SITE = "here"


def _load(median_us: float) -> LoadResult:
    values = (median_us * 1000 * np.exp(0.3 * np.linspace(-2.5, 2.5, 20_000))).astype(np.int64)
    histogram = Histogram.of(values)
    return LoadResult(
        engine="native", engine_abi=1, locust_version="2.47.0", resolution_ns=1,
        window_start=dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC), window_s=20.0,
        offered=20_000, sent=20_000, done=20_000, dropped=0, waited=0, backlog_peak=1, connections_opened=4,
        outcomes={"ok": 20_000}, histograms={("ok", "net"): histogram}, seconds=(),
        batch_p50_us=(median_us,) * 12, workers=(), requests_total=21_000,
    )  # fmt: skip


class Lab:
    """A sequential run whose trials are answered by the test."""

    def __init__(self, engine: sa.Engine, *, mesh_ratio: float, noise: float) -> None:
        self.engine, self._ratio, self._noise = engine, mesh_ratio, noise
        self._random = np.random.default_rng(11)
        plan = load_plan(PLAN)
        arms = resolve_arms(plan, {"none": (), "envoy": ("1.40.0",)}.__getitem__)
        resolved = ResolvedPlan(PLAN, plan, arms, expand(plan, arms, lambda *_: None), 3, {})
        with transaction(engine) as connection:
            submission = runs.Submission(resolved, uuid.uuid4().hex, "tester", 10.0, {})
            self.run_id, _ = runs.submit(connection, submission, lambda _: SITE)
            connection.execute(sa.update(schema.site).values(state="free"))

    def claim(self) -> Claim | None:
        with transaction(self.engine) as connection:
            connection.execute(sa.update(schema.site).values(state="free"))
            return leases.claim_next(connection, SITE, "worker", "host", 60.0)

    def measure(self, claim: Claim, state: str = "measured") -> None:
        """Answer the trials of a claimed environment and give it back."""
        is_mesh = claim.key.startswith("envoy")
        with transaction(self.engine) as connection:
            ids = connection.execute(
                sa.select(schema.trial.c.id).where(schema.trial.c.environment_id == claim.environment_id)
            ).scalars()
            for trial_id in list(ids):
                results.begin_trial(connection, claim, trial_id)
                noise = float(np.exp(self._random.normal(0, self._noise)))
                usage = tuple(
                    ComponentUsage(name, 20.0, 2.0 * noise, 1.0, 1e6, 1e6, 1, 1)
                    for name in ("app", *(("data_plane/client", "data_plane/server") if is_mesh else ()))
                )
                load = _load(300 * noise * (self._ratio if is_mesh else 1.0))
                answer = MeasuredTrial(str(trial_id), state, None, load, (), usage, (), ())  # type: ignore[arg-type]
                results.record_trial(connection, claim, answer)
            leases.end_attempt(connection, claim, "done", None, {}, retry=False, max_attempts=3)
            runs.advance(connection, claim.run_id)

    def measure_blocks(self, blocks: int, state: str = "measured") -> None:
        for _ in range(2 * blocks):
            claim = self.claim()
            assert claim is not None
            self.measure(claim, state)

    def events(self, kind: str) -> list[Any]:
        with transaction(self.engine) as connection:
            query = sa.select(schema.event.c.data).where(schema.event.c.run_id == self.run_id)
            return list(connection.execute(query.where(schema.event.c.kind == kind)).scalars())

    def row(self) -> runs.RunRow:
        with transaction(self.engine) as connection:
            return runs.get(connection, self.run_id)


@pytest.fixture
def clear(engine: sa.Engine) -> Lab:
    """A mesh three times as slow as none, hardly any noise: everything is decided at the first look."""
    return Lab(engine, mesh_ratio=3.0, noise=0.01)


@pytest.fixture
def noisy(engine: sa.Engine) -> Lab:
    """No difference that so much noise would let through."""
    return Lab(engine, mesh_ratio=1.0, noise=0.3)


def test_no_look_is_taken_before_six_blocks(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(5)
    assert take_due(engine) == 0
    assert clear.events("looked") == []


def test_a_decided_run_stops_and_is_done_with_a_sentence(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(6)
    assert take_due(engine) == 1
    row = clear.row()
    assert row.state == "done"
    assert row.reason is not None
    assert "stopped at the look at 6 valid blocks: all 3 results are decided" in row.reason
    assert row.trials == {"measured": 12, "cancelled": 28}
    with transaction(engine) as connection:
        reasons = set(
            connection.execute(
                sa.select(schema.environment.c.reason).where(schema.environment.c.state == "cancelled")
            ).scalars()
        )
    assert reasons == {clear.events("stopped")[0]["sentence"]}
    assert take_due(engine) == 0


def test_an_undecided_run_goes_on_and_each_look_is_taken_once(engine: sa.Engine, noisy: Lab) -> None:
    for blocks, taken in ((6, 1), (1, 0), (3, 1), (4, 0), (1, 1)):
        noisy.measure_blocks(blocks)
        assert take_due(engine) == taken
        assert take_due(engine) == 0
    assert [event["ended"] for event in noisy.events("looked")] == [6, 10, 15]
    assert all("so it goes on" in event["sentence"] for event in noisy.events("looked"))
    assert noisy.row().state == "running"
    noisy.measure_blocks(5)
    assert noisy.row().state == "done"


def test_a_block_with_an_invalid_trial_is_no_valid_block(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(1, "invalid")
    clear.measure_blocks(5)
    assert take_due(engine) == 1, "six blocks are over"
    assert clear.row().state == "running"
    assert "no look yet" in clear.events("looked")[0]["sentence"]
    clear.measure_blocks(1)
    assert take_due(engine) == 1, "six of them are valid"
    assert clear.row().state == "done"
    assert clear.row().extra_blocks == 0, "what is decided needs no block to make up for the invalid one"


def test_what_is_being_measured_is_finished_first(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(6)
    claim = clear.claim()
    assert claim is not None
    assert take_due(engine) == 1
    assert clear.row().state == "running"
    clear.measure(claim)
    row = clear.row()
    assert (row.state, row.trials) == ("done", {"measured": 13, "cancelled": 27})


def test_an_environment_that_comes_back_after_the_stop_is_cancelled(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(6)
    assert clear.claim() is not None
    take_due(engine)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE site SET lease_until = now() - interval '1 s'"))
        leases.expire_leases(connection, 3)
    assert clear.row().state == "running"
    take_due(engine)
    row = clear.row()
    assert (row.state, row.trials["cancelled"]) == ("done", 28)


def test_a_cancelled_run_is_not_looked_at(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(6)
    with transaction(engine) as connection:
        runs.request_cancel(connection, clear.run_id, "tester")
    assert take_due(engine) == 0
    assert clear.row().state == "cancelled"


def test_two_reconcilers_take_a_look_once(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(6)
    taken: list[int] = []
    both = [threading.Thread(target=lambda: taken.append(take_due(engine))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(taken) == [0, 1]
    assert len(clear.events("looked")) == len(clear.events("stopped")) == 1


def test_a_run_of_fixed_length_is_never_looked_at(engine: sa.Engine, clear: Lab) -> None:
    clear.measure_blocks(6)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE run SET document = document || '{\"sequential\": false}'"))
        assert looks.due(connection) == []


def test_the_dry_run_says_that_its_time_is_the_most_it_can_take(settings: Settings) -> None:
    plan = load_plan(PLAN)
    arms = resolve_arms(plan, {"none": (), "envoy": ("1.40.0",)}.__getitem__)
    resolved = ResolvedPlan(PLAN, plan, arms, expand(plan, arms, lambda *_: None), 3, {})
    said = [text for text in check_plan(resolved, settings, 8).warnings if text.startswith("sequential")]
    assert said == [
        "sequential: the time is that of all 20 blocks; the run stops after 6, 10 or 15 of them "
        "when every result is decided"
    ]
