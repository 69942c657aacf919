"""Accepting an operation: checked against what the adapter can do, stored once, announced after the commit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TypeVar

import sqlalchemy as sa
from pydantic import BaseModel

from adapters import registry
from adapters.kubernetes.choosing import chosen_placement, chosen_profile
from adapters.registry import AdapterRow
from coordinator.estimate import site_of
from coordinator.submission import Announce, tell
from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.operations import OperationRequest
from meshgauge.settings import Settings
from meshgauge.store import operations
from meshgauge.store.database import transaction
from meshgauge.store.schema_operations import operation

MAX_OPEN_OPERATIONS = 100

Model = TypeVar("Model", bound=BaseModel)


def submit(
    engine: sa.Engine,
    settings: Settings,
    announce: Announce,
    request: OperationRequest,
    submitted_by: str,
    idempotency_key: str | None,
) -> tuple[uuid.UUID, bool]:
    """Store the operation, or find the one that an earlier equal request made; return its id and whether it is new.

    Args:
        idempotency_key: each submitter has keys of their own; None: every request is a new operation.

    Raises:
        ConflictError: the key was used for another request, or too many operations are open.
        ServiceUnavailableError: Postgres is away.
    """
    key = f"{submitted_by}:{idempotency_key or uuid.uuid4()}"
    site = site_of(settings, request.infrastructure)
    with transaction(engine) as connection:
        request = _completed(connection, request, site)
        operation_id, is_new = operations.submit(connection, request, site, key, submitted_by)
        if is_new:
            _refuse_flood(connection)
    if is_new:
        tell(engine, announce, [site])
    return operation_id, is_new


def _completed(connection: sa.Connection, request: OperationRequest, site: str) -> OperationRequest:
    """Return the request with what it leaves open taken from how the mesh was installed or configured last."""
    if request.adapter is None or request.action in ("install", "conformance"):
        return request
    last = operations.last_order(connection, site, request.adapter)
    if last is None:
        return request
    return _filled(request, last, "profile", "placement").model_copy(
        update={"cluster": _filled(request.cluster, last.cluster, "charts", "images")}
    )


def _filled(asked: Model, last: Model, *names: str) -> Model:
    """Return ``asked`` with those fields of ``last`` that it leaves open."""
    return asked.model_copy(update={name: getattr(last, name) for name in names if getattr(asked, name) is None})


def refuse_unknown(request: OperationRequest, rows: Iterable[AdapterRow]) -> None:
    """See that the adapter exists, runs where it is asked for, and can do what the profile says.

    Raises:
        UnknownNameError: no such adapter on that provider; lists those there are.
        UnsupportedError: it cannot do that.
        ConfigurationError: it cannot be run any more; says what became of it.
    """
    if request.adapter is None:
        return
    known = [row.name for row in rows if request.provider in row.providers and row.name != registry.BASELINE]
    if request.provider == "kubernetes" and request.action != "uninstall":
        mesh = registry.kubernetes_mesh(request.adapter)
        chosen_profile(request, mesh, chosen_placement(request, mesh))
    elif request.adapter not in known:
        raise UnknownNameError(f"mesh adapter of provider {request.provider}", request.adapter, known)


def _refuse_flood(connection: sa.Connection) -> None:
    open_ones = connection.execute(
        sa.select(sa.func.count()).select_from(operation).where(operation.c.finished_at.is_(None))
    ).scalar_one()
    if open_ones > MAX_OPEN_OPERATIONS:
        raise ConflictError(
            f"{MAX_OPEN_OPERATIONS} operations are open, the most there may be; cancel some, or wait for them"
        )
