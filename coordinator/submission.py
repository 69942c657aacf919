"""Accepting a run: the same request twice is one run, stored whole or not at all, announced after the commit."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
import structlog

from coordinator import provenance
from coordinator.estimate import estimate_s, site_of
from coordinator.planner import Planner
from meshgauge import queue
from meshgauge.document import plan_sha256
from meshgauge.errors import ConflictError, ServiceUnavailableError
from meshgauge.matrix import block_order
from meshgauge.resolved import ResolvedPlan
from meshgauge.settings import Settings
from meshgauge.store import runs, schema
from meshgauge.store.database import transaction

# Sends a hint: (task, row). Raises ServiceUnavailableError.
Announce = Callable[[str, str], None]

MAX_OPEN_RUNS = 500

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody's wish for a run.

    Attributes:
        idempotency_key: the same key of the same submitter gives the same run; None: every request is a new run.
        same_plan_within_s: without a key, a run of the same text by the same submitter, made within so many
            seconds, is taken for this one; None: not asked for, so it is not done.
        may_run_programs: whether the submitter may name programs and Locust files.
        confirms: the run whose findings this one repeats on fresh blocks.
    """

    text: str
    submitted_by: str
    idempotency_key: str | None = None
    same_plan_within_s: float | None = None
    may_run_programs: bool = False
    confirms: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run that answers a request, and whether it was made for it."""

    run_id: uuid.UUID
    is_new: bool


def submit(engine: sa.Engine, planner: Planner, announce: Announce, request: Request) -> Accepted:
    """Store the run ``request`` asks for, or find the one that an earlier equal request made.

    Raises:
        InvalidPlanError: the plan cannot be run as it stands.
        ConflictError: the key was used for another plan, or too many runs are open.
        ServiceUnavailableError: Postgres, or the index of versions, is away.
    """
    with transaction(engine) as connection:  # before planning: an answer to a repeat needs no index of versions
        earlier = _earlier(connection, request)
    if earlier is not None:
        return Accepted(earlier, is_new=False)
    resolved = planner.resolve(request.text, may_run_programs=request.may_run_programs)
    with transaction(engine) as connection:
        if request.idempotency_key is None and request.same_plan_within_s is not None:
            _lock_plan(connection, request)
            if (earlier := _earlier(connection, request)) is not None:
                return Accepted(earlier, is_new=False)
        _refuse_flood(connection)
        run_id, is_new = store(
            connection,
            planner.settings,
            resolved,
            _stored_key(request),
            request.submitted_by,
            confirms=request.confirms,
        )
    if is_new:
        tell(engine, announce, sites_of(planner.settings, resolved))
    return Accepted(run_id, is_new)


def store(
    connection: sa.Connection,
    settings: Settings,
    resolved: ResolvedPlan,
    idempotency_key: str,
    submitted_by: str,
    fire: tuple[int, dt.datetime] | None = None,
    confirms: uuid.UUID | None = None,
) -> tuple[uuid.UUID, bool]:
    """Store a resolved plan as a run; return its id and whether it is new.

    Args:
        fire: schedule and due time this run answers.
        confirms: the run whose findings this one repeats on fresh blocks.
    """
    plan = resolved.plan
    turns = block_order(resolved.matrix, plan.blocks, resolved.seed, plan.baseline)
    submission = runs.Submission(
        resolved=resolved,
        idempotency_key=idempotency_key,
        submitted_by=submitted_by,
        estimate_s=estimate_s(turns, settings),
        provenance=provenance.of_run(),
        schedule_id=fire[0] if fire else None,
        fire_at=fire[1] if fire else None,
        confirms=confirms,
    )
    return runs.submit(connection, submission, partial(site_of, settings))


def tell(engine: sa.Engine, announce: Announce, sites: Iterable[str]) -> None:
    """Send a hint for each site. Losing one is harmless: the reconciler sends it again."""
    with transaction(engine) as connection:
        states = connection.execute(
            sa.select(schema.site.c.name, schema.site.c.state).where(schema.site.c.name.in_(sorted(sites)))
        ).all()
    for site in states:
        try:
            announce(queue.CLEAN if site.state == "dirty" else queue.WORK, site.name)
        except ServiceUnavailableError as error:
            log.warning("announce_failed", site=site.name, reason=str(error))


def sites_of(settings: Settings, resolved: ResolvedPlan) -> frozenset[str]:
    """Return the sites a plan runs on."""
    return frozenset(site_of(settings, environment.infrastructure) for environment in resolved.matrix.environments)


def _stored_key(request: Request) -> str:
    """Return the key as stored: each submitter has its own, so that nobody finds another's run by guessing."""
    return f"{request.submitted_by}:{request.idempotency_key or uuid.uuid4()}"


def _earlier(connection: sa.Connection, request: Request) -> uuid.UUID | None:
    sha256 = plan_sha256(request.text)
    query = sa.select(schema.run.c.id, schema.run.c.plan_sha256)
    if request.idempotency_key is not None:
        row = connection.execute(query.where(schema.run.c.idempotency_key == _stored_key(request))).one_or_none()
        if row is not None and row.plan_sha256 != sha256:
            raise ConflictError(
                f"the idempotency key {request.idempotency_key!r} was used for another plan (run {row.id}); "
                "send a new key with a changed plan"
            )
    elif request.same_plan_within_s is not None:
        row = connection.execute(
            query.where(
                schema.run.c.plan_sha256 == sha256,
                schema.run.c.submitted_by == request.submitted_by,
                schema.run.c.created_at > sa.func.now() - dt.timedelta(seconds=request.same_plan_within_s),
            )
            .order_by(schema.run.c.created_at.desc())
            .limit(1)
        ).one_or_none()
    else:
        return None
    return None if row is None else row.id


def _lock_plan(connection: sa.Connection, request: Request) -> None:
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtext(:plan))"),
        {"plan": f"meshgauge.submit:{request.submitted_by}:{plan_sha256(request.text)}"},
    )


def _refuse_flood(connection: sa.Connection) -> None:
    waiting = connection.execute(
        sa.select(sa.func.count()).select_from(schema.run).where(schema.run.c.finished_at.is_(None))
    ).scalar_one()
    if waiting >= MAX_OPEN_RUNS:
        raise ConflictError(f"{waiting} runs are open, the most there may be; cancel some, or wait until they are done")
