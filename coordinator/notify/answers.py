"""What a finished run found, in the words its report begins with. Worked out after the run, away from its workers."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from meshgauge.store import records
from meshgauge.store.database import transaction


def answer_of_run(engine: sa.Engine, run_id: uuid.UUID) -> str | None:
    """Return the first sentences of a run's report, or None when it answers no question.

    `reports` is imported at the first call, as in `coordinator.web.reporting`: statistics take a second to load.

    Raises:
        UnknownNameError: no such run.
        MeasurementError: its trials cannot be read as one run.
    """
    from reports.analysis import analyse  # noqa: PLC0415
    from reports.headlines import headlines, overall  # noqa: PLC0415

    with transaction(engine) as connection:
        record = records.read_run(connection, run_id)
    analysis = analyse(record)
    first = overall(analysis) or next((headline.text for headline in headlines(analysis)), None)
    if first is None:
        return None
    if analysis.withheld:
        return f"{first} All verdicts are withheld: {analysis.withheld}."
    return f"{first} All verdicts are indicative. {analysis.indicative}" if analysis.indicative else first
