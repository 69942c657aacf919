"""Watching a runner: keeps the lease of its site, reads its events, and writes them down in order.

The Celery child does nothing else. All long work is in the runner below a guard, so that a cut
connection, a paused process or a kill ends it before the lease is over.
"""

from __future__ import annotations

import abc
import json
import os
import selectors
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog

from meshgauge.errors import FencedError, ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store.database import transaction
from workers import guard, spool
from workers.cancel import CancelListener

log = structlog.get_logger()

Delivery = Callable[[sa.Connection], None]

_LOG_TAIL_BYTES = 4000


def margin_s(lease_s: float) -> float:
    """Return how long before its lease ends a worker has to have stopped (reliability.md 2)."""
    return min(15.0, lease_s / 4)


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched.

    Attributes:
        id: of the row whose cancellation ends it: a run or an operation.
        cookies: variables that every process of it carries.
        arguments: of this Python, to start the runner with.
        directory: private; holds the runner's order and log, and what it leaves behind.
    """

    id: uuid.UUID
    site: str
    holder: str
    cookies: Mapping[str, str]
    arguments: Sequence[str]
    directory: Path


class RunnerWatch(abc.ABC):
    """Watches one runner from its start to its end.

    Every write goes through one ordered queue of deliveries: while Postgres is away they wait, and what
    the runner found lies in the spool. A subclass has a method ``_on_NAME`` for each event of its runner.
    """

    def __init__(self, settings: Settings, engine: sa.Engine, watched: Watched) -> None:
        self._settings = settings
        self._engine = engine
        self._watched = watched
        self._deliveries: deque[tuple[Delivery, Callable[[], None] | None]] = deque()
        self._renewed_at = time.monotonic()
        self._next_heartbeat = 0.0
        self._cancelled = False
        self._fenced = False
        self._interrupted = False
        self._failure: str | None = None
        self._unread = b""

    @abc.abstractmethod
    def _renew(self, connection: sa.Connection) -> bool:
        """Extend the lease; return whether somebody asks to cancel. Raises FencedError."""

    @abc.abstractmethod
    def _conclude(self) -> None:
        """Queue the last write, unless fenced: what became of it."""

    def _prepare(self) -> None:  # noqa: B027 - a hook: some have nothing to do
        """Do what has to be done before the runner starts."""

    def run(self) -> bool:
        """Watch until the work is over and written down; return whether our word still counted.

        Raises:
            SystemExit: Celery ends this worker now; the work was given back.
        """
        try:
            self._prepare()
            self._see_through()
        except SystemExit:
            self._interrupted = True
        if not self._fenced:
            self._conclude()
        self._deliver_until(self._renewed_at + self._settings.lease_s)
        if not self._deliveries:
            spool.remove(self._watched.directory)
        if self._interrupted:
            raise SystemExit
        return not self._fenced

    @property
    def _log_path(self) -> Path:
        return self._watched.directory / "runner.log"

    def _see_through(self) -> None:
        """Start the runner, watch it to its end, and read what it said last."""
        argv = [sys.executable, *self._watched.arguments]
        # Killed, it leaves behind what it had in temporary files, credentials of a cluster among them: they go with
        # its directory, or with the sweep.
        temporary = self._watched.directory / "tmp"
        temporary.mkdir(mode=0o700, exist_ok=True)
        own = {"PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
        environment = {**os.environ, **self._watched.cookies, **own}
        with self._log_path.open("ab") as log_file, CancelListener(self._engine, self._watched.id) as cancel:
            self._process = guard.start_guarded(argv, self._deadline(), environment, log_file)
            try:
                self._watch(cancel)
            finally:
                guard.stop(self._process)
                while self._read_events():  # an end that was asked for still leaves results, provenance, artefacts
                    pass
                guard.close_output(self._process)

    def _deadline(self) -> float:
        return self._renewed_at + self._settings.lease_s - margin_s(self._settings.lease_s)

    def _watch(self, cancel: CancelListener) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while True:
                cancel.register(selector)
                ready = {key.fileobj for key, _ in selector.select(min(0.5, self._settings.heartbeat_s / 4))}
                if self._process.stdout in ready and not self._read_events():
                    return
                if cancel.asked(ready):
                    self._cancelled = True
                if time.monotonic() >= self._next_heartbeat:
                    self._heartbeat()
                self._deliver()
                if self._cancelled or self._fenced or self._failure:
                    return

    def _read_events(self) -> bool:
        """Handle the lines that have come; return False at the end of the runner's output."""
        assert self._process.stdout is not None  # noqa: S101
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            getattr(self, f"_on_{event.pop('event')}")(**event)
        return True

    def _heartbeat(self) -> None:
        asked_at = time.monotonic()
        self._next_heartbeat = asked_at + self._settings.heartbeat_s
        try:
            with transaction(self._engine) as connection:
                self._cancelled |= self._renew(connection)
        except FencedError:
            self._fenced = True
            return
        except ServiceUnavailableError as error:
            log.warning("lease_not_renewed", site=self._watched.site, reason=str(error))
            self._next_heartbeat = asked_at + min(1.0, self._settings.heartbeat_s)
            return
        self._renewed_at = asked_at
        guard.extend(self._process, self._deadline())

    def _queue(self, delivery: Delivery, then: Callable[[], None] | None = None) -> None:
        self._deliveries.append((delivery, then))

    def _deliver(self) -> None:
        """Write what waits, in order, each in a transaction of its own; stop quietly while Postgres is away."""
        while self._deliveries:
            delivery, then = self._deliveries[0]
            try:
                with transaction(self._engine) as connection:
                    delivery(connection)
            except ServiceUnavailableError as error:
                log.warning("delivery_waits", site=self._watched.site, reason=str(error))
                return
            except FencedError:
                self._fenced = True
            except (OSError, ValueError, sa.exc.SQLAlchemyError) as error:
                # Trying again gives the same. A fenced attempt's files may be gone: its cleaner delivered them.
                log.exception("delivery_failed", site=self._watched.site, id=str(self._watched.id))
                self._failure = f"what was measured could not be stored: {str(error).splitlines()[0]}"
                then = None
            self._deliveries.popleft()
            if then is not None and not self._fenced:
                then()

    def _deliver_until(self, monotonic_s: float) -> None:
        while True:
            self._deliver()
            if not self._deliveries or time.monotonic() >= monotonic_s:
                return
            time.sleep(0.5)

    def _why_it_vanished(self) -> str:
        """Return a sentence about a runner that ended without saying how."""
        if time.monotonic() > self._deadline():
            return (
                f"Postgres could not be reached for {self._settings.lease_s - margin_s(self._settings.lease_s):.0f} s; "
                "the work was ended before its lease was over"
            )
        tail = self._log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip().splitlines()
        how = guard.how_it_ended(self._process.returncode)
        return (
            f"the runner on {socket.gethostname()} {how} before it was done; its log ends: {tail[-1] if tail else '-'}"
        )

    def _was_asked_to_stop(self) -> str:
        return f"worker {self._watched.holder} was asked to stop"
