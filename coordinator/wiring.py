"""The installation of one process, made from its settings."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

import kombu
import sqlalchemy as sa

from adapters.registry import adapter_rows
from coordinator.embedded.places import secret
from coordinator.planner import installed_planner
from coordinator.web.installation import Installation
from coordinator.web.reporting import Reporting
from coordinator.web.streams import EventHub
from meshgauge import queue
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import ConfigurationError
from meshgauge.settings import Settings
from meshgauge.store import conformance
from meshgauge.store.database import connect, transaction

_POOL_SIZE = 8
_BROKER_CHECK_EVERY_S = 5.0
_BROKER_TIMEOUT_S = 1.0


class BrokerProbe:
    """Says whether the broker answers, asking it at most every few seconds."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._asked_s = -_BROKER_CHECK_EVERY_S
        self._problem: str | None = None

    def __call__(self) -> str | None:
        """Return why the broker cannot be reached, or None when it can."""
        if time.monotonic() - self._asked_s >= _BROKER_CHECK_EVERY_S:
            self._problem = self._ask()
            self._asked_s = time.monotonic()
        return self._problem

    def _ask(self) -> str | None:
        options = {"socket_connect_timeout": _BROKER_TIMEOUT_S, "socket_timeout": _BROKER_TIMEOUT_S}
        with kombu.Connection(self._url, transport_options=options) as connection:
            errors = (*connection.connection_errors, *connection.channel_errors)
            try:
                connection.connect()
            except errors as error:
                return str(error).partition("\n")[0] or type(error).__name__
        return None


def _own_results(engine: sa.Engine) -> tuple[ConformanceResult, ...]:
    with transaction(engine) as connection:
        return conformance.results(connection)


def installed(settings: Settings, is_stopping: Callable[[], bool]) -> tuple[Installation, str]:
    """Return the installation these settings describe, and the key that signs its sessions. Call it after the fork.

    Args:
        is_stopping: whether the server wants its threads back.

    Raises:
        ConfigurationError: a setting the coordinator needs is missing.
    """
    if settings.database_url is None or settings.broker_url is None:
        raise ConfigurationError("the coordinator needs MESHGAUGE_DATABASE_URL and MESHGAUGE_BROKER_URL")
    secrets_dir = settings.data_dir / "secrets"
    try:
        secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        operator_token, secret_key = secret(secrets_dir / "operator"), secret(secrets_dir / "sessions")
    except OSError as error:
        raise ConfigurationError(
            f"{secrets_dir} cannot be written ({error.strerror}); set MESHGAUGE_DATA_DIR to a folder of your own"
        ) from error
    engine = connect(settings.database_url.get_secret_value(), pool_size=_POOL_SIZE)
    broker_url = settings.broker_url.get_secret_value()
    app = queue.create_celery(broker_url)
    return Installation(
        settings=settings,
        engine=engine,
        planner=installed_planner(settings),
        announce=functools.partial(queue.announce, app),
        broker_problem=BrokerProbe(broker_url),
        adapter_rows=lambda: adapter_rows(_own_results(engine)),
        operator_token=operator_token,
        cores=len(os.sched_getaffinity(0)),
        hub=EventHub(engine),
        reporting=Reporting(),
        is_stopping=is_stopping,
    ), secret_key
