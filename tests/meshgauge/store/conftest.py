"""A submitted run and hands to move it along."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.resolved import ResolvedPlan
from meshgauge.store import leases, runs, schema
from meshgauge.store.database import transaction

SITE = "here"


@pytest.fixture
def run_id(engine: sa.Engine, resolved: ResolvedPlan) -> uuid.UUID:
    """A run of six environments with two trials each, on a clean site."""
    submission = runs.Submission(resolved, "key-1", "tester", 10.0, {"revision": "abc"})
    with transaction(engine) as connection:
        made, _ = runs.submit(connection, submission, lambda _infrastructure: SITE)
        connection.execute(sa.update(schema.site).values(state="free"))
    return made


@pytest.fixture
def claim_one(engine: sa.Engine, run_id: uuid.UUID) -> Callable[..., Claim | None]:
    """A function that claims the next environment as some worker."""

    def claim(holder: str = "worker-1", lease_s: float = 60.0) -> Claim | None:
        with transaction(engine) as connection:
            return leases.claim_next(connection, SITE, holder, "host", lease_s)

    return claim


@pytest.fixture
def trials_of(engine: sa.Engine) -> Callable[[Claim], list[uuid.UUID]]:
    """A function that lists the trials of a claimed environment, in turn."""

    def listed(claim: Claim) -> list[uuid.UUID]:
        with transaction(engine) as connection:
            query = sa.select(schema.trial.c.id).where(schema.trial.c.environment_id == claim.environment_id)
            return list(connection.execute(query.order_by(schema.trial.c.turn)).scalars())

    return listed


@pytest.fixture
def states_of(engine: sa.Engine) -> Callable[[sa.Table], list[str]]:
    """A function that lists the states of all rows of a table, sorted."""

    def states(table: sa.Table) -> list[str]:
        with transaction(engine) as connection:
            return sorted(connection.execute(sa.select(table.c.state)).scalars())

    return states
