"""Every finished run is told once, by whoever ends it, in the transaction that ends it."""

from __future__ import annotations

import concurrent.futures
import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store import channels, notices, runs, schema_tracking
from meshgauge.store.database import transaction
from meshgauge.store.leases import end_attempt


@pytest.fixture(autouse=True)
def channel(engine: sa.Engine) -> None:
    """Somebody wants to know of finished runs, and somebody of other things."""
    with transaction(engine) as connection:
        channels.add(connection, "wants", "webhook", "https://example.org/", "s", ["run_finished"])
        channels.add(connection, "wants-not", "webhook", "https://example.org/", "s", ["gate_failed"])


def told(engine: sa.Engine) -> list[tuple[str, str, str]]:
    with transaction(engine) as connection:
        return [(row.channel, row.event, row.key) for row in notices.newest(connection, 50)]


def end_all_environments(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE environment SET state = 'done'"))
        connection.execute(sa.text("UPDATE trial SET state = 'measured'"))


def test_a_run_ended_by_its_last_worker_is_told(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Callable[..., Claim | None]
) -> None:
    claim = claim_one()
    assert claim
    with transaction(engine) as connection:
        connection.execute(
            sa.text("UPDATE environment SET state = 'done' WHERE id <> :own"), {"own": claim.environment_id}
        )
        connection.execute(sa.text("UPDATE trial SET state = 'measured'"))
    assert told(engine) == []
    with transaction(engine) as connection:
        end_attempt(connection, claim, "done", None, {}, retry=False, max_attempts=3)
        runs.advance(connection, run_id)  # as a worker does, and later every tick
    assert told(engine) == [("wants", "run_finished", f"run {run_id} finished")]
    with transaction(engine) as connection:
        payload = connection.execute(sa.select(schema_tracking.notice.c.payload)).scalar_one()
    assert payload == {"run": str(run_id), "subject": "two-arms", "state": "done", "reason": "12 measured trials"}


def test_a_run_cancelled_by_somebody_is_told(engine: sa.Engine, run_id: uuid.UUID) -> None:
    with transaction(engine) as connection:
        runs.request_cancel(connection, run_id, "somebody")
    assert told(engine) == [("wants", "run_finished", f"run {run_id} finished")]


def test_many_who_end_it_at_once_tell_it_once(engine: sa.Engine, run_id: uuid.UUID) -> None:
    end_all_environments(engine)

    def end() -> None:
        with transaction(engine) as connection:
            runs.advance(connection, run_id)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for ended in [pool.submit(end) for _ in range(12)]:
            ended.result()
    assert len(told(engine)) == 1


def test_a_channel_removed_while_a_run_ends_does_not_break_the_end(engine: sa.Engine, run_id: uuid.UUID) -> None:
    end_all_environments(engine)
    with transaction(engine) as removing:
        channels.remove(removing, "wants")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:

            def end() -> None:
                with transaction(engine) as connection:
                    runs.advance(connection, run_id)

            ending = pool.submit(end)
            with pytest.raises(concurrent.futures.TimeoutError):
                ending.result(0.5)  # it waits for the channel's fate
            removing.commit()
            ending.result(10.0)
    with transaction(engine) as connection:
        assert runs.get(connection, run_id).state == "done"
    assert told(engine) == []


def test_a_channel_has_a_name_a_kind_and_known_events(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        with pytest.raises(ConflictError, match="already"):
            channels.add(connection, "wants", "webhook", "https://example.org/", "s", [])
        with pytest.raises(ConflictError, match="lower-case"):
            channels.add(connection, "Not A Name", "webhook", "https://example.org/", "s", [])
        with pytest.raises(UnknownNameError, match="webhook"):
            channels.add(connection, "new", "pager", "x", None, [])  # type: ignore[arg-type]
        with pytest.raises(UnknownNameError, match="gate_failed"):
            channels.add(connection, "new", "email", "x", None, ["gate_fail"])  # type: ignore[list-item]


def test_a_channel_does_not_print_its_secrets(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        row = channels.add(connection, "new", "slack", "https://example.org/path", "hidden", ["run_finished"])
    assert "hidden" not in repr(row)
    assert "path" not in repr(row)
