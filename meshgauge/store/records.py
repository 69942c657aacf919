"""Reading a whole run back: the one source of every report."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from meshgauge.document import plan_sha256
from meshgauge.errors import UnknownNameError
from meshgauge.histogram import Histogram
from meshgauge.run import EnvironmentRecord, RunRecord
from meshgauge.store import schema
from meshgauge.store.runs import restored_plan
from meshgauge.trial import (
    Clock,
    ComponentUsage,
    GateResult,
    LoadResult,
    Outcome,
    SecondRow,
    TrialRecord,
    WorkerHealth,
)

_Attempt = tuple[uuid.UUID, int]


def read_run(connection: sa.Connection, run_id: uuid.UUID) -> RunRecord:
    """Return everything a report of the run is made of; for each trial the attempt that counts.

    Raises:
        UnknownNameError: no such run.
    """
    run = connection.execute(sa.select(schema.run).where(schema.run.c.id == run_id)).one_or_none()
    if run is None:
        raise UnknownNameError("run", str(run_id), [])
    resolved = restored_plan(connection, run_id)
    return RunRecord(
        run_id=str(run_id),
        plan=resolved.plan,
        plan_sha256=plan_sha256(resolved.text),
        arms=resolved.arms,
        cells=resolved.matrix.cells,
        skipped=resolved.matrix.skipped,
        seed=resolved.seed,
        blocks=run.blocks + run.extra_blocks,
        state=run.state,
        reason=run.reason,
        submitted_by=run.submitted_by,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        trials=_trials(connection, run_id),
        environments=_environments(connection, run_id),
        features=resolved.features,
        provenance={**run.provenance, "tuning": run.tuning},
        confirms=None if run.confirms is None else str(run.confirms),
    )


def last_change(connection: sa.Connection, run_id: uuid.UUID) -> int:
    """Return the id of the run's newest event: the same number means that nothing has changed."""
    newest = connection.execute(
        sa.select(sa.func.max(schema.event.c.id)).where(schema.event.c.run_id == run_id)
    ).scalar_one()
    return newest or 0


def _environments(connection: sa.Connection, run_id: uuid.UUID) -> tuple[EnvironmentRecord, ...]:
    attempt, environment = schema.environment_attempt, schema.environment
    rows = connection.execute(
        sa.select(
            attempt.c.environment_id,
            attempt.c.attempt,
            environment.c.key,
            environment.c.block,
            environment.c.position,
            environment.c.replicate,
            attempt.c.worker,
            attempt.c.host,
            attempt.c.started_at,
            attempt.c.finished_at,
            attempt.c.outcome,
            attempt.c.reason,
            attempt.c.provenance,
        )
        .join(environment, environment.c.id == attempt.c.environment_id)
        .where(environment.c.run_id == run_id)
        .order_by(attempt.c.started_at)
    )
    return tuple(EnvironmentRecord(**{**row._mapping, "environment_id": str(row.environment_id)}) for row in rows)


def _trials(connection: sa.Connection, run_id: uuid.UUID) -> tuple[TrialRecord, ...]:
    trial, attempt, environment = schema.trial, schema.trial_attempt, schema.environment
    rows = connection.execute(
        sa.select(
            trial.c.id,
            trial.c.cell,
            trial.c.state,
            trial.c.reason,
            trial.c.attempt,
            environment.c.block,
            environment.c.replicate,
            environment.c.position,
            attempt.c.started_at,
            attempt.c.finished_at,
            attempt.c.summary,
            attempt.c.checks,
        )
        .select_from(
            trial.join(environment, environment.c.id == trial.c.environment_id).outerjoin(
                attempt, sa.and_(attempt.c.trial_id == trial.c.id, attempt.c.attempt == trial.c.attempt)
            )
        )
        .where(trial.c.run_id == run_id)
        .order_by(environment.c.ordinal, trial.c.turn)
    ).all()
    histograms = _histograms(connection, run_id)
    seconds = _grouped(connection, run_id, schema.second, SecondRow, order="second")
    usage = _grouped(connection, run_id, schema.component_usage, ComponentUsage, order="component")
    gates = _grouped(connection, run_id, schema.gate, GateResult, order="gate", spoils=frozenset)
    return tuple(
        TrialRecord(
            trial_id=str(row.id),
            attempt=row.attempt or 0,
            block=row.block,
            replicate=row.replicate,
            position=row.position,
            cell=row.cell,
            state=row.state,
            reason=row.reason,
            started_at=row.started_at,
            finished_at=row.finished_at,
            load=_load(row.summary, histograms[row.id, row.attempt], seconds[row.id, row.attempt]),
            usage=tuple(usage[row.id, row.attempt]),
            gates=tuple(gates[row.id, row.attempt]),
            provenance={"checks": row.checks or []},
        )
        for row in rows
    )


def _load(
    summary: Mapping[str, Any] | None,
    histograms: Mapping[tuple[Outcome, Clock], Histogram],
    seconds: Iterable[SecondRow],
) -> LoadResult | None:
    if summary is None:
        return None
    return LoadResult(
        **{
            **summary,
            "window_start": dt.datetime.fromisoformat(summary["window_start"]),
            "batch_p50_us": tuple(summary["batch_p50_us"]),
            "workers": tuple(WorkerHealth(**worker) for worker in summary["workers"]),
            "histograms": histograms,
            "seconds": tuple(seconds),
        }
    )


def _counted(table: sa.Table, run_id: uuid.UUID) -> sa.Select[Any]:
    """Select the rows of ``table`` that belong to the counted attempts of a run's trials."""
    trial = schema.trial
    return sa.select(table).join(
        trial,
        sa.and_(trial.c.id == table.c.trial_id, trial.c.attempt == table.c.attempt, trial.c.run_id == run_id),
    )


def _histograms(
    connection: sa.Connection, run_id: uuid.UUID
) -> defaultdict[_Attempt, dict[tuple[Outcome, Clock], Histogram]]:
    found: defaultdict[_Attempt, dict[tuple[Outcome, Clock], Histogram]] = defaultdict(dict)
    for row in connection.execute(_counted(schema.histogram, run_id)):
        found[row.trial_id, row.attempt][row.outcome, row.clock] = Histogram.decode(bytes(row.counts))
    return found


def _grouped(
    connection: sa.Connection, run_id: uuid.UUID, table: sa.Table, record: Any, order: str, **convert: Any
) -> defaultdict[_Attempt, list[Any]]:
    found: defaultdict[_Attempt, list[Any]] = defaultdict(list)
    for row in connection.execute(_counted(table, run_id).order_by(table.c[order])):
        values = {**row._mapping}
        at = (values.pop("trial_id"), values.pop("attempt"))
        for name, make in convert.items():
            values[name] = make(values[name])
        found[at].append(record(**values))
    return found
