"""Fixtures every room's tests share: real embedded servers, one fresh database a test."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.embedded.bootstrap import down, up
from coordinator.embedded.state import State
from meshgauge.settings import Settings
from meshgauge.store.database import connect, migrate


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let programs of tests hear Ctrl-C, although a shell in the background starts us deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A Postgres and a Redis-protocol server of this test session's own."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("servers") / "data", database_url=None, broker_url=None)
    said: list[str] = []
    yield up(settings, said.append, "coordinator.embedded.services:servers_only")
    down(settings, said.append)


@pytest.fixture(scope="session")
def migrated_template(servers: State) -> str:
    """The name of a database with the schema in it, to make copies of."""
    admin = connect(servers.database_url, pool_size=1)
    name = f"template_{uuid.uuid4().hex[:8]}"
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    admin.dispose()
    migrate(_url_of(servers, name))
    return name


@pytest.fixture
def database_url(servers: State, migrated_template: str) -> Iterator[str]:
    """The URL of a fresh database with the schema, dropped after the test."""
    admin = connect(servers.database_url, pool_size=1)
    name = f"test_{uuid.uuid4().hex[:12]}"
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"'))
        yield _url_of(servers, name)
        connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on the fresh database."""
    made = connect(database_url)
    yield made
    made.dispose()


def _url_of(servers: State, name: str) -> str:
    return sa.make_url(servers.database_url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def wheel_cache() -> Path:
    """Binaries of the data planes, kept between test sessions because they are large."""
    import os  # noqa: PLC0415

    chosen = os.environ.get("MESHGAUGE_TEST_CACHE")
    cache = Path(chosen) if chosen else Path.home() / ".cache" / "meshgauge-tests"
    cache.mkdir(parents=True, exist_ok=True)
    return cache
