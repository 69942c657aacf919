"""Runs: submitting, listing, cancelling, finishing, and blocks added for invalid ones."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.document import plan_sha256
from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import Turn, block_order
from meshgauge.resolved import ResolvedPlan
from meshgauge.store import events, notices, schema
from meshgauge.store.bulk import copy_rows

MAX_EXTRA_BLOCKS_RATIO = 0.3  # measurement.md 6: at most 30 % more blocks than planned

STOPPED = "stopped"  # event of a sequential run that had its answers before its last block

SiteOf = Callable[[Infrastructure], str]


@dataclass(frozen=True, slots=True)
class Submission:
    """Who wants what run.

    Attributes:
        idempotency_key: the same key gives the same run.
        confirms: the finished run whose findings this one repeats on fresh blocks.
    """

    resolved: ResolvedPlan
    idempotency_key: str
    submitted_by: str
    estimate_s: float
    provenance: Mapping[str, Any]
    schedule_id: int | None = None
    fire_at: dt.datetime | None = None
    confirms: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run without its trials."""

    id: uuid.UUID
    name: str
    state: str
    reason: str | None
    submitted_by: str
    blocks: int
    extra_blocks: int
    estimate_s: float
    cancel_at: dt.datetime | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    schedule_id: int | None
    confirms: uuid.UUID | None  # the run whose findings it repeats
    trials: Mapping[str, int]  # number of trials per state


def submit(connection: sa.Connection, submission: Submission, site_of: SiteOf) -> tuple[uuid.UUID, bool]:
    """Store a run with all its environments and trials; return its id and whether it is new.

    Raises:
        ConflictError: the idempotency key was used for another plan.
    """
    resolved = submission.resolved
    sha256 = plan_sha256(resolved.text)
    connection.execute(
        insert(schema.plan)
        .values(sha256=sha256, name=resolved.plan.name, body=resolved.text)
        .on_conflict_do_nothing(index_elements=["sha256"])
    )
    run_id = uuid.uuid4()
    stored = connection.execute(
        insert(schema.run)
        .values(
            id=run_id,
            plan_sha256=sha256,
            idempotency_key=submission.idempotency_key,
            name=resolved.plan.name,
            document=resolved.document(),
            resolved=resolved.resolution(),
            seed=resolved.seed,
            blocks=resolved.plan.blocks,
            submitted_by=submission.submitted_by,
            schedule_id=submission.schedule_id,
            fire_at=submission.fire_at,
            estimate_s=submission.estimate_s,
            provenance=dict(submission.provenance),
            confirms=submission.confirms,
        )
        .on_conflict_do_nothing(index_elements=["idempotency_key"])
    )
    if stored.rowcount == 0:
        return _same_run(connection, submission.idempotency_key, sha256), False
    turns = block_order(resolved.matrix, resolved.plan.blocks, resolved.seed, resolved.plan.baseline)
    sites = {infrastructure.name: site_of(infrastructure) for infrastructure in resolved.plan.infrastructures}
    connection.execute(
        insert(schema.site)
        .values([{"name": sites[i.name], "provider": i.provider} for i in resolved.plan.infrastructures])
        .on_conflict_do_nothing()
    )
    _insert_turns(connection, run_id, turns, sites)
    events.append(
        connection, run_id, "submitted", {"name": resolved.plan.name, "trials": sum(len(t.cells) for t in turns)}
    )
    return run_id, True


def _same_run(connection: sa.Connection, idempotency_key: str, sha256: str) -> uuid.UUID:
    row = connection.execute(
        sa.select(schema.run.c.id, schema.run.c.plan_sha256).where(schema.run.c.idempotency_key == idempotency_key)
    ).one()
    if row.plan_sha256 != sha256:
        raise ConflictError(
            f"idempotency key {idempotency_key!r} was used for another plan (run {row.id}); send a new key"
        )
    found: uuid.UUID = row.id
    return found


def _insert_turns(
    connection: sa.Connection, run_id: uuid.UUID, turns: Sequence[Turn], sites: Mapping[str, str]
) -> None:
    """Append environments and trials; ``sites`` gives the site of each infrastructure by name."""
    first = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(schema.environment.c.ordinal) + 1, 0)).where(
            schema.environment.c.run_id == run_id
        )
    ).scalar_one()
    ids = [uuid.uuid4() for _ in turns]
    copy_rows(
        connection,
        schema.environment,
        ("id", "run_id", "ordinal", "block", "position", "replicate", "key", "labels", "site"),
        (
            (ids[at], run_id, first + at, turn.block, turn.position, turn.replicate, turn.environment.key,
             turn.environment.key.split("/"), sites[turn.environment.infrastructure.name])
            for at, turn in enumerate(turns)
        ),
    )  # fmt: skip
    copy_rows(
        connection,
        schema.trial,
        ("id", "run_id", "environment_id", "turn", "cell", "load"),
        (
            (uuid.uuid4(), run_id, ids[at], order, cell.key, cell.load.label)
            for at, turn in enumerate(turns)
            for order, cell in enumerate(turn.cells)
        ),
    )


def restored_plan(connection: sa.Connection, run_id: uuid.UUID) -> ResolvedPlan:
    """Return the frozen plan of a run.

    Raises:
        UnknownNameError: no such run.
    """
    row = connection.execute(
        sa.select(schema.run.c.document, schema.run.c.resolved, schema.run.c.seed, schema.plan.c.body)
        .join(schema.plan, schema.plan.c.sha256 == schema.run.c.plan_sha256)
        .where(schema.run.c.id == run_id)
    ).one_or_none()
    if row is None:
        raise UnknownNameError("run", str(run_id), [])
    return ResolvedPlan.restored(row.body, row.document, row.resolved, row.seed)


_RUN_COLUMNS = (
    schema.run.c.id,
    schema.run.c.name,
    schema.run.c.state,
    schema.run.c.reason,
    schema.run.c.submitted_by,
    schema.run.c.blocks,
    schema.run.c.extra_blocks,
    schema.run.c.estimate_s,
    schema.run.c.cancel_at,
    schema.run.c.created_at,
    schema.run.c.started_at,
    schema.run.c.finished_at,
    schema.run.c.schedule_id,
    schema.run.c.confirms,
)


def get(connection: sa.Connection, run_id: uuid.UUID) -> RunRow:
    """Return one run.

    Raises:
        UnknownNameError: no such run.
    """
    row = connection.execute(sa.select(*_RUN_COLUMNS).where(schema.run.c.id == run_id)).one_or_none()
    if row is None:
        raise UnknownNameError("run", str(run_id), [])
    return RunRow(**row._mapping, trials=_trial_counts(connection, [run_id]).get(run_id, {}))


def newest(connection: sa.Connection, limit: int, before: dt.datetime | None = None) -> tuple[RunRow, ...]:
    """Return up to ``limit`` runs, newest first, made before ``before``."""
    query = sa.select(*_RUN_COLUMNS).order_by(schema.run.c.created_at.desc()).limit(limit)
    if before is not None:
        query = query.where(schema.run.c.created_at < before)
    rows = connection.execute(query).all()
    counts = _trial_counts(connection, [row.id for row in rows])
    return tuple(RunRow(**row._mapping, trials=counts.get(row.id, {})) for row in rows)


def count(connection: sa.Connection) -> int:
    """Return how many runs there are."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(schema.run)).scalar_one())


def confirming(connection: sa.Connection, run_id: uuid.UUID) -> tuple[uuid.UUID, ...]:
    """Return the runs that repeat findings of ``run_id`` on fresh blocks, newest first."""
    query = sa.select(schema.run.c.id).where(schema.run.c.confirms == run_id).order_by(schema.run.c.created_at.desc())
    return tuple(connection.execute(query).scalars())


def _trial_counts(connection: sa.Connection, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, dict[str, int]]:
    counts: dict[uuid.UUID, dict[str, int]] = {}
    for run_id, state, number in connection.execute(
        sa.select(schema.trial.c.run_id, schema.trial.c.state, sa.func.count())
        .where(schema.trial.c.run_id.in_(run_ids))
        .group_by(schema.trial.c.run_id, schema.trial.c.state)
    ):
        counts.setdefault(run_id, {})[state] = number
    return counts


def request_cancel(connection: sa.Connection, run_id: uuid.UUID, cancelled_by: str) -> RunRow:
    """Ask a run to stop at once: pending work is cancelled here, running work is told by NOTIFY.

    A finished run stays as it is.

    Raises:
        UnknownNameError: no such run.
    """
    lock_pending(connection, run_id)
    asked = connection.execute(
        sa.update(schema.run)
        .where(schema.run.c.id == run_id, schema.run.c.finished_at.is_(None), schema.run.c.cancel_at.is_(None))
        .values(cancel_at=sa.func.now(), cancelled_by=cancelled_by)
    )
    if asked.rowcount:
        cancel_pending(connection, run_id)
        events.append(connection, run_id, "cancel_requested", {"by": cancelled_by})
        connection.execute(sa.select(sa.func.pg_notify(events.CANCEL_CHANNEL, str(run_id))))
        advance(connection, run_id)
    return get(connection, run_id)


def lock_pending(connection: sa.Connection, run_id: uuid.UUID) -> None:
    """Lock what nobody has claimed, before the run: the other way round it can deadlock with whoever claims one."""
    connection.execute(
        sa.select(schema.environment.c.id)
        .where(schema.environment.c.run_id == run_id, schema.environment.c.state == "pending")
        .order_by(schema.environment.c.ordinal)
        .with_for_update()
    )


def cancel_pending(connection: sa.Connection, run_id: uuid.UUID, reason: str = "the run was cancelled") -> None:
    """Cancel everything of a run that nobody has claimed."""
    ended = (
        connection.execute(
            sa.update(schema.environment)
            .where(schema.environment.c.run_id == run_id, schema.environment.c.state == "pending")
            .values(state="cancelled", reason=reason)
            .returning(schema.environment.c.id)
        )
        .scalars()
        .all()
    )
    connection.execute(
        sa.update(schema.trial)
        .where(schema.trial.c.environment_id.in_(ended), schema.trial.c.state.in_(("pending", "running")))
        .values(state="cancelled", reason=reason)
    )


def _finish(connection: sa.Connection, run_id: uuid.UUID, run: sa.Row[Any]) -> None:
    """End the run with a sentence that says what happened."""
    counts = _trial_counts(connection, [run_id]).get(run_id, {})
    state = _final_state(counts, cancelled=run.cancel_at is not None)
    reason = _sentence(connection, run_id, counts, run.cancelled_by)
    name = connection.execute(
        sa.update(schema.run)
        .where(schema.run.c.id == run_id)
        .values(state=state, reason=reason, finished_at=sa.func.now())
        .returning(schema.run.c.name)
    ).scalar_one()
    events.append(connection, run_id, "finished", {"state": state, "reason": reason})
    # Whoever ends a run, worker or coordinator, tells of it in the transaction that ends it: once, or not at all.
    facts = {"run": str(run_id), "subject": name, "state": state, "reason": reason}
    notices.put(connection, "run_finished", f"run {run_id} finished", facts)


def _final_state(counts: Mapping[str, int], *, cancelled: bool) -> str:
    if cancelled:
        return "cancelled"
    return "done" if counts.get("measured") else "failed"


def _sentence(connection: sa.Connection, run_id: uuid.UUID, counts: Mapping[str, int], cancelled_by: str | None) -> str:
    order = ("measured", "invalid", "failed", "cancelled")
    parts = [f"{counts[state]} {state}" for state in order if counts.get(state)]
    sentence = f"{', '.join(parts) or 'no'} trials"
    if cancelled_by:
        sentence += f"; cancelled by {cancelled_by}"
    stopped = _stopped_because(connection, run_id)
    if stopped:
        sentence += f"; {stopped}"
    spoilt = ", ".join(f"{gate} {number}x" for gate, number in _invalid_gates(connection, run_id))
    if spoilt:
        sentence += f"; invalid by {spoilt}"
    for reason, number in _other_reasons(connection, run_id):
        sentence += f"; {number}x {reason}"
    return sentence


def _stopped_because(connection: sa.Connection, run_id: uuid.UUID) -> str | None:
    """Return what the look that stopped a sequential run said; None for a run that nobody stopped early."""
    data = connection.execute(
        sa.select(schema.event.c.data).where(schema.event.c.run_id == run_id, schema.event.c.kind == STOPPED)
    ).scalar()
    return None if data is None else str(data["sentence"])


_OF_FINAL_ATTEMPT = (schema.gate.c.trial_id == schema.trial.c.id) & (schema.gate.c.attempt == schema.trial.c.attempt)


def _invalid_gates(connection: sa.Connection, run_id: uuid.UUID) -> Sequence[sa.Row[Any]]:
    """Return each gate that made trials of the run invalid, with their number, most first."""
    return connection.execute(
        sa.select(schema.gate.c.gate, sa.func.count())
        .join(schema.trial, _OF_FINAL_ATTEMPT)
        .where(schema.trial.c.run_id == run_id, schema.trial.c.state == "invalid", schema.gate.c.status == "invalid")
        .group_by(schema.gate.c.gate)
        .order_by(sa.func.count().desc(), schema.gate.c.gate)
    ).all()


def _other_reasons(connection: sa.Connection, run_id: uuid.UUID) -> Sequence[sa.Row[Any]]:
    """Return the three commonest reasons of trials that failed, or were invalid without a gate's answer."""
    judged = sa.exists().where(_OF_FINAL_ATTEMPT, schema.gate.c.status == "invalid")
    return connection.execute(
        sa.select(schema.trial.c.reason, sa.func.count())
        .where(schema.trial.c.run_id == run_id, schema.trial.c.state.in_(("failed", "invalid")), ~judged)
        .group_by(schema.trial.c.reason)
        .order_by(sa.func.count().desc(), schema.trial.c.reason)
        .limit(3)
    ).all()


def advance(connection: sa.Connection, run_id: uuid.UUID) -> None:
    """When nothing of the run is open: add a block for an invalid one if that is still allowed, else end the run."""
    run = connection.execute(
        sa.select(schema.run.c.blocks, schema.run.c.extra_blocks, schema.run.c.cancel_at, schema.run.c.cancelled_by)
        .where(schema.run.c.id == run_id, schema.run.c.finished_at.is_(None))
        .with_for_update()
    ).one_or_none()
    if run is None or _open_environments(connection, run_id):
        return
    over = run.cancel_at is not None or _stopped_because(connection, run_id) is not None
    if over or not _add_block_for_invalid(connection, run_id, run):
        _finish(connection, run_id, run)


def _open_environments(connection: sa.Connection, run_id: uuid.UUID) -> int:
    environment = schema.environment
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(environment)
        .where(environment.c.run_id == run_id, environment.c.state.in_(("pending", "leased", "measuring")))
    ).scalar_one()


def _add_block_for_invalid(connection: sa.Connection, run_id: uuid.UUID, run: sa.Row[Any]) -> bool:
    """Add one more block when blocks have invalid trials and the allowance is not used up; return whether.

    Source: measurement.md 6: an invalid trial's block is redone at the end, at most 30 % more blocks.
    """
    spoiled = connection.execute(
        sa.select(sa.func.count(sa.distinct(schema.environment.c.block)))
        .select_from(schema.trial.join(schema.environment, schema.environment.c.id == schema.trial.c.environment_id))
        .where(schema.trial.c.run_id == run_id, schema.trial.c.state == "invalid")
    ).scalar_one()
    if spoiled <= run.extra_blocks or run.extra_blocks >= math.floor(run.blocks * MAX_EXTRA_BLOCKS_RATIO):
        return False
    resolved = restored_plan(connection, run_id)
    block = run.blocks + run.extra_blocks
    turns = block_order(resolved.matrix, block + 1, resolved.seed, resolved.plan.baseline)
    environment = schema.environment
    sites = connection.execute(
        sa.select(environment.c.labels[4], environment.c.site).where(environment.c.run_id == run_id).distinct()
    )
    _insert_turns(connection, run_id, [t for t in turns if t.block == block], {row[0]: row[1] for row in sites})
    connection.execute(sa.update(schema.run).where(schema.run.c.id == run_id).values(extra_blocks=run.extra_blocks + 1))
    events.append(connection, run_id, "block_added", {"block": block, "invalid_blocks": spoiled})
    return True


def open_runs(connection: sa.Connection) -> Iterable[sa.Row[Any]]:
    """Return id and cancel_at of every run that is not finished, oldest first."""
    return connection.execute(
        sa.select(schema.run.c.id, schema.run.c.cancel_at)
        .where(schema.run.c.finished_at.is_(None))
        .order_by(schema.run.c.created_at)
    ).all()
