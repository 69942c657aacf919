"""How far a run has come, and how long it will still take at the pace seen so far."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.estimate import trial_s
from meshgauge.plan import Plan
from meshgauge.store import records, runs, schema
from meshgauge.store.events import Event
from meshgauge.store.progress import PROGRESS
from meshgauge.store.runs import RunRow

_OVER = ("measured", "invalid", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Current:
    """An environment that is up, or coming up, and the trial it is at.

    trial: 1-based, of ``trials`` in this environment; None before the first.
    """

    environment: str
    block: int  # 1-based
    position: int  # 1-based
    attempt: int
    phase: str
    site: str
    worker: str
    trial: int | None
    trials: int
    cell: str | None
    load: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one instant. Blocks count from 1; ``blocks`` includes those added for invalid ones.

    time_left_s: None when the run is over; before the first trial is done it is the plan's estimate.
    last_event: follow the run from here on.
    """

    run: RunRow
    block: int
    blocks: int
    environments: Mapping[str, int]
    done: int
    total: int
    elapsed_s: float | None
    time_left_s: float | None
    now: tuple[Current, ...]
    last_event: int


@dataclass(frozen=True, slots=True)
class Share:
    """Trials of one load in one state."""

    load: str
    state: str
    number: int


def progress_of(connection: sa.Connection, run_id: uuid.UUID) -> Progress:
    """Return how far a run has come.

    Raises:
        UnknownNameError: no such run.
    """
    run = runs.get(connection, run_id)
    plan = Plan.model_validate(
        connection.execute(sa.select(schema.run.c.document).where(schema.run.c.id == run_id)).scalar_one()
    )
    at: dt.datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
    shares = tuple(
        Share(row.load, row.state, row.number)
        for row in connection.execute(
            sa.select(schema.trial.c.load, schema.trial.c.state, sa.func.count().label("number"))
            .where(schema.trial.c.run_id == run_id)
            .group_by(schema.trial.c.load, schema.trial.c.state)
        )
    )
    elapsed_s = _elapsed_s(run, at)
    return Progress(
        run=run,
        block=_current_block(connection, run),
        blocks=run.blocks + run.extra_blocks,
        environments=_environment_counts(connection, run_id),
        done=sum(share.number for share in shares if share.state in _OVER),
        total=sum(share.number for share in shares),
        elapsed_s=elapsed_s,
        time_left_s=None
        if run.finished_at
        else time_left_s(plan, shares, elapsed_s, _worked_s(connection, run), run.estimate_s),
        now=_current(connection, run_id),
        last_event=records.last_change(connection, run_id),
    )


def _elapsed_s(run: RunRow, at: dt.datetime) -> float | None:
    if run.started_at is None:
        return None
    return ((run.finished_at or at) - run.started_at).total_seconds()


def _worked_s(connection: sa.Connection, run: RunRow) -> float | None:
    """Return the seconds from the run's start to the end of its last finished trial; None before the first."""
    attempt = schema.trial_attempt
    last = connection.execute(
        sa.select(sa.func.max(attempt.c.finished_at))
        .join(schema.trial, schema.trial.c.id == attempt.c.trial_id)
        .where(schema.trial.c.run_id == run.id)
    ).scalar_one()
    return None if last is None or run.started_at is None else float((last - run.started_at).total_seconds())


def time_left_s(
    plan: Plan, shares: Sequence[Share], elapsed_s: float | None, worked_s: float | None, estimate_s: float
) -> float:
    """Return the expected seconds to the end, from the pace of the trials that are over.

    Trials are weighted by what their load says they take; a run without a finished trial goes by the estimate.

    Args:
        elapsed_s: since the run began; None: it has not.
        worked_s: part of that until the last trial ended. The time after it belongs to the trial now at work.
    """
    weights = {load.label: trial_s(load) for load in plan.loads}
    done_s = sum(weights[share.load] * share.number for share in shares if share.state in _OVER)
    open_s = sum(weights[share.load] * share.number for share in shares if share.state not in _OVER)
    if elapsed_s is None or worked_s is None or done_s == 0:
        return max(0.0, estimate_s - (elapsed_s or 0.0))
    return max(0.0, open_s * worked_s / done_s - (elapsed_s - worked_s))


def _current_block(connection: sa.Connection, run: RunRow) -> int:
    """Return the block the run is in, from 1; the last one when nothing is open."""
    first_open = connection.execute(
        sa.select(sa.func.min(schema.environment.c.block)).where(
            schema.environment.c.run_id == run.id, schema.environment.c.state.in_(("pending", "leased", "measuring"))
        )
    ).scalar_one()
    last = run.blocks + run.extra_blocks
    return last if first_open is None else int(first_open) + 1


def _environment_counts(connection: sa.Connection, run_id: uuid.UUID) -> dict[str, int]:
    rows = connection.execute(
        sa.select(schema.environment.c.state, sa.func.count().label("number"))
        .where(schema.environment.c.run_id == run_id)
        .group_by(schema.environment.c.state)
    )
    return {row.state: row.number for row in rows}


def _current(connection: sa.Connection, run_id: uuid.UUID) -> tuple[Current, ...]:
    environment, attempt = schema.environment, schema.environment_attempt
    is_last = sa.and_(attempt.c.environment_id == environment.c.id, attempt.c.attempt == environment.c.attempt)
    rows = connection.execute(
        sa.select(environment.c.id, environment.c.key, environment.c.block, environment.c.position,
                  environment.c.attempt, environment.c.site, attempt.c.phase, attempt.c.worker)
        .join(attempt, is_last)
        .where(environment.c.run_id == run_id, environment.c.state.in_(("leased", "measuring")))
        .order_by(environment.c.ordinal)
    ).all()  # fmt: skip
    return tuple(_with_trial(connection, row) for row in rows)


def _with_trial(connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Current:
    trials = connection.execute(
        sa.select(schema.trial.c.turn, schema.trial.c.cell, schema.trial.c.load, schema.trial.c.state)
        .where(schema.trial.c.environment_id == row.id)
        .order_by(schema.trial.c.turn)
    ).all()
    running = next((trial for trial in trials if trial.state == "running"), None)
    return Current(
        environment=row.key,
        block=row.block + 1,
        position=row.position + 1,
        attempt=row.attempt,
        phase=row.phase,
        site=row.site,
        worker=row.worker,
        trial=None if running is None else running.turn + 1,
        trials=len(trials),
        cell=None if running is None else running.cell,
        load=None if running is None else running.load,
    )


def last_events(connection: sa.Connection, run_id: uuid.UUID, limit: int) -> tuple[Event, ...]:
    """Return what happened last, newest first, without the reports from inside of a trial."""
    rows = connection.execute(
        sa.select(schema.event.c.id, schema.event.c.at, schema.event.c.kind, schema.event.c.data)
        .where(schema.event.c.run_id == run_id, schema.event.c.kind != PROGRESS)
        .order_by(schema.event.c.id.desc())
        .limit(limit)
    )
    return tuple(Event(row.id, row.at, row.kind, row.data) for row in rows)
