"""Taking the looks of sequential runs, apart from the reconciler's tick: an analysis takes up to seconds."""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from meshgauge.errors import MeasurementError
from meshgauge.store import looks, records
from meshgauge.store.database import transaction

log = structlog.get_logger()


def take_due(engine: sa.Engine) -> int:
    """Take every look that is due, and stop runs of which all results are decided; return how many were taken.

    Any number of reconcilers may do so at once: the first to record a look decides, and they find the same anyway.
    A run is read, analysed and decided on outside of any lock.

    Raises:
        ServiceUnavailableError: Postgres is away; the looks are still due afterwards.
    """
    with transaction(engine) as connection:
        looks.end_stopped(connection)
        due = looks.due(connection)
    taken = 0
    for look in due:
        sentence, stop = _said(engine, look)
        with transaction(engine) as connection:
            is_first = looks.take(connection, look, sentence, stop=stop)
        if is_first:
            taken += 1
            log.info("looked", run=str(look.run_id), blocks=look.ended, stop=stop, said=sentence)
    return taken


def _said(engine: sa.Engine, look: looks.DueLook) -> tuple[str, bool]:
    """Return what the look says, and whether it stops the run."""
    # Statistics take a second to import: a reconciler that never meets a sequential run does without.
    from reports.analysis import analyse  # noqa: PLC0415
    from reports.comparing.sequential import decide  # noqa: PLC0415

    with transaction(engine) as connection:
        record = records.read_run(connection, look.run_id)
    try:
        analysis = analyse(record)
    except MeasurementError as error:  # it cannot be judged: it goes on to its last block, and the page says why
        return f"look at {look.ended} blocks: {error}", False
    decision = decide([c for answer in analysis.answers for c in answer.comparisons])
    return decision.sentence, decision.stop
