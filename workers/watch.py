"""The watcher of an environment: keeps its lease and writes down what its runner measured."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from meshgauge import queue
from meshgauge.claim import AttemptOutcome, Claim
from meshgauge.settings import Settings
from meshgauge.store import artefacts, leases, load_jobs, progress, results
from workers import spool
from workers.watching import RunnerWatch, Watched
from workers.work import ORDER_FILE, WorkOrder, environment_and_loads

Announce = Callable[[str, str], None]  # task, row

_PROGRESS_PERIOD_S = 2.0


class Watcher(RunnerWatch):
    """Watches one attempt at an environment from its claim to its end."""

    def __init__(
        self, settings: Settings, engine: sa.Engine, claim: Claim, order: WorkOrder, announce: Announce
    ) -> None:
        directory = Path(order.directory)
        watched = Watched(
            id=claim.run_id,
            site=claim.site,
            holder=claim.holder,
            cookies={
                "MESHGAUGE_SITE": order.site,
                "MESHGAUGE_EPOCH": str(claim.epoch),
                "MESHGAUGE_ENVIRONMENT": str(claim.environment_id),
            },
            arguments=("-m", "workers.runner", str(directory / ORDER_FILE)),
            directory=directory,
        )
        super().__init__(settings, engine, watched)
        self._claim = claim
        self._order = order
        self._announce = announce
        self._outcome: AttemptOutcome = "failed"
        self._reason: str | None = None
        self._retry = True
        self._provenance: dict[str, Any] = {}
        self._last_progress = 0.0
        self._ended = False

    def _prepare(self) -> None:
        """Ask for the first trial's load workers: their start takes as long as the environment's.

        An environment that brings its own is asked by the runner, once it is up.
        """
        first = self._order.trials[0]
        environment, loads = environment_and_loads(self._order)
        if environment.infrastructure.brings_load_workers:
            return
        self._on_load_wanted(first.trial_id, self._order.first_master, loads[first.load].load_workers)
        self._deliver()

    def _renew(self, connection: sa.Connection) -> bool:
        """Extend the site's lease."""
        return leases.renew(connection, self._claim, self._settings.lease_s)

    def _conclude(self) -> None:
        """Decide what became of the attempt and queue the last write."""
        if self._cancelled:
            self._outcome, self._reason, self._retry = "cancelled", "the run was cancelled", False
        elif self._interrupted and not self._ended:
            self._outcome, self._reason = "interrupted", self._was_asked_to_stop()
        elif self._failure:
            self._outcome, self._reason = "failed", self._failure
        elif not self._ended:
            self._reason = self._why_it_vanished()
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
        directory = spool.trial_directory(self._watched.directory, trial_id)

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
