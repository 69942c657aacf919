"""The watcher: keeps the lease of one environment and writes down what its runner reports.

The Celery child does nothing else. All long work is in the runner below a guard, so that a cut
connection, a paused process or a kill ends it before the lease is over.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from meshgauge import queue
from meshgauge.claim import AttemptOutcome, Claim
from meshgauge.errors import FencedError, ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store import artefacts, leases, load_jobs, progress, results
from meshgauge.store.database import transaction
from workers import guard, spool
from workers.cancel import CancelListener
from workers.work import ORDER_FILE, WorkOrder, environment_and_loads

log = structlog.get_logger()

Announce = Callable[[str, str], None]  # task, row
Delivery = Callable[[sa.Connection], None]

_LOG_TAIL_BYTES = 4000
_PROGRESS_PERIOD_S = 2.0


def margin_s(lease_s: float) -> float:
    """Return how long before its lease ends a worker has to have stopped (reliability.md 2)."""
    return min(15.0, lease_s / 4)


class Watcher:
    """Watches one attempt from its claim to its end.

    Every write goes through one ordered queue of deliveries: while Postgres is away they wait, and what
    was measured lies in the spool.
    """

    def __init__(
        self, settings: Settings, engine: sa.Engine, claim: Claim, order: WorkOrder, announce: Announce
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._claim = claim
        self._order = order
        self._announce = announce
        self._directory = Path(order.directory)
        self._deliveries: deque[tuple[Delivery, Callable[[], None] | None]] = deque()
        self._outcome: AttemptOutcome = "failed"
        self._reason: str | None = None
        self._retry = True
        self._provenance: dict[str, Any] = {}
        self._renewed_at = time.monotonic()
        self._next_heartbeat = 0.0
        self._last_progress = 0.0
        self._cancelled = False
        self._fenced = False
        self._ended = False
        self._interrupted = False
        self._failure: str | None = None
        self._unread = b""

    def run(self) -> bool:
        """Watch until the attempt is over and written down; return whether our word still counted.

        Raises:
            SystemExit: Celery ends this worker now; the environment was given back uncounted.
        """
        log_path = self._directory / "runner.log"
        try:
            self._ask_for_first_load_workers()
            self._see_through(log_path)
        except SystemExit:
            self._interrupted = True
        self._conclude(log_path)
        self._deliver_until(self._renewed_at + self._settings.lease_s)
        if not self._deliveries:
            spool.remove(self._directory)
        if self._interrupted:
            raise SystemExit
        return not self._fenced

    def _ask_for_first_load_workers(self) -> None:
        first = self._order.trials[0]
        _, loads = environment_and_loads(self._order)
        self._on_load_wanted(first.trial_id, self._order.first_master, loads[first.load].load_workers)
        self._deliver()

    def _see_through(self, log_path: Path) -> None:
        """Start the runner, watch it to its end, and read what it said last."""
        argv = [sys.executable, "-m", "workers.runner", str(self._directory / ORDER_FILE)]
        with log_path.open("ab") as log_file, CancelListener(self._engine, self._claim.run_id) as cancel:
            self._process = guard.start_guarded(argv, self._deadline(), self._environment(), log_file)
            try:
                self._watch(cancel)
            finally:
                guard.stop(self._process)
                while self._read_events():  # an end that was asked for still leaves results, provenance, artefacts
                    pass
                guard.close_output(self._process)

    def _environment(self) -> dict[str, str]:
        cookies = {
            "MESHGAUGE_SITE": self._order.site,
            "MESHGAUGE_EPOCH": str(self._claim.epoch),
            "MESHGAUGE_ENVIRONMENT": str(self._claim.environment_id),
        }
        return {**os.environ, **cookies, "PYTHONUNBUFFERED": "1"}

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
                self._cancelled |= leases.renew(connection, self._claim, self._settings.lease_s)
        except FencedError:
            self._fenced = True
            return
        except ServiceUnavailableError as error:
            log.warning("lease_not_renewed", site=self._claim.site, reason=str(error))
            self._next_heartbeat = asked_at + min(1.0, self._settings.heartbeat_s)
            return
        self._renewed_at = asked_at
        guard.extend(self._process, self._deadline())

    # What the runner reports; one method an event.

    def _on_phase(self, phase: str) -> None:
        self._queue(lambda connection: leases.set_phase(connection, self._claim, phase))

    def _on_tuning(self, tuning: dict[str, Any]) -> None:
        self._queue(lambda connection: progress.keep_tuning(connection, self._claim, tuning))

    def _on_load_wanted(self, trial_id: str, master: str, load_workers: int) -> None:
        ids = [uuid.uuid4() for _ in range(load_workers)]
        self._queue(
            lambda connection: load_jobs.add(connection, self._claim, uuid.UUID(trial_id), ids, master),
            then=lambda: self._announce_all(ids),
        )

    def _announce_all(self, job_ids: list[uuid.UUID]) -> None:
        for job_id in job_ids:
            self._announce(queue.DRIVE, str(job_id))

    def _on_trial_started(self, trial_id: str) -> None:
        self._queue(lambda connection: results.begin_trial(connection, self._claim, uuid.UUID(trial_id)))

    def _on_progress(self, **fields: Any) -> None:
        if time.monotonic() - self._last_progress >= _PROGRESS_PERIOD_S:
            self._last_progress = time.monotonic()
            self._queue(lambda connection: progress.report(connection, self._claim, fields))

    def _on_trial_finished(self, trial_id: str) -> None:
        directory = spool.trial_directory(self._directory, trial_id)

        def deliver(connection: sa.Connection) -> None:
            progress.forget(connection, self._claim)
            results.record_trial(connection, self._claim, spool.read_measured(directory))

        self._queue(deliver)

    def _on_artefact(self, name: str, media_type: str, path: str) -> None:
        file = Path(path)
        self._queue(lambda connection: artefacts.keep(connection, self._claim, name, media_type, file.read_bytes()))

    def _on_provenance(self, provenance: dict[str, Any]) -> None:
        self._provenance = provenance

    def _on_ended(self, outcome: AttemptOutcome, reason: str | None, retry: bool) -> None:
        self._ended = True
        self._outcome, self._reason, self._retry = outcome, reason, retry

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
                log.warning("delivery_waits", site=self._claim.site, reason=str(error))
                return
            except FencedError:
                self._fenced = True
            except (OSError, ValueError, sa.exc.SQLAlchemyError) as error:
                # Trying again gives the same. A fenced attempt's files may be gone: its cleaner delivered them.
                log.exception("delivery_failed", site=self._claim.site, environment=self._claim.key)
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

    def _conclude(self, log_path: Path) -> None:
        """Decide what became of the attempt and queue the last write."""
        if self._fenced:
            return
        if self._cancelled:
            self._outcome, self._reason, self._retry = "cancelled", "the run was cancelled", False
        elif self._interrupted and not self._ended:
            self._outcome, self._reason = "interrupted", f"worker {self._claim.holder} was asked to stop"
        elif self._failure:
            self._outcome, self._reason = "failed", self._failure
        elif not self._ended:
            self._reason = self._why_it_vanished(log_path)
        self._queue(
            lambda connection: leases.end_attempt(
                connection,
                self._claim,
                self._outcome,
                self._reason,
                self._provenance,
                retry=self._retry,
                max_attempts=self._settings.max_attempts,
            )
        )

    def _why_it_vanished(self, log_path: Path) -> str:
        if time.monotonic() > self._deadline():
            return (
                f"Postgres could not be reached for {self._settings.lease_s - margin_s(self._settings.lease_s):.0f} s; "
                "the environment was ended before its lease was over"
            )
        tail = log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip().splitlines()
        how = guard.how_it_ended(self._process.returncode)
        return (
            f"the runner on {socket.gethostname()} {how} before it was done; its log ends: {tail[-1] if tail else '-'}"
        )
