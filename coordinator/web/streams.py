"""Live events: one listener a process wakes those who follow a run; they read the events from Postgres."""

from __future__ import annotations

import json
import select
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import sqlalchemy as sa
import structlog

from meshgauge.errors import ServiceUnavailableError
from meshgauge.store import events, runs
from meshgauge.store.database import transaction
from meshgauge.store.events import Event

HEARTBEAT_S = 10.0  # a comment line: tells proxies that we live, and us that the client is gone
_SLICE_S = 1.0  # longest wait before looking whether the server stops
_RECONNECT_S = 2.0

log = structlog.get_logger()


class EventHub:
    """Wakes whoever watches a run when Postgres says that something happened to it.

    Idle, it costs nothing: no polling beside a measurement. Its thread starts with the first watcher.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._watchers: dict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def watching(self, run_id: uuid.UUID) -> Iterator[threading.Event]:
        """Give an event that is set whenever something may have happened to the run."""
        wake = threading.Event()
        key = str(run_id)
        with self._lock:
            self._watchers[key].add(wake)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="event-hub", daemon=True)
                self._thread.start()
        try:
            yield wake
        finally:
            with self._lock:
                self._watchers[key].discard(wake)
                if not self._watchers[key]:
                    del self._watchers[key]

    def close(self) -> None:
        """End the listener and wait for it."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen_once()
            except (sa.exc.SQLAlchemyError, psycopg2.Error, OSError) as error:
                log.warning("event_hub_reconnects", reason=str(error).strip().partition("\n")[0])
                self._closed.wait(_RECONNECT_S)

    def _listen_once(self) -> None:
        """Listen on a connection of our own until it breaks or the hub is closed."""
        borrowed = self._engine.raw_connection()
        driver: Any = borrowed.driver_connection
        borrowed.detach()  # never back to the pool: it listens
        try:
            driver.autocommit = True
            with driver.cursor() as cursor:
                cursor.execute(f"LISTEN {events.EVENT_CHANNEL}")
            self._wake_all()  # for what happened before we listened
            while not self._closed.is_set():
                if select.select([driver], [], [], _SLICE_S)[0]:
                    driver.poll()
                    for notice in driver.notifies:
                        self._wake(notice.payload)
                    driver.notifies.clear()
        finally:
            borrowed.close()

    def _wake(self, run_id: str) -> None:
        with self._lock:
            for wake in self._watchers.get(run_id, ()):
                wake.set()

    def _wake_all(self) -> None:
        with self._lock:
            for watchers in self._watchers.values():
                for wake in watchers:
                    wake.set()


def follow(
    engine: sa.Engine, hub: EventHub, run_id: uuid.UUID, last_id: int, is_stopping: Callable[[], bool]
) -> Iterator[str]:
    """Yield the run's events after ``last_id`` as server-sent events, until the run is finished.

    Source: HTML standard, 9.2 Server-sent events.
    """
    with hub.watching(run_id) as wake:
        yield "retry: 2000\n\n"
        while not is_stopping():
            wake.clear()
            try:
                new, is_over = _read(engine, run_id, last_id)
            except ServiceUnavailableError as error:
                yield f": waiting, {error}\n\n"
                wake.wait(_RECONNECT_S)
                continue
            for event in new:
                last_id = event.id
                yield frame(event)
            if is_over and not new:
                yield "event: end\ndata: {}\n\n"
                return
            if new:
                continue
            quiet_s = time.monotonic()
            while not (is_stopping() or wake.wait(_SLICE_S) or time.monotonic() - quiet_s > HEARTBEAT_S):
                pass
            if not wake.is_set():  # and read again: a notice may have been lost with the listener's connection
                yield ": still here\n\n"


def _read(engine: sa.Engine, run_id: uuid.UUID, last_id: int) -> tuple[tuple[Event, ...], bool]:
    with transaction(engine) as connection:
        is_over = runs.get(connection, run_id).finished_at is not None
        return events.after(connection, run_id, last_id), is_over


def frame(event: Event) -> str:
    """Return one event in the format of the event stream."""
    data = json.dumps({"at": event.at.isoformat(), **event.data})
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"
