"""Cancelling while somebody claims: whoever comes first, nobody deadlocks and nothing is left open."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.errors import MeshgaugeError
from meshgauge.store import leases, runs
from meshgauge.store.database import transaction

SITE = "here"


def test_a_cancellation_waits_for_a_claim_under_way_and_neither_fails(engine: sa.Engine, run_id: uuid.UUID) -> None:
    failures: list[MeshgaugeError] = []

    def cancel() -> None:
        try:
            with transaction(engine) as connection:
                runs.request_cancel(connection, run_id, "tester")
        except MeshgaugeError as error:
            failures.append(error)

    with transaction(engine) as connection:
        # What claim_next does, held open between its lock on the environment and its write to the run.
        connection.execute(sa.text("SELECT id FROM environment WHERE ordinal = 0 FOR UPDATE"))
        thread = threading.Thread(target=cancel)
        thread.start()
        _wait_for_a_waiter(engine)
        connection.execute(sa.text("UPDATE run SET state = 'running' WHERE id = :id"), {"id": run_id})
    thread.join()
    assert failures == []


def test_a_claim_that_wins_is_told_to_stop_and_the_rest_is_cancelled(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Callable[..., Claim | None]
) -> None:
    claim = claim_one()
    assert claim is not None
    with transaction(engine) as connection:
        runs.request_cancel(connection, run_id, "tester")
        assert leases.renew(connection, claim, 60.0)  # the heartbeat hears of it, whatever became of the NOTIFY
    assert claim_one("worker-2") is None
    with transaction(engine) as connection:
        leases.end_attempt(connection, claim, "cancelled", None, {}, retry=False, max_attempts=3)
        runs.advance(connection, run_id)
        assert runs.get(connection, run_id).state == "cancelled"


def _wait_for_a_waiter(engine: sa.Engine) -> None:
    waiting = 0
    while not waiting:
        with transaction(engine) as connection:
            waiting = connection.execute(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND wait_event_type = 'Lock'"
                )
            ).scalar_one()
