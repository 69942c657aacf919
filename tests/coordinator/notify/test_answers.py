"""What a finished run found, read back from Postgres: the same words its report begins with."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from coordinator.notify.answers import answer_of_run
from meshgauge.errors import UnknownNameError
from meshgauge.store import leases, results, runs, schema
from meshgauge.store.database import transaction
from meshgauge.trial import MeasuredTrial


@pytest.fixture
def done_run(
    engine: sa.Engine,
    client: FlaskClient,
    submit: Callable[..., Any],
    plan_text: str,
    make_measured: Callable[[uuid.UUID, float, int], MeasuredTrial],
) -> uuid.UUID:
    """A run of six blocks in which each proxy adds a fifth to 200 us."""
    run = submit(plan_text.replace("blocks: 2", "blocks: 6"))
    with transaction(engine) as connection:
        connection.execute(sa.update(schema.site).values(state="free"))
        seed = 0
        while claim := leases.claim_next(connection, "local", "worker", "host", 60.0):
            query = sa.select(schema.trial.c.id, schema.trial.c.cell).where(
                schema.trial.c.environment_id == claim.environment_id
            )
            for trial in connection.execute(query).all():
                seed += 1
                results.begin_trial(connection, claim, trial.id)
                median_us = (200.0 if trial.cell.startswith("none") else 240.0) * (1 + 0.001 * (seed % 5))
                results.record_trial(connection, claim, make_measured(trial.id, median_us, seed))
            leases.end_attempt(connection, claim, "done", None, {}, retry=False, max_attempts=3)
            connection.execute(sa.update(schema.site).values(state="free", lease_until=None, holder=None))
        runs.advance(connection, uuid.UUID(run["id"]))
    return uuid.UUID(run["id"])


def test_the_answer_is_the_first_line_of_the_report(
    engine: sa.Engine, done_run: uuid.UUID, client: FlaskClient
) -> None:
    answer = answer_of_run(engine, done_run)
    assert answer is not None
    summary: Any = client.get(f"/api/v1/runs/{done_run}/summary").json
    assert summary["state"] == "done"
    assert answer.startswith(summary["answers"][0]["text"])
    assert "%" in answer
    assert "envoy" in answer


def test_an_unknown_run_has_no_answer(engine: sa.Engine) -> None:
    with pytest.raises(UnknownNameError):
        answer_of_run(engine, uuid.uuid4())
