"""Operations on a site: claimed, carried out by a runner below a guard, watched, written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from meshgauge.conformance import ConformanceResult
from meshgauge.errors import ConfigurationError, MeshgaugeError
from meshgauge.operations import CUT_OFF, OperationClaim, OperationOutcome
from meshgauge.settings import Settings
from meshgauge.store import conformance, operations
from meshgauge.store.database import transaction
from workers import places, spool
from workers.operation_work import OperationWork
from workers.watching import RunnerWatch, Watched
from workers.work import ORDER_FILE

log = structlog.get_logger()

MAX_LINES = 5000  # of one operation's log; Helm and the API server say a few hundred


class OperationWatch(RunnerWatch):
    """Watches one operation from its claim to its end."""

    def __init__(self, settings: Settings, engine: sa.Engine, claim: OperationClaim, work: OperationWork) -> None:
        directory = Path(work.directory)
        watched = Watched(
            id=claim.operation_id,
            site=claim.site,
            holder=claim.holder,
            cookies={
                "MESHGAUGE_SITE": work.site,
                "MESHGAUGE_EPOCH": str(claim.epoch),
                "MESHGAUGE_ENVIRONMENT": str(claim.operation_id),
            },
            arguments=("-m", "workers.operation_runner", str(directory / ORDER_FILE)),
            directory=directory,
        )
        super().__init__(settings, engine, watched)
        self._claim = claim
        self._action = str(work.request["action"])
        self._outcome: OperationOutcome | None = None
        self._reason: str | None = None
        self._result: dict[str, Any] = {}
        self._untold: list[tuple[str, str]] = []
        self._told = 0

    def _renew(self, connection: sa.Connection) -> bool:
        """Extend the site's lease."""
        return operations.renew(connection, self._claim, self._settings.lease_s)

    # What the runner reports; one method an event.

    def _on_phase(self, phase: str) -> None:
        self._tell("phase", phase)

    def _on_line(self, text: str) -> None:
        self._tell("line", text)

    def _on_conformance(self, result: dict[str, Any]) -> None:
        found = ConformanceResult.of_json(result)

        def deliver(connection: sa.Connection) -> None:
            operations.hold(connection, self._claim)
            conformance.add(connection, found, self._claim.operation_id)

        self._queue(deliver)

    def _on_ended(self, outcome: OperationOutcome, reason: str | None, result: dict[str, Any]) -> None:
        self._outcome, self._reason, self._result = outcome, reason, result

    def _tell(self, kind: str, text: str) -> None:
        """Queue one line; lines that come together are written together, and a log without end is cut."""
        self._told += 1
        if self._told > MAX_LINES:
            return
        self._untold.append((kind, text if self._told < MAX_LINES else "(the log is cut here)"))
        if len(self._untold) == 1:
            self._queue(
                lambda connection: operations.say(connection, self._claim, self._untold), then=self._untold.clear
            )

    def _conclude(self) -> None:
        """Decide what became of the operation and queue the last write."""
        outcome, reason = self._outcome, self._reason
        if outcome is None:
            outcome, reason = self._ended_early()
        self._queue(lambda connection: operations.end(connection, self._claim, outcome, reason, self._result))

    def _ended_early(self) -> tuple[OperationOutcome, str]:
        if self._cancelled:
            return "cancelled", CUT_OFF[self._action]
        if self._interrupted and self._action == "uninstall":  # begun again, it would find nothing to remove
            return "failed", f"{self._was_asked_to_stop()}; {CUT_OFF[self._action]}"
        if self._interrupted:
            return "interrupted", self._was_asked_to_stop()
        return "failed", self._failure or self._why_it_vanished()


def operate_next(settings: Settings, engine: sa.Engine, site: str, holder: str) -> OperationClaim | None:
    """Claim and carry out the site's next operation; return it when there was one and our word counted."""
    with transaction(engine) as connection:
        claim = operations.claim_next(connection, site, holder, settings.lease_s)
    if claim is None:
        return None
    log.info("operation_claimed", site=site, operation=str(claim.operation_id), epoch=claim.epoch)
    try:
        work = _prepare(settings, engine, claim)
    except (MeshgaugeError, OSError) as error:
        log.error("operation_not_started", operation=str(claim.operation_id), reason=str(error))  # noqa: TRY400
        with transaction(engine) as connection:
            operations.end(connection, claim, "failed", f"it could not be prepared: {error}", {})
        return claim
    return claim if OperationWatch(settings, engine, claim, work).run() else None


def _prepare(settings: Settings, engine: sa.Engine, claim: OperationClaim) -> OperationWork:
    with transaction(engine) as connection:
        request = operations.get(connection, claim.operation_id).request
    root = places.spool_root(settings)
    if (full := places.full_disk(root)) is not None:
        raise ConfigurationError(full)
    site = places.cookie_site(settings, claim.site)
    work = OperationWork(
        operation_id=str(claim.operation_id),
        request=request,
        place=claim.site,
        site=site,
        epoch=claim.epoch,
        directory=str(spool.operation_directory(root, claim)),
        runtime_dir=str(places.runtime_directory(site, claim.epoch)),
        cache_dir=str(places.cache_directory(settings)),
        load_image=settings.image or "",
        load_engine=settings.load_engine,
        advertise_host=settings.advertise_host,
    )
    work.write()
    return work
