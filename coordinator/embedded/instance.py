"""Deciding one instance: its id, folders, servers, port and URLs, before its first service starts."""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import SecretStr

from coordinator.embedded.external import check_broker, check_database
from coordinator.embedded.places import choose_port, make_run_dir, secret
from coordinator.embedded.postgres import PostgresServer, find_bin_dir
from coordinator.embedded.redis import RedisServer, find_server
from coordinator.embedded.services import Instance
from coordinator.embedded.state import State
from coordinator.embedded.unprivileged import Launch, choose_launch
from meshgauge.settings import Settings


def decide(settings: Settings, previous: State | None) -> Instance:
    """Return a new instance on a prepared data directory.

    Args:
        settings: the installation's settings.
        previous: the last instance here; its port is taken again when free, so that bookmarks hold.

    Raises:
        ConfigurationError: a program is missing, a port taken, root cannot start Postgres.
        ServiceUnavailableError: a server of the user's own does not answer.
    """
    database_url, broker_url = _value(settings.database_url), _value(settings.broker_url)
    if database_url:
        check_database(database_url)
    if broker_url:
        check_broker(broker_url)
    data_dir = settings.data_dir.resolve()
    # Everything that can refuse comes before the runtime folder, so that a refusal leaves none behind.
    bin_dir = None if database_url else find_bin_dir(settings.postgres_bin_dir)
    launch = choose_launch(bin_dir / "initdb", data_dir) if bin_dir else None
    program = None if broker_url else find_server(settings.redis_server)
    port = choose_port(settings.listen_host, settings.listen_port, _port_of(previous))

    run_dir = make_run_dir()
    postgres = _postgres(bin_dir, launch, data_dir, run_dir) if bin_dir and launch else None
    redis = _redis(program, data_dir, run_dir) if program else None
    return Instance(
        instance=secrets.token_hex(8),
        data_dir=data_dir,
        run_dir=run_dir,
        host=settings.listen_host,
        port=port,
        postgres=postgres,
        redis=redis,
        database_url=postgres.url() if postgres else database_url,
        broker_url=redis.url() if redis else broker_url,
    )


def _postgres(bin_dir: Path, launch: Launch, data_dir: Path, run_dir: Path) -> PostgresServer:
    password = secret(data_dir / "secrets" / "postgres")
    return PostgresServer(bin_dir, data_dir / "postgres", run_dir / "postgres", password, launch)


def _redis(program: Path, data_dir: Path, run_dir: Path) -> RedisServer:
    return RedisServer(program, data_dir / "redis", run_dir / "redis", secret(data_dir / "secrets" / "redis"))


def _port_of(state: State | None) -> int:
    tail = state.coordinator_url.rpartition(":")[2] if state else ""
    return int(tail) if tail.isdigit() else 0


def _value(url: SecretStr | None) -> str:
    return url.get_secret_value() if url else ""
