"""Storing and reading trials: milliseconds a trial, and COPY against one INSERT a row in the same run."""

from __future__ import annotations

import datetime as dt
import json
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from coordinator.embedded.bootstrap import down, up
from meshgauge.document import load_plan
from meshgauge.histogram import Histogram
from meshgauge.matrix import expand
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.settings import Settings
from meshgauge.store import leases, records, results, runs, schema
from meshgauge.store.bulk import copy_rows
from meshgauge.store.database import connect, migrate, transaction
from meshgauge.trial import CLOCKS, LoadResult, MeasuredTrial, SecondRow, UsageSample

TRIALS = 50
ROWS = 20_000
PLAN = f"""
name: bench
meshes: none
workloads: {{name: w, app: fixed-reply, reply_bytes: 1}}
loads: [{", ".join(f"{{rate_rps: {at + 1}}}" for at in range(TRIALS))}]
blocks: 1
seed: 1
"""


def trial_of(trial_id: str) -> MeasuredTrial:
    """Return a trial as a 60 s window leaves it: four histograms, 60 seconds, 6 components."""
    values_ns = np.random.default_rng(1).lognormal(12.5, 0.5, 60_000).astype(np.int64)
    load = LoadResult(
        "native", 1, "2.47.0", 1, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 60.0, 60_000, 60_000, 60_000, 0, 0, 0, 16,
        {"ok": 60_000}, {("ok", clock): Histogram.of(values_ns) for clock in CLOCKS},
        tuple(SecondRow(s, 1000, 1000, 1000, 0, 200.0, 900.0, 0.2) for s in range(60)), (200.0,) * 12, (), 90_000,
    )  # fmt: skip
    samples = tuple(
        UsageSample(f"c{c}", float(s), s * 0.1, s * 0.1, 1 << 20, 4, s) for s in range(61) for c in range(6)
    )
    return MeasuredTrial(trial_id, "measured", None, load, samples, (), (), ())


def store_trials(engine: sa.Engine) -> tuple[float, float]:
    """Return milliseconds a trial for storing and for reading back."""
    plan = load_plan(PLAN)
    arms = resolve_arms(plan, lambda _: ())
    resolved = ResolvedPlan(PLAN, plan, arms, expand(plan, arms, lambda *_: None), 1, {})
    with transaction(engine) as connection:
        run_id, _ = runs.submit(connection, runs.Submission(resolved, "k", "bench", 1.0, {}), lambda _: "here")
        connection.execute(sa.update(schema.site).values(state="free"))
        claim = leases.claim_next(connection, "here", "w", "h", 600)
        ids = connection.execute(sa.select(schema.trial.c.id)).scalars().all()
    if claim is None:
        raise RuntimeError("nothing to claim")
    measured = [trial_of(str(trial_id)) for trial_id in ids]
    began = time.perf_counter()
    for trial in measured:
        with transaction(engine) as connection:
            results.begin_trial(connection, claim, uuid.UUID(trial.trial_id))
        with transaction(engine) as connection:
            results.record_trial(connection, claim, trial)
    stored_s = time.perf_counter() - began
    began = time.perf_counter()
    with transaction(engine) as connection:
        run = records.read_run(connection, run_id)
    read_s = time.perf_counter() - began
    if len(run.trials) != TRIALS:
        raise RuntimeError("trials are missing")
    return 1e3 * stored_s / TRIALS, 1e3 * read_s / TRIALS


def copy_against_insert(engine: sa.Engine) -> float:
    """Return how many times faster COPY is than executemany, for rows of usage samples."""
    with engine.begin() as connection:
        trial_id = connection.execute(sa.select(schema.trial.c.id).limit(1)).scalar_one()
        row = (trial_id, 1, "app", 0.5, 1.0, 1.0, 1 << 20, 4, 10)
        names = ["trial_id", "attempt", "component", "at_s", "cpu_user_s", "cpu_system_s", "memory_bytes", "threads"]
        names.append("context_switches")
        began = time.perf_counter()
        copy_rows(connection, schema.usage_sample, names, (row for _ in range(ROWS)))
        copy_s = time.perf_counter() - began
        began = time.perf_counter()
        connection.execute(sa.insert(schema.usage_sample), [dict(zip(names, row, strict=True)) for _ in range(ROWS)])
        return (time.perf_counter() - began) / copy_s


def main() -> int:
    """Print one JSON line and one readable line."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", database_url=None, broker_url=None)
        state = up(settings, lambda _: None, "coordinator.embedded.services:servers_only")
        try:
            migrate(state.database_url)
            engine = connect(state.database_url)
            store_ms, read_ms = store_trials(engine)
            ratio = copy_against_insert(engine)
            engine.dispose()
        finally:
            down(settings, lambda _: None)
    report = {"bench": "store", "store_ms_per_trial": store_ms, "read_ms_per_trial": read_ms, "copy_to_insert": ratio}
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.write(
        f"a trial of 60 s is stored in {store_ms:.1f} ms and read back in {read_ms:.1f} ms; "
        f"COPY is {ratio:.1f} x as fast as INSERT\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
