"""Operations: submitted, claimed under their site's lease, followed line by line, ended, cancelled.

An operation and an environment take turns on a site: both lease it, and whichever was asked for first goes first.
An operation is never repeated: one that was lost has failed, and what it left is swept.
"""

from __future__ import annotations

import datetime as dt
import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.operations import CUT_OFF, OperationClaim, OperationOutcome, OperationRequest
from meshgauge.store import events, holding, schema
from meshgauge.store.schema_operations import operation, operation_line

MAX_LINE_CHARACTERS = 2000

# An operation's turn comes when no run that was submitted before it has anything left to do on the site.
_OLDER_RUN = (
    "EXISTS (SELECT 1 FROM environment e JOIN run r ON r.id = e.run_id WHERE e.site = o.site"
    " AND e.state IN ('pending', 'leased', 'measuring') AND r.finished_at IS NULL AND r.cancel_at IS NULL"
    " AND r.created_at < o.created_at)"
)
_GIVE_SITE_BACK = sa.text(
    "UPDATE site SET state = 'dirty', holder = NULL, environment_id = NULL, operation_id = NULL, lease_until = NULL,"
    " announced_at = NULL WHERE name = :site"
)


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation without its lines. ``phase``: the step it is at, or was at when it ended."""

    id: uuid.UUID
    action: str
    adapter: str | None
    subject: str
    request: Mapping[str, Any]
    site: str
    state: str
    phase: str | None
    reason: str | None
    result: Mapping[str, Any]
    epoch: int | None
    worker: str | None
    submitted_by: str
    cancel_at: dt.datetime | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an operation's log, cut to MAX_LINE_CHARACTERS.

    ``kind``: ``line``, ``phase`` (a step begins) or a change of its state.
    """

    id: int
    at: dt.datetime
    kind: str
    text: str


def submit(
    connection: sa.Connection, request: OperationRequest, site: str, idempotency_key: str, submitted_by: str
) -> tuple[uuid.UUID, bool]:
    """Store an operation; return its id and whether it is new.

    Raises:
        ConflictError: the idempotency key was used for another request.
    """
    operation_id, document = uuid.uuid4(), request.model_dump(mode="json")
    connection.execute(
        insert(schema.site).values(name=site, provider=request.provider).on_conflict_do_nothing(index_elements=["name"])
    )
    stored = connection.execute(
        insert(operation)
        .values(
            id=operation_id,
            idempotency_key=idempotency_key,
            action=request.action,
            adapter=request.adapter,
            subject=request.subject,
            request=document,
            site=site,
            submitted_by=submitted_by,
        )
        .on_conflict_do_nothing(index_elements=["idempotency_key"])
    )
    if stored.rowcount == 0:
        return _same(connection, idempotency_key, document), False
    _append(connection, operation_id, "submitted", f"{request.subject} on site {site}, asked for by {submitted_by}")
    return operation_id, True


def _same(connection: sa.Connection, idempotency_key: str, document: Mapping[str, Any]) -> uuid.UUID:
    row = connection.execute(
        sa.select(operation.c.id, operation.c.request).where(operation.c.idempotency_key == idempotency_key)
    ).one()
    if row.request != document:
        raise ConflictError(
            f"this idempotency key was used for another operation ({row.id}); send a new key with a changed request"
        )
    found: uuid.UUID = row.id
    return found


_COLUMNS = tuple(operation.c[name] for name in OperationRow.__slots__)


def get(connection: sa.Connection, operation_id: uuid.UUID) -> OperationRow:
    """Return one operation.

    Raises:
        UnknownNameError: no such operation.
    """
    row = connection.execute(sa.select(*_COLUMNS).where(operation.c.id == operation_id)).one_or_none()
    if row is None:
        raise UnknownNameError("operation", str(operation_id), [])
    return OperationRow(**row._mapping)


def newest(connection: sa.Connection, limit: int, before: dt.datetime | None = None) -> tuple[OperationRow, ...]:
    """Return up to ``limit`` operations, newest first, made before ``before``."""
    query = sa.select(*_COLUMNS).order_by(operation.c.created_at.desc(), operation.c.id).limit(limit)
    if before is not None:
        query = query.where(operation.c.created_at < before)
    return tuple(OperationRow(**row._mapping) for row in connection.execute(query))


def last_order(connection: sa.Connection, site: str, adapter: str) -> OperationRequest | None:
    """Return the request that last installed or configured ``adapter`` on ``site``; None: none did."""
    document = connection.execute(
        sa.select(operation.c.request)
        .where(
            operation.c.site == site,
            operation.c.adapter == adapter,
            operation.c.state == "done",
            operation.c.action.in_(("install", "configure", "upgrade")),
        )
        .order_by(operation.c.finished_at.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if document is None else OperationRequest.model_validate(document)


def starting_with(connection: sa.Connection, short: str) -> tuple[uuid.UUID, ...]:
    """Return up to three ids that begin with ``short``."""
    id_text = sa.cast(operation.c.id, sa.Text)
    found = connection.execute(sa.select(operation.c.id).where(id_text.startswith(short, autoescape=True)).limit(3))
    return tuple(found.scalars())


def lines(connection: sa.Connection, operation_id: uuid.UUID, after: int = 0, limit: int = 500) -> tuple[Line, ...]:
    """Return log lines with an id above ``after``, oldest first."""
    rows = connection.execute(
        sa.select(operation_line.c.id, operation_line.c.at, operation_line.c.kind, operation_line.c.text)
        .where(operation_line.c.operation_id == operation_id, operation_line.c.id > after)
        .order_by(operation_line.c.id)
        .limit(limit)
    )
    return tuple(Line(**row._mapping) for row in rows)


def last_lines(connection: sa.Connection, operation_id: uuid.UUID, limit: int) -> tuple[Line, ...]:
    """Return the last ``limit`` log lines, oldest first."""
    rows = connection.execute(
        sa.select(operation_line.c.id, operation_line.c.at, operation_line.c.kind, operation_line.c.text)
        .where(operation_line.c.operation_id == operation_id)
        .order_by(operation_line.c.id.desc())
        .limit(limit)
    ).all()
    return tuple(Line(**row._mapping) for row in reversed(rows))


def waits_for(connection: sa.Connection, row: OperationRow) -> str | None:
    """Return what a queued operation waits for, in words; None when it does not wait."""
    if row.state != "queued":
        return None
    run = connection.execute(
        sa.text(
            "SELECT r.id, r.name FROM environment e JOIN run r ON r.id = e.run_id JOIN operation o ON o.id = :id"
            " WHERE e.site = o.site AND e.state IN ('pending', 'leased', 'measuring') AND r.finished_at IS NULL"
            " AND r.cancel_at IS NULL AND r.created_at < o.created_at ORDER BY r.created_at LIMIT 1"
        ),
        {"id": row.id},
    ).one_or_none()
    if run is not None:
        return f"run {run.name} ({run.id}), which was submitted before it"
    site = connection.execute(sa.select(schema.site.c.state).where(schema.site.c.name == row.site)).scalar_one()
    return {
        "free": "a lifecycle worker", "leased": f"site {row.site}, which is in use",
        "quarantined": f"a person: site {row.site} is quarantined",
    }.get(site, f"site {row.site}, which is being cleaned")  # fmt: skip


def claim_next(connection: sa.Connection, site: str, holder: str, lease_s: float) -> OperationClaim | None:
    """Claim the site for the operation that is next in order; None when it is busy or none is due."""
    free = connection.execute(
        sa.text("SELECT epoch FROM site WHERE name = :site AND state = 'free' FOR UPDATE SKIP LOCKED"), {"site": site}
    ).one_or_none()
    if free is None:
        return None
    due = connection.execute(
        sa.text(
            "SELECT o.id FROM operation o WHERE o.site = :site AND o.state = 'queued'"  # noqa: S608 - a constant of ours
            f" AND NOT {_OLDER_RUN} ORDER BY o.created_at, o.id LIMIT 1 FOR UPDATE OF o SKIP LOCKED"
        ),
        {"site": site},
    ).one_or_none()
    if due is None:
        return None
    claim = OperationClaim(site, free.epoch + 1, holder, due.id)
    parameters = {"site": site, "epoch": claim.epoch, "holder": holder, "lease": lease_s, "id": due.id}
    for statement in (
        "UPDATE site SET state = 'leased', epoch = :epoch, holder = :holder, operation_id = :id, environment_id = NULL,"
        " lease_until = now() + make_interval(secs => :lease), reason = NULL WHERE name = :site",
        "UPDATE operation SET state = 'running', epoch = :epoch, worker = :holder, reason = NULL,"
        " started_at = coalesce(started_at, now()) WHERE id = :id",
    ):
        connection.execute(sa.text(statement), parameters)
    _append(connection, due.id, "claimed", f"worker {holder} begins")
    return claim


def renew(connection: sa.Connection, claim: OperationClaim, lease_s: float) -> bool:
    """Extend the lease; return whether somebody asks to cancel.

    Raises:
        FencedError: the lease is over and the site has moved on.
    """
    return holding.extend(connection, claim, lease_s, operation, claim.operation_id)


def hold(connection: sa.Connection, claim: OperationClaim) -> None:
    """Lock the site's row for the rest of this transaction and prove that it is still ours.

    Raises:
        FencedError: it is not.
    """
    row = connection.execute(
        sa.text("SELECT state, epoch, holder, operation_id FROM site WHERE name = :site FOR UPDATE"),
        {"site": claim.site},
    ).one_or_none()
    ours = ("leased", claim.epoch, claim.holder, claim.operation_id)
    if row is None or (row.state, row.epoch, row.holder, row.operation_id) != ours:
        raise holding.fenced(claim)


def say(connection: sa.Connection, claim: OperationClaim, told: Sequence[tuple[str, str]]) -> None:
    """Add lines to the log, each a kind (``line``, or ``phase`` where a step begins) and a text.

    Raises:
        FencedError: the lease is over.
    """
    hold(connection, claim)
    for kind, text in told:
        _append(connection, claim.operation_id, kind, text)
        if kind == "phase":
            connection.execute(sa.update(operation).where(operation.c.id == claim.operation_id).values(phase=text))


def end(
    connection: sa.Connection,
    claim: OperationClaim,
    outcome: OperationOutcome,
    reason: str | None,
    result: Mapping[str, Any],
) -> None:
    """Give the site back (dirty: it is swept before anything else) and write down what came out.

    Args:
        outcome: ``interrupted`` puts the operation back into the queue: its worker was asked to stop.

    Raises:
        FencedError: the lease is over; somebody else has decided.
    """
    hold(connection, claim)
    connection.execute(_GIVE_SITE_BACK, {"site": claim.site})
    asked = connection.execute(
        sa.select(operation.c.cancel_at.is_not(None)).where(operation.c.id == claim.operation_id).with_for_update()
    ).scalar_one()
    if outcome == "interrupted" and not asked:
        connection.execute(
            sa.update(operation).where(operation.c.id == claim.operation_id).values(state="queued", phase=None)
        )
        _append(connection, claim.operation_id, "interrupted", f"{reason}; it begins again")
        return
    state = "cancelled" if outcome == "interrupted" or (asked and outcome == "failed") else outcome
    _finish(connection, claim.operation_id, state, reason, result)


def lose(connection: sa.Connection, operation_id: uuid.UUID, epoch: int, reason: str) -> None:
    """Fail an operation whose worker stopped renewing its lease. The caller gives the site back."""
    running = connection.execute(
        sa.select(operation.c.action)
        .where(operation.c.id == operation_id, operation.c.epoch == epoch, operation.c.state == "running")
        .with_for_update()
    ).one_or_none()
    if running is not None:
        _finish(connection, operation_id, "failed", f"{reason}; {CUT_OFF[running.action]}", {})


def request_cancel(connection: sa.Connection, operation_id: uuid.UUID, cancelled_by: str) -> OperationRow:
    """Ask an operation to stop: a queued one is cancelled here, a running one is told by NOTIFY.

    A finished operation stays as it is.

    Raises:
        UnknownNameError: no such operation.
    """
    state = connection.execute(
        sa.update(operation)
        .where(operation.c.id == operation_id, operation.c.finished_at.is_(None), operation.c.cancel_at.is_(None))
        .values(cancel_at=sa.func.now(), cancelled_by=cancelled_by)
        .returning(operation.c.state)
    ).scalar_one_or_none()
    if state is not None:
        _append(connection, operation_id, "cancel_requested", f"{cancelled_by} asked to cancel")
    if state == "queued":
        _finish(connection, operation_id, "cancelled", f"cancelled by {cancelled_by} before it began", {})
    elif state == "running":
        connection.execute(sa.select(sa.func.pg_notify(events.CANCEL_CHANNEL, str(operation_id))))
    return get(connection, operation_id)


def fail_quarantined(connection: sa.Connection) -> int:
    """Fail the queued operations of quarantined sites; return how many."""
    rows = connection.execute(
        sa.text(
            "SELECT o.id, s.name, s.reason FROM operation o JOIN site s ON s.name = o.site"
            " WHERE o.state = 'queued' AND s.state = 'quarantined' FOR UPDATE OF o SKIP LOCKED"
        )
    ).all()
    for row in rows:
        hint = f"when that is put right: meshgauge site release {shlex.quote(row.name)}"
        _finish(connection, row.id, "failed", f"site {row.name} is quarantined: {row.reason}; {hint}", {})
    return len(rows)


def _finish(
    connection: sa.Connection, operation_id: uuid.UUID, state: str, reason: str | None, result: Mapping[str, Any]
) -> None:
    connection.execute(
        sa.update(operation)
        .where(operation.c.id == operation_id)
        .values(state=state, reason=reason, result=dict(result), finished_at=sa.func.now())
    )
    _append(connection, operation_id, "finished", f"{state}: {reason}" if reason else state)


def _append(connection: sa.Connection, operation_id: uuid.UUID, kind: str, text: str) -> None:
    """Add a line and wake those who watch; both take effect at commit."""
    connection.execute(
        sa.insert(operation_line).values(operation_id=operation_id, kind=kind, text=text[:MAX_LINE_CHARACTERS])
    )
    connection.execute(sa.select(sa.func.pg_notify(events.EVENT_CHANNEL, str(operation_id))))
