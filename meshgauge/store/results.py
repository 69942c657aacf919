"""Results: beginning a trial, and storing what it measured in one fenced transaction."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.claim import Claim
from meshgauge.errors import FencedError
from meshgauge.store import events, leases, schema
from meshgauge.store.bulk import copy_rows
from meshgauge.trial import LoadResult, MeasuredTrial

# Stored in tables of their own, or derived from other fields.
_NOT_IN_SUMMARY = {"histograms", "seconds", "workers"}


def begin_trial(connection: sa.Connection, claim: Claim, trial_id: uuid.UUID) -> None:
    """Note that a trial of the claimed environment starts.

    Raises:
        FencedError: the lease is over, or the trial already has its answer.

    Doing it twice is harmless: a commit whose reply was lost is repeated.
    """
    leases.hold(connection, claim)
    if _attempt_row(connection, trial_id, claim) is not None:
        return
    begun = connection.execute(
        sa.update(schema.trial)
        .where(
            schema.trial.c.id == trial_id,
            schema.trial.c.environment_id == claim.environment_id,
            schema.trial.c.state == "pending",
        )
        .values(state="running")
        .returning(schema.trial.c.cell)
    ).one_or_none()
    if begun is None:
        raise FencedError(f"trial {trial_id} is not waiting to be measured")
    connection.execute(
        sa.insert(schema.trial_attempt).values(trial_id=trial_id, attempt=claim.attempt, epoch=claim.epoch)
    )
    connection.execute(
        sa.update(schema.environment).where(schema.environment.c.id == claim.environment_id).values(state="measuring")
    )
    events.append(connection, claim.run_id, "trial_started", {"trial": str(trial_id), "cell": begun.cell})


def record_trial(connection: sa.Connection, claim: Claim, measured: MeasuredTrial) -> bool:
    """Store everything a trial measured; return whether it counts.

    With a stale epoch the data are kept with the attempt, marked ``fenced``, and never used. Delivering
    the same attempt twice changes nothing.
    """
    trial_id = uuid.UUID(measured.trial_id)
    counts = _still_ours(connection, claim)
    attempt = _attempt_row(connection, trial_id, claim)
    if attempt is None and not counts:
        attempt = _late_attempt(connection, trial_id, claim)
    if attempt is None or attempt.stored or (counts and attempt.state != "running"):
        return False
    state = measured.state if counts else "fenced"
    connection.execute(
        sa.update(schema.trial_attempt)
        .where(schema.trial_attempt.c.trial_id == trial_id, schema.trial_attempt.c.attempt == claim.attempt)
        .values(
            state=state,
            reason=measured.reason,
            finished_at=sa.func.now(),
            summary=None if measured.load is None else load_summary(measured.load),
            checks=[dict(check) for check in measured.checks],
            nodes=sa.null() if measured.nodes is None else dict(measured.nodes),
        )
    )
    _store_series(connection, trial_id, claim.attempt, measured)
    if counts:
        connection.execute(
            sa.update(schema.trial)
            .where(schema.trial.c.id == trial_id)
            .values(state=measured.state, attempt=claim.attempt, reason=measured.reason)
        )
    events.append(
        connection, claim.run_id, "trial_finished",
        {"trial": measured.trial_id, "cell": attempt.cell, "state": state, "reason": measured.reason,
         **_headline(measured.load)},
    )  # fmt: skip
    return counts


def _attempt_row(connection: sa.Connection, trial_id: uuid.UUID, claim: Claim) -> sa.Row[Any] | None:
    """Return (stored, state, cell) of the claim's attempt at a trial and lock it; None when it never began."""
    return connection.execute(
        sa.text(
            "SELECT a.summary IS NOT NULL OR a.checks IS NOT NULL AS stored, a.state, t.cell"
            " FROM trial_attempt a JOIN trial t ON t.id = a.trial_id"
            " WHERE a.trial_id = :trial AND a.attempt = :attempt AND a.epoch = :epoch FOR UPDATE OF a"
        ),
        {"trial": trial_id, "attempt": claim.attempt, "epoch": claim.epoch},
    ).one_or_none()


def _late_attempt(connection: sa.Connection, trial_id: uuid.UUID, claim: Claim) -> sa.Row[Any] | None:
    """Note an attempt that began while Postgres was away and lost its lease there, to keep what it measured."""
    connection.execute(
        insert(schema.trial_attempt)
        .values(trial_id=trial_id, attempt=claim.attempt, epoch=claim.epoch, state="fenced")
        .on_conflict_do_nothing()
    )
    return _attempt_row(connection, trial_id, claim)


def _still_ours(connection: sa.Connection, claim: Claim) -> bool:
    try:
        leases.hold(connection, claim)
    except FencedError:
        return False
    return True


def _headline(load: LoadResult | None) -> dict[str, float | None]:
    if load is None:
        return {}
    net = load.clock("net")
    p50, p99 = net.quantile_ns(0.5), net.reportable_quantile_ns(0.99)
    return {
        "p50_ms": None if p50 is None else p50 / 1e6,
        "p99_ms": None if p99 is None else p99 / 1e6,
        "achieved_rps": load.achieved_rps,
    }


def load_summary(load: LoadResult) -> dict[str, Any]:
    """Return the scalar fields of ``load`` as JSON; histograms and seconds have tables of their own."""
    fields = {
        field.name: getattr(load, field.name) for field in dataclasses.fields(load) if field.name not in _NOT_IN_SUMMARY
    }
    fields["window_start"] = load.window_start.isoformat()
    fields["outcomes"] = dict(load.outcomes)
    fields["batch_p50_us"] = list(load.batch_p50_us)
    fields["workers"] = [dataclasses.asdict(worker) for worker in load.workers]
    return fields


def _store_series(connection: sa.Connection, trial_id: uuid.UUID, attempt: int, measured: MeasuredTrial) -> None:
    if measured.load is not None:
        _copy(connection, schema.histogram, trial_id, attempt, _histogram_rows(measured.load))
        _copy(connection, schema.second, trial_id, attempt, map(_row, measured.load.seconds))
    _copy(connection, schema.usage_sample, trial_id, attempt, map(_row, measured.samples))
    _copy(connection, schema.component_usage, trial_id, attempt, map(_row, measured.usage))
    _copy(connection, schema.gate, trial_id, attempt, map(_row, measured.gates))


def _row(record: Any) -> dict[str, Any]:
    row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in row.items()}


def _histogram_rows(load: LoadResult) -> Iterator[dict[str, Any]]:
    for (outcome, clock), histogram in load.histograms.items():
        yield {"outcome": outcome, "clock": clock, "total": histogram.total, "counts": histogram.encode()}


def _copy(
    connection: sa.Connection, table: sa.Table, trial_id: uuid.UUID, attempt: int, rows: Iterator[Mapping[str, Any]]
) -> None:
    materialised = list(rows)
    if not materialised:
        return
    columns = list(materialised[0])
    copy_rows(
        connection,
        table,
        ("trial_id", "attempt", *columns),
        ((trial_id, attempt, *(row[column] for column in columns)) for row in materialised),
    )
