"""Load jobs: one load worker each, gone when nobody wants it any more or nobody can be asked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from live_processes import carriers

from meshgauge.claim import Claim
from meshgauge.settings import Settings
from meshgauge.store import load_jobs
from meshgauge.store.database import transaction
from workers import drive, places

Away = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def job_id(engine: sa.Engine, site_claim: Claim, trial_id: uuid.UUID) -> Iterator[str]:
    """A job whose master accepts connections and never says a word."""
    job = uuid.uuid4()
    with socket.create_server(("127.0.0.1", 0)) as master:
        with transaction(engine) as connection:
            load_jobs.add(connection, site_claim, trial_id, [job], f"127.0.0.1:{master.getsockname()[1]}")
        yield str(job)


@pytest.fixture
def job_row(engine: sa.Engine) -> Callable[[], Any]:
    """A function that returns the only job's row."""

    def row() -> Any:
        with transaction(engine) as connection:
            return connection.execute(sa.text("SELECT state, worker, reason FROM load_job")).one()

    return row


def later(action: Callable[[], None], pause_s: float = 0.7) -> threading.Thread:
    def run() -> None:
        time.sleep(pause_s)
        action()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_job_ends_with_its_environment(
    engine: sa.Engine, settings: Settings, job_id: str, job_row: Callable[[], Any]
) -> None:
    def end_the_lease() -> None:
        with transaction(engine) as connection:
            connection.execute(sa.text("UPDATE site SET epoch = epoch + 1"))

    thread = later(end_the_lease)
    drive.drive(settings, engine, job_id, "load-1")
    thread.join()
    assert tuple(job_row()) == ("ended", "load-1", None)
    assert carriers(places.cookie_site(settings, "here")) == []


def test_a_load_worker_that_cannot_ask_is_ended_before_the_lease(
    engine: sa.Engine, settings: Settings, job_id: str, job_row: Callable[[], Any], postgres_away: Away
) -> None:
    with contextlib.ExitStack() as stack:
        thread = later(lambda: stack.enter_context(postgres_away()))
        # Without the guard's deadline it would wait for ever. Nobody can be told; the job ends with its environment.
        drive.drive(settings, engine, job_id, "load-1")
        thread.join()
    assert carriers(places.cookie_site(settings, "here")) == []
    assert job_row().state == "claimed"


def test_a_job_is_driven_once_however_often_it_is_announced(
    engine: sa.Engine, settings: Settings, job_id: str, job_row: Callable[[], Any]
) -> None:
    with transaction(engine) as connection:
        assert load_jobs.claim_job(connection, uuid.UUID(job_id), "load-1") is not None
    drive.drive(settings, engine, job_id, "load-2")
    assert job_row().worker == "load-1"


def test_a_job_added_twice_is_one(engine: sa.Engine, site_claim: Claim, trial_id: uuid.UUID, job_id: str) -> None:
    with transaction(engine) as connection:
        load_jobs.add(connection, site_claim, trial_id, [uuid.UUID(job_id)], "127.0.0.1:1")
        assert connection.execute(sa.text("SELECT count(*) FROM load_job")).scalar_one() == 1
