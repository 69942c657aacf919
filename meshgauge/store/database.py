"""The connection to Postgres: engine, time-outs, migrations, and errors in our own words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TypeVar

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from meshgauge.errors import ConfigurationError, ServiceUnavailableError

T = TypeVar("T")

# A cut connection must be noticed before a lease runs out (reliability.md 5): the kernel gives up on
# unacknowledged data after tcp_user_timeout, the server on statements and idle transactions.
_CONNECT_ARGUMENTS = {
    "connect_timeout": 3,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "options": "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s -c timezone=UTC",
}


def connect(database_url: str, pool_size: int = 4) -> sa.Engine:
    """Return an engine for ``database_url``. Make it after a fork, never before.

    Raises:
        ConfigurationError: the URL is not one of Postgres.
    """
    try:
        url = sa.make_url(database_url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError("MESHGAUGE_DATABASE_URL is not a database URL") from error
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"MESHGAUGE_DATABASE_URL names {url.get_backend_name()}; Meshgauge needs Postgres (postgresql+psycopg2://...)"
        )
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg2"),
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args=_CONNECT_ARGUMENTS,
    )


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection in a transaction: committed at the end, rolled back on any error.

    Raises:
        ServiceUnavailableError: Postgres is away or cut us off; nothing was committed, or it cannot be known.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError) as error:
        raise ServiceUnavailableError(
            f"Postgres does not answer ({_where(engine)}): {_first_line(error)}; see that it runs: meshgauge doctor"
        ) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise ServiceUnavailableError(f"Postgres closed the connection: {_first_line(error)}") from error
        raise


def _where(engine: sa.Engine) -> str:
    host = engine.url.host or engine.url.query.get("host") or "local socket"
    return f"{host}, database {engine.url.database}"


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__


def retried(
    attempt: Callable[[], T],
    until_monotonic_s: float,
    pause_s: float = 0.5,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return ``attempt()``, repeated while Postgres is away, until ``time.monotonic()`` passes the limit.

    ``attempt`` must be one whole transaction that is harmless to repeat.

    Raises:
        ServiceUnavailableError: of the last attempt.
    """
    while True:
        try:
            return attempt()
        except ServiceUnavailableError:
            if time.monotonic() + pause_s >= until_monotonic_s:
                raise
            sleep(pause_s)


def migrate(database_url: str) -> None:
    """Bring the schema to the newest revision; safe when several do it at once.

    Raises:
        ServiceUnavailableError: Postgres does not answer.
    """
    engine = connect(database_url, pool_size=1)
    try:
        with transaction(engine) as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('meshgauge.migrate'))"))
            alembic.command.upgrade(migration_config(connection), "head")
    finally:
        engine.dispose()


def migration_config(connection: sa.Connection) -> alembic.config.Config:
    """Return Alembic's configuration bound to ``connection``."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(resources.files("meshgauge.store") / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
