"""Looks at sequential runs: when one is due, what it said, and ending the rest of a run that has its answers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from meshgauge.plan import LOOKS
from meshgauge.store import events, runs, schema

LOOKED = "looked"


@dataclass(frozen=True, slots=True)
class DueLook:
    """A sequential run that has come to a number of blocks at which it is looked at.

    Attributes:
        ended, sound: the last looks that its ended blocks, and those among them without a lost trial, allow; 0:
            none yet. Results that lost blocks come to a look later than the others, hence both.
    """

    run_id: uuid.UUID
    ended: int
    sound: int


_BLOCKS = sa.text(
    "SELECT run_id, count(*) AS ended, count(*) FILTER (WHERE sound) AS sound FROM ("
    " SELECT e.run_id, e.block, bool_and(e.state IN ('done', 'failed')) AS ended,"
    "  bool_and(t.state = 'measured') AS sound"
    " FROM run r JOIN environment e ON e.run_id = r.id JOIN trial t ON t.environment_id = e.id"
    " WHERE r.finished_at IS NULL AND r.cancel_at IS NULL AND r.document->>'sequential' = 'true'"
    " AND NOT EXISTS (SELECT 1 FROM event v WHERE v.run_id = r.id AND v.kind = :stopped)"
    " GROUP BY e.run_id, e.block) AS block WHERE ended GROUP BY run_id"
)


def due(connection: sa.Connection) -> Sequence[DueLook]:
    """Return the looks that nobody has taken yet, in open runs that were not stopped."""
    found = []
    for row in connection.execute(_BLOCKS, {"stopped": runs.STOPPED}):
        look = DueLook(row.run_id, _last_look(row.ended), _last_look(row.sound))
        if look.ended and not _was_taken(connection, look):
            found.append(look)
    return found


def take(connection: sa.Connection, look: DueLook, sentence: str, *, stop: bool) -> bool:
    """Record what a look said and, with ``stop``, end the run there; return False when somebody did so before.

    What is measured at this moment is finished; what nobody has begun is cancelled with the sentence.
    """
    runs.lock_pending(connection, look.run_id)
    still_open = connection.execute(
        sa.select(schema.run.c.id)
        .where(schema.run.c.id == look.run_id, schema.run.c.finished_at.is_(None), schema.run.c.cancel_at.is_(None))
        .with_for_update()
    ).one_or_none()
    if still_open is None or _was_taken(connection, look):
        return False
    said = {"ended": look.ended, "sound": look.sound, "sentence": sentence}
    events.append(connection, look.run_id, LOOKED, said)
    if stop:
        events.append(connection, look.run_id, runs.STOPPED, {"sentence": sentence})
        runs.cancel_pending(connection, look.run_id, sentence)
        runs.advance(connection, look.run_id)
    return True


def end_stopped(connection: sa.Connection) -> None:
    """Cancel again what came back: an environment whose worker was lost while its run was being stopped."""
    rows = connection.execute(
        sa.select(schema.run.c.id, schema.event.c.data)
        .join(schema.event, schema.event.c.run_id == schema.run.c.id)
        .where(schema.run.c.finished_at.is_(None), schema.event.c.kind == runs.STOPPED)
    ).all()
    for row in rows:
        runs.lock_pending(connection, row.id)
        runs.cancel_pending(connection, row.id, row.data["sentence"])
        runs.advance(connection, row.id)


def _last_look(blocks: int) -> int:
    return max((look for look in LOOKS if look <= blocks), default=0)


def _was_taken(connection: sa.Connection, look: DueLook) -> bool:
    data = schema.event.c.data
    return (
        connection.execute(
            sa.select(schema.event.c.id).where(
                schema.event.c.run_id == look.run_id,
                schema.event.c.kind == LOOKED,
                data["ended"].as_integer() == look.ended,
                data["sound"].as_integer() == look.sound,
            )
        ).first()
        is not None
    )
