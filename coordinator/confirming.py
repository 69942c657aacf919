"""Release gates: how a run stands against its plan's thresholds, the run that confirms it, and telling who asked."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from coordinator import notices, submission
from coordinator.planner import Planner
from coordinator.submission import Accepted, Announce
from meshgauge.derived import confirming_plan
from meshgauge.errors import ConflictError, InvalidPlanError, MeasurementError
from meshgauge.store import events, records, runs, schema
from meshgauge.store.database import transaction

if TYPE_CHECKING:
    from reports.analysis import Analysis
    from reports.thresholds.outcome import Outcome

# Returns the answers of a run. Raises UnknownNameError.
AnalysisOf = Callable[[uuid.UUID], "Analysis"]

HELD = "thresholds_held"  # the event that says how a finished run stood

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants a confirmation; may_run_programs: as in ``submission.Request``."""

    name: str
    may_run_programs: bool


def outcome_of(engine: sa.Engine, analysis_of: AnalysisOf, run_id: uuid.UUID) -> Outcome:
    """Return how a run stands against the thresholds of its plan, with what its confirming runs found.

    Of several confirming runs the newest counts that leaves nothing unconfirmed, else the newest that is done.

    Raises:
        UnknownNameError: no such run.
        InvalidPlanError: its plan has no thresholds, or one that selects nothing.
        ConflictError: it is itself a confirming run.
    """
    from reports.thresholds.holding import hold  # noqa: PLC0415 - statistics take a second to import

    screen = analysis_of(run_id)
    if screen.run.confirms is not None and not screen.run.plan.thresholds:
        raise ConflictError(
            f"run {run_id} repeats findings of run {screen.run.confirms} and has no thresholds of its own; "
            "ask for the gate of that run"
        )
    first = hold(screen)
    if not first.to_confirm:
        return first
    answers = (hold(screen, analysis_of(done)) for done in _confirming(engine, run_id)[0])
    newest = next(answers, first)
    return next((answer for answer in itertools.chain([newest], answers) if not answer.to_confirm), newest)


def confirm(
    engine: sa.Engine, planner: Planner, announce: Announce, analysis_of: AnalysisOf, run_id: uuid.UUID, asker: Asker
) -> Accepted:
    """Submit the run that repeats on fresh blocks what a finished run found, or find the one under way.

    It holds the cells of the findings and of their controls, at the exact versions of the first run.

    Raises:
        ConflictError: the run is not over, or there is nothing to confirm.
        InvalidPlanError: as ``outcome_of``, or the versions are no longer offered.
        ServiceUnavailableError: see ``submission.submit``.
    """
    with transaction(engine) as connection:
        is_over = runs.get(connection, run_id).finished_at is not None
    if not is_over:
        raise ConflictError(f"run {run_id} is not over: only when it is, later blocks are fresh; follow it first")
    outcome = outcome_of(engine, analysis_of, run_id)
    ended, under_way = _confirming(engine, run_id, ended_any=True)
    if under_way:
        return Accepted(under_way[0], is_new=False)
    if not outcome.to_confirm:
        raise ConflictError(f"run {run_id} has no finding that waits for fresh blocks. {outcome.sentence}")
    with transaction(engine) as connection:
        resolved = runs.restored_plan(connection, run_id)
    text = confirming_plan(resolved, outcome.to_confirm, outcome.confirm_blocks)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    request = submission.Request(
        text=text,
        submitted_by=asker.name,
        # The same for two requests at once, and new after an attempt that confirmed nothing.
        idempotency_key=f"confirm {run_id} {sha256[:16]} {len(ended)}",
        may_run_programs=asker.may_run_programs,
        confirms=run_id,
    )
    return submission.submit(engine, planner, announce, request)


def under_way(engine: sa.Engine, run_id: uuid.UUID) -> uuid.UUID | None:
    """Return the confirming run that is not over yet, or None."""
    return next(iter(_confirming(engine, run_id)[1]), None)


def _confirming(
    engine: sa.Engine, run_id: uuid.UUID, *, ended_any: bool = False
) -> tuple[tuple[uuid.UUID, ...], tuple[uuid.UUID, ...]]:
    """Return confirming runs, newest first: those done (``ended_any``: over in any state), and those under way."""
    with transaction(engine) as connection:
        rows = [runs.get(connection, found) for found in runs.confirming(connection, run_id)]
    over = tuple(row.id for row in rows if row.state == "done" or (ended_any and row.finished_at is not None))
    return over, tuple(row.id for row in rows if row.finished_at is None)


# Finished runs whose plan (or that of the run they confirm) has thresholds, and that nobody has held against them.
# A day is enough for a reconciler that was away; older runs are answered when somebody asks.
_DUE = sa.text(
    "SELECT r.id, coalesce(r.confirms, r.id) AS screen FROM run r JOIN run s ON s.id = coalesce(r.confirms, r.id)"
    " WHERE r.finished_at > now() - interval '1 day' AND r.state <> 'cancelled'"
    " AND jsonb_array_length(coalesce(s.document->'thresholds', '[]')) > 0"
    " AND NOT EXISTS (SELECT 1 FROM event e WHERE e.run_id = r.id AND e.kind = :held)"
    " ORDER BY r.finished_at LIMIT 1"
)


def hold_due(engine: sa.Engine) -> bool:
    """Hold one finished run against its thresholds, note the answer in its diary and tell of a failure; say if so.

    Any number of reconcilers may do so at once: a run is analysed outside of any lock, and noted and told once.

    Raises:
        ServiceUnavailableError: Postgres is away; the run is still due afterwards.
    """
    with transaction(engine) as connection:
        due = connection.execute(_DUE, {"held": HELD}).one_or_none()
    if due is None:
        return False
    said = _said(engine, due.screen)
    with transaction(engine) as connection:
        connection.execute(sa.select(schema.run.c.id).where(schema.run.c.id == due.id).with_for_update())
        if connection.execute(
            sa.select(schema.event.c.id).where(schema.event.c.run_id == due.id, schema.event.c.kind == HELD).limit(1)
        ).first():
            return False
        events.append(connection, due.id, HELD, said)
        if said["status"] == "failed":
            payload = {
                "subject": said["plan"],
                "answer": said["answer"],
                "page": f"/runs/{due.screen}/report",
                "run": str(due.screen),
            }
            notices.tell(connection, "gate_failed", f"gate {due.id}", payload)
    log.info("thresholds_held", run=str(due.screen), status=said["status"])
    return True


def _said(engine: sa.Engine, run_id: uuid.UUID) -> dict[str, str]:
    """Return status and answer of a run for its diary; what cannot be held is undecided and says why."""
    from reports.analysis import analyse  # noqa: PLC0415

    def analysis_of(wanted: uuid.UUID) -> Analysis:
        with transaction(engine) as connection:
            record = records.read_run(connection, wanted)
        return analyse(record)

    with transaction(engine) as connection:
        plan = runs.get(connection, run_id).name
    try:
        outcome = outcome_of(engine, analysis_of, run_id)
    except (InvalidPlanError, MeasurementError) as error:  # it stays as it is: trying again tells nothing new
        return {"plan": plan, "status": "undecided", "answer": f"Undecided: {error}"}
    return {"plan": plan, "status": outcome.status, "answer": outcome.sentence}
