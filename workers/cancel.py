"""Hears of a cancelled run at once, by Postgres' NOTIFY; the heartbeat hears of it anyway, only later."""

from __future__ import annotations

import selectors
import uuid
from collections.abc import Collection
from types import TracebackType
from typing import Any, Self

import psycopg2
import sqlalchemy as sa

from meshgauge.store.events import CANCEL_CHANNEL


class CancelListener:
    """Listens for the cancellation of one run on a connection of its own, and reconnects when it breaks."""

    def __init__(self, engine: sa.Engine, run_id: uuid.UUID) -> None:
        self._engine = engine
        self._run_id = str(run_id)
        self._connection: Any = None  # psycopg2's own
        self._descriptor = -1
        self._selector: selectors.BaseSelector | None = None  # where the descriptor is registered

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector = None  # it was closed before us
        self._drop()

    def register(self, selector: selectors.BaseSelector) -> None:
        """Make ``selector`` wake when a word comes."""
        if self._connection is None:
            self._connect()
        if self._connection is not None and self._selector is None:
            selector.register(self._descriptor, selectors.EVENT_READ)
            self._selector = selector

    def asked(self, ready: Collection[Any]) -> bool:
        """Return whether the run was cancelled, given what the selector says is ready."""
        if self._connection is None or self._descriptor not in ready:
            return False
        try:
            self._connection.poll()
        except psycopg2.Error:
            self._drop()
            return False
        heard = [notice.payload for notice in self._connection.notifies]
        self._connection.notifies.clear()
        return self._run_id in heard

    def _connect(self) -> None:
        try:
            pooled = self._engine.raw_connection()
            pooled.detach()
            self._connection = pooled.dbapi_connection  # psycopg2's own, now ours alone
            self._connection.autocommit = True
            with self._connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CANCEL_CHANNEL}")
            self._descriptor = self._connection.fileno()
        except (sa.exc.DBAPIError, psycopg2.Error):
            self._drop()  # Postgres is away: tried again at the next round

    def _drop(self) -> None:
        # Before the close: the next connection often gets the same descriptor, and one may be registered once only.
        if self._selector is not None:
            self._selector.unregister(self._descriptor)
            self._selector = None
        if self._connection is not None and not self._connection.closed:
            self._connection.close()
        self._connection = None
