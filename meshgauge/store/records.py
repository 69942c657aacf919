"""Reading a whole run back: the one source of every report."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from operator import attrgetter
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

# The trial as text: to make a UUID of it costs more than all the rest of a row.
_Attempt = tuple[str, int]
_ROWS_AT_ONCE = 2000  # histograms are some 5 kB a row


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
    gates = _grouped(connection, run_id, schema.gate, GateResult, order="gate", spoils=_kinds)
    return tuple(
        TrialRecord(
            trial_id=(trial_id := str(row.id)),
            attempt=row.attempt or 0,
            block=row.block,
            replicate=row.replicate,
            position=row.position,
            cell=row.cell,
            state=row.state,
            reason=row.reason,
            started_at=row.started_at,
            finished_at=row.finished_at,
            load=_load(row.summary, histograms[trial_id, row.attempt], seconds[trial_id, row.attempt]),
            usage=tuple(usage[trial_id, row.attempt]),
            gates=tuple(gates[trial_id, row.attempt]),
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


def _counted(
    connection: sa.Connection, run_id: uuid.UUID, table: sa.Table, names: Iterable[str]
) -> Iterator[tuple[_Attempt, list[Any]]]:
    """Yield the named columns of each row of ``table`` that belongs to the counted attempt of one of a run's trials.

    The rows come in no order, and through a cursor on the server: the driver would hold all of them at once, in text.
    """
    trial = schema.trial
    columns = (table.c[name] for name in names)
    statement = sa.select(sa.cast(table.c.trial_id, sa.Text), table.c.attempt, *columns).join(
        trial,
        sa.and_(trial.c.id == table.c.trial_id, trial.c.attempt == table.c.attempt, trial.c.run_id == run_id),
    )
    for trial_id, attempt, *values in connection.execute(statement, execution_options={"yield_per": _ROWS_AT_ONCE}):
        yield (trial_id, attempt), values


def _histograms(
    connection: sa.Connection, run_id: uuid.UUID
) -> defaultdict[_Attempt, dict[tuple[Outcome, Clock], Histogram]]:
    found: defaultdict[_Attempt, dict[tuple[Outcome, Clock], Histogram]] = defaultdict(dict)
    rows = _counted(connection, run_id, schema.histogram, ("outcome", "clock", "counts"))
    for at, (outcome, clock, counts) in rows:
        found[at][outcome, clock] = Histogram.stored(bytes(counts))
    return found


def _grouped(
    connection: sa.Connection,
    run_id: uuid.UUID,
    table: sa.Table,
    record: type[Any],
    order: str,
    **convert: Callable[[Any], Any],
) -> defaultdict[_Attempt, list[Any]]:
    """Return the rows of ``table`` as records per attempt, each group sorted by its field ``order``."""
    found: defaultdict[_Attempt, list[Any]] = defaultdict(list)
    names = [field.name for field in dataclasses.fields(record)]
    made = [(names.index(name), make) for name, make in convert.items()]
    for at, values in _counted(connection, run_id, table, names):
        for place, make in made:
            values[place] = make(values[place])
        found[at].append(record(*values))
    for records in found.values():
        records.sort(key=attrgetter(order))
    return found


def _kinds(names: list[str]) -> frozenset[str]:
    return _kinds_of(tuple(names))


@cache
def _kinds_of(names: tuple[str, ...]) -> frozenset[str]:
    """Return one set for all gates that spoil the same: a run has 100 000 gates and a handful of such sets."""
    return frozenset(names)
