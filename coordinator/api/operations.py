"""``/api/v1/operations``: a mesh installed, configured, verified, upgraded or removed outside of runs."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Response, request, url_for
from werkzeug.exceptions import BadRequest

from coordinator import operations as accepting
from coordinator.api.answers import answer
from coordinator.api.runs import MAX_LISTED, idempotency_key, instant, positive_number
from coordinator.web.callers import caller, refuse_foreign_clusters
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.guards import body_of
from coordinator.web.installation import installation
from meshgauge.errors import UnknownNameError
from meshgauge.infrastructures import Infrastructure
from meshgauge.operations import OperationRequest
from meshgauge.store import operations
from meshgauge.store.database import transaction
from meshgauge.store.operations import OperationRow

_DEFAULT_LISTED = 20
_SHORTEST_ID = 6

blueprint = Blueprint("operations", __name__, url_prefix="/api/v1/operations")

_KEY = QueryParameter(
    "Idempotency-Key",
    "The same key with the same body gives the same operation; with another body it is 409.",
    {"type": "string", "maxLength": 200},
    header=True,
)
_LIMIT = QueryParameter("limit", "How many", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED})
_BEFORE = QueryParameter("before", "Only operations made before this time", {"type": "string", "format": "date-time"})
_AFTER = QueryParameter("after", "Only log lines after the one with this id", {"type": "integer", "minimum": 0})


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation. ``phase`` is the step it is at; ``waits_for`` what a queued one waits for; times are UTC."""

    id: str
    action: str
    adapter: str | None
    subject: str
    site: str
    state: str
    phase: str | None
    reason: str | None
    waits_for: str | None
    result: Mapping[str, Any]
    request: Mapping[str, Any]
    submitted_by: str
    cancel_requested_at: dt.datetime | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    links: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LineView:
    """One line of the log; ``kind`` is ``line``, ``phase`` where a step begins, or a change of state."""

    id: int
    at: dt.datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class OperationDetail:
    """An operation and its log. ``more``: there are lines beyond these; ask again with ``after``."""

    operation: OperationView
    lines: tuple[LineView, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class OperationList:
    """Operations, newest first. ``next``: address of the following page; None on the last."""

    operations: tuple[OperationView, ...]
    next: str | None


_MAX_LINES = 500


def operation_view(connection: sa.Connection, row: OperationRow) -> OperationView:
    """Return an operation as the API shows it."""
    address = url_for("operations.show", operation=str(row.id))
    return OperationView(
        id=str(row.id),
        action=row.action,
        adapter=row.adapter,
        subject=row.subject,
        site=row.site,
        state=row.state,
        phase=row.phase,
        reason=row.reason,
        waits_for=operations.waits_for(connection, row),
        result=row.result,
        request=row.request,
        submitted_by=row.submitted_by,
        cancel_requested_at=row.cancel_at,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        links={"self": address, "cancel": f"{address}/cancel"},
    )


def operation_id_of(connection: sa.Connection, text: str) -> uuid.UUID:
    """Return the id a path names: in full, or by its first characters when they are unique.

    Raises:
        UnknownNameError: no such operation, or several begin like that.
    """
    try:
        return uuid.UUID(text)
    except ValueError:
        pass
    short = text.lower()
    found = operations.starting_with(connection, short) if len(short) >= _SHORTEST_ID else ()
    if len(found) != 1:
        raise UnknownNameError("operation", text, map(str, found))
    return found[0]


@blueprint.post("")
@declared(
    Facts("run", "Install, configure, verify, upgrade or remove a mesh, clean a cluster, or check an adapter",
          OperationView, status=202, takes=OperationRequest, parameters=(_KEY,)),
)  # fmt: skip
def submit() -> Response:
    installed = installation()
    asked = body_of(OperationRequest)
    refuse_foreign_clusters(installed.settings, [asked.infrastructure])
    accepting.refuse_unknown(asked, installed.adapter_rows())
    operation_id, is_new = accepting.submit(
        installed.engine, installed.settings, installed.announce, asked, caller().name, idempotency_key()
    )
    with transaction(installed.engine) as connection:
        view = operation_view(connection, operations.get(connection, operation_id))
    return answer(OperationView, view, 202 if is_new else 200, {"Location": view.links["self"]})


@blueprint.get("")
@declared(Facts("read", "List operations, newest first", OperationList, parameters=(_LIMIT, _BEFORE)))
def listed() -> Response:
    limit = max(1, int(positive_number("limit", MAX_LISTED) or _DEFAULT_LISTED))
    with transaction(installation().engine) as connection:
        rows = operations.newest(connection, limit, instant("before"))
        views = tuple(operation_view(connection, row) for row in rows)
    following = None
    if len(rows) == limit:
        following = url_for("operations.listed", limit=limit, before=rows[-1].created_at.isoformat())
    return answer(OperationList, OperationList(views, following))


@blueprint.get("/<operation>")
@declared(Facts("read", "Show one operation and its log", OperationDetail, parameters=(_AFTER,)))
def show(operation: str) -> Response:
    after = request.args.get("after", "0")
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise BadRequest("after: the id of a log line, a number")
    with transaction(installation().engine) as connection:
        row = operations.get(connection, operation_id_of(connection, operation))
        lines = operations.lines(connection, row.id, int(after), _MAX_LINES)
        detail = OperationDetail(
            operation_view(connection, row),
            tuple(LineView(line.id, line.at, line.kind, line.text) for line in lines),
            len(lines) == _MAX_LINES,
        )
    return answer(OperationDetail, detail)


@blueprint.post("/<operation>/cancel")
@declared(Facts("run", "Stop an operation; a half-done installation is removed", OperationView))
def cancel(operation: str) -> Response:
    return answer(OperationView, cancelled(operation))


def cancelled(operation: str) -> OperationView:
    """Ask an operation to stop; return it.

    Raises:
        UnknownNameError: no such operation.
        Forbidden: its cluster is not open to this caller.
    """
    installed = installation()
    with transaction(installed.engine) as connection:
        row = operations.get(connection, operation_id_of(connection, operation))
        refuse_foreign_clusters(installed.settings, [_infrastructure(row)])
        row = operations.request_cancel(connection, row.id, caller().name)
        return operation_view(connection, row)


def _infrastructure(row: OperationRow) -> Infrastructure:
    return OperationRequest.model_validate(row.request).infrastructure
