"""Load jobs: a Locust master waits for load workers; each worker claims one job."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from meshgauge.claim import Claim
from meshgauge.store import leases, schema


@dataclass(frozen=True, slots=True)
class LoadJob:
    """A claimed job: where the master listens, and the site and epoch it belongs to."""

    id: uuid.UUID
    master: str  # host:port
    site: str
    epoch: int


def add(connection: sa.Connection, claim: Claim, trial_id: uuid.UUID, ids: Sequence[uuid.UUID], master: str) -> None:
    """Ask for one load worker for each of ``ids``. Doing it twice is harmless.

    Raises:
        FencedError: the lease is over.
    """
    leases.hold(connection, claim)
    common = {"trial_id": trial_id, "site": claim.site, "epoch": claim.epoch, "master": master}
    connection.execute(
        insert(schema.load_job).values(announced_at=sa.func.now()).on_conflict_do_nothing(index_elements=["id"]),
        [{"id": job_id, "worker_index": at, **common} for at, job_id in enumerate(ids)],
    )


def claim_job(connection: sa.Connection, job_id: uuid.UUID, worker: str) -> LoadJob | None:
    """Claim a job; None when somebody has it or its environment is over."""
    row = connection.execute(
        sa.text(
            "UPDATE load_job SET state = 'claimed', worker = :worker WHERE id = ("
            " SELECT j.id FROM load_job j JOIN site s ON s.name = j.site AND s.epoch = j.epoch AND s.state = 'leased'"
            " WHERE j.id = :id AND j.state = 'pending' FOR UPDATE OF j SKIP LOCKED)"
            " RETURNING id, master, site, epoch"
        ),
        {"id": job_id, "worker": worker},
    ).one_or_none()
    return None if row is None else LoadJob(**row._mapping)


def is_wanted(connection: sa.Connection, job: LoadJob) -> bool:
    """Return whether the job's environment still stands."""
    return bool(
        connection.execute(
            sa.text(
                "SELECT j.state = 'claimed' AND s.state = 'leased' AND s.epoch = j.epoch"
                " FROM load_job j JOIN site s ON s.name = j.site WHERE j.id = :id"
            ),
            {"id": job.id},
        ).scalar_one()
    )


def end(connection: sa.Connection, job: LoadJob, reason: str | None) -> None:
    """Note that the load worker is gone; a reason when it did not end well."""
    connection.execute(
        sa.text("UPDATE load_job SET state = 'ended', reason = coalesce(reason, :reason) WHERE id = :id"),
        {"id": job.id, "reason": reason},
    )


def announceable(connection: sa.Connection, again_s: float) -> tuple[uuid.UUID, ...]:
    """Return the jobs that nobody claimed for ``again_s`` after their last announcement, and mark them announced."""
    rows = connection.execute(
        sa.text(
            "UPDATE load_job SET announced_at = now() WHERE state = 'pending'"
            " AND announced_at < now() - make_interval(secs => :again) RETURNING id"
        ),
        {"again": again_s},
    )
    return tuple(rows.scalars())
