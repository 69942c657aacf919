"""Nights of a schedule without machines: runs are planned and stored for real, their trials measured by a formula."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from scipy.special import ndtri

from coordinator import schedules, submission, tracking
from coordinator.planner import Planner
from coordinator.schedules import Draft
from meshgauge.histogram import Histogram
from meshgauge.store import results, runs, schema, series, steps
from meshgauge.store.database import transaction
from meshgauge.store.schedules import ScheduleRow
from meshgauge.trend import Step, Trend
from meshgauge.trial import LoadResult, MeasuredTrial, WorkerHealth

PLAN = """\
name: nightly
meshes: [none, {adapter: envoy, versions: [latest]}]
profiles: [mtls]
workloads: {name: web, app: fixed-reply, reply_bytes: 1024}
loads: {rate_rps: 1000, connections: 8, warm_up_s: 10, window_s: 20, cool_down_s: 1}
blocks: 3
aa_arm: true
seed: 7
schedule: {cron: "0 1 * * *"}
"""
_QUANTILES = ndtri((np.arange(1000) + 0.5) / 1000)


@dataclass
class Nights:
    """A schedule and what is true in its nights.

    Attributes:
        ratio: true latency ratio of the mesh to no mesh, by exact version; default 1.5.
        every: a further ratio of every mesh, whatever its version.
        block_sd: of ln latency, from trial to trial.
        kernel: of the host.
    """

    engine: sa.Engine
    planner: Planner
    announce: Any
    schedule: ScheduleRow
    shelf: Any
    seed: int
    ratio: dict[str, float] = field(default_factory=dict)
    every: float = 1.0
    block_sd: float = 0.01
    kernel: str = "6.8.0"
    first: dt.datetime = dt.datetime(2026, 10, 1, 1, tzinfo=dt.UTC)
    passed: int = 0

    @property
    def now(self) -> dt.datetime:
        """The morning after the last night."""
        return self.first + dt.timedelta(days=self.passed, hours=-17)

    def pass_by(self, nights: int = 1, *, follow: bool = True) -> None:
        """Let nights pass, measured; the tracker runs after each."""
        for _ in range(nights):
            fire_at = self.first + dt.timedelta(days=self.passed)
            resolved = self.planner.resolve(self.schedule.body, may_run_programs=True)
            with transaction(self.engine) as connection:
                run_id, _ = submission.store(
                    connection,
                    self.planner.settings,
                    resolved,
                    f"night {fire_at}",
                    "tests",
                    (self.schedule.id, fire_at),
                )
            self.measure(run_id)
            self.passed += 1
            if follow:
                self.follow()

    def follow(self) -> None:
        """Let the tracker do all it has to do."""
        tracking.follow(self.engine, self.planner, self.announce, self.now)

    def measure(self, run_id: uuid.UUID, *, failed: bool = False) -> None:
        """Measure every trial of a run, or let them all fail, and end it."""
        environment, attempt = schema.environment, schema.environment_attempt
        host = {"kernel": self.kernel, "cpu_model": "of the tests", "cores_usable": 8, "boot_id": str(uuid.uuid4())}
        provenance = {"host": host, "tuning": {"idle_spinners": True, "fifo_priority": None}}
        with transaction(self.engine) as connection:
            rows = connection.execute(
                sa.select(schema.trial.c.id, schema.trial.c.environment_id, environment.c.labels, environment.c.block)
                .join(environment, environment.c.id == schema.trial.c.environment_id)
                .where(schema.trial.c.run_id == run_id)
                .order_by(environment.c.ordinal)
            ).all()
            for row in rows:
                connection.execute(
                    sa.insert(attempt).values(
                        environment_id=row.environment_id, attempt=1, epoch=1, worker="w", host="bench-1",
                        outcome="done", provenance=provenance
                    )
                )  # fmt: skip
                if not failed:
                    self._store(connection, row.id, row.labels[0], row.block, run_id)
            state = "failed" if failed else "measured"
            own = schema.trial.c.run_id == run_id
            connection.execute(sa.update(schema.trial).where(own).values(state=state, attempt=None if failed else 1))
            connection.execute(sa.update(environment).where(environment.c.run_id == run_id).values(state="done"))
            runs.advance(connection, run_id)

    def _store(self, connection: sa.Connection, trial_id: uuid.UUID, mesh: str, block: int, run_id: uuid.UUID) -> None:
        # The same noise whatever order the blocks were drawn in: a confirming run draws a seed of its own.
        own = np.random.default_rng(zlib.crc32(f"{mesh}/{block}/{self.passed}/{self.seed}".encode()))
        level = math.exp(own.normal(0, self.block_sd))
        median_us = 400.0 * level * self._true_ratio(connection, run_id, mesh)
        values = (median_us * 1000 * np.exp(0.3 * _QUANTILES)).astype(np.int64)
        histogram = Histogram.of(np.repeat(values, 20))
        load = LoadResult(
            engine="native", engine_abi=1, locust_version="2", resolution_ns=1,
            window_start=self.now, window_s=20.0, offered=20_000, sent=20_000, done=20_000, dropped=0, waited=0,
            backlog_peak=1, connections_opened=8, outcomes={"ok": 20_000}, histograms={("ok", "net"): histogram},
            seconds=(), batch_p50_us=(median_us,) * 12, workers=(WorkerHealth("w", "native", 0.1, 0.0),),
            requests_total=20_000,
        )  # fmt: skip
        connection.execute(
            sa.insert(schema.trial_attempt).values(
                trial_id=trial_id, attempt=1, epoch=1, state="measured", summary=results.load_summary(load), checks=[]
            )
        )
        measured = MeasuredTrial(str(trial_id), "measured", None, load, (), (), (), ())
        results._store_series(connection, trial_id, 1, measured)

    def _true_ratio(self, connection: sa.Connection, run_id: uuid.UUID, mesh: str) -> float:
        hops = next(arm.hops for arm in runs.restored_plan(connection, run_id).arms if arm.label == mesh)
        return self.every * self.ratio.get(hops[0].version, 1.5) if hops else 1.0

    def release(self, version: str, ratio: float) -> None:
        """Publish a version of the mesh that is so much slower than no mesh."""
        self.shelf.known["envoy"] = [version, *self.shelf.known["envoy"]]
        self.ratio[version] = ratio

    @property
    def trend(self) -> Trend:
        """All that is known of the schedule."""
        with transaction(self.engine) as connection:
            return series.trend(connection, self.schedule.name)

    @property
    def steps(self) -> dict[str, Step]:
        """The steps by metric."""
        with transaction(self.engine) as connection:
            return {step.metric: step for step in steps.of_schedule(connection, self.schedule.id)}

    def rows(self, statement: str, **parameters: Any) -> list[sa.Row[Any]]:
        """Return the rows of a query."""
        with transaction(self.engine) as connection:
            return list(connection.execute(sa.text(statement), parameters).all())


@pytest.fixture
def make_nights(engine: sa.Engine, planner: Planner, mailbox: Any, shelf: Any) -> Callable[..., Nights]:
    """Return a function that adds a schedule and gives a hand on its nights."""

    def make(plan: str = PLAN, seed: int = 3, name: str = "nightly") -> Nights:
        row = schedules.add(engine, planner, Draft(plan, "tests", name=name))
        return Nights(engine, planner, mailbox, row, shelf, seed)

    return make


@pytest.fixture
def nights(make_nights: Callable[..., Nights]) -> Nights:
    """A nightly schedule of one mesh and its A/A arm."""
    return make_nights()


@pytest.fixture
def plan_of() -> Callable[[Nights, str], dict[str, Any]]:
    """Return a function that reads the plan of a run."""

    def read(nights: Nights, run_id: str) -> dict[str, Any]:
        with transaction(nights.engine) as connection:
            found: dict[str, Any] = json.loads(runs.restored_plan(connection, uuid.UUID(run_id)).text)
            return found

    return read
