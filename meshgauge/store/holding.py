"""Holding a site: what its lease asks of whoever has it, be it for an environment or for an operation."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from meshgauge.claim import Held
from meshgauge.errors import FencedError
from meshgauge.store import schema


def extend(connection: sa.Connection, held: Held, lease_s: float, work: sa.Table, work_id: uuid.UUID) -> bool:
    """Extend a site's lease; return whether the row of ``work`` it is held for asks to be cancelled.

    Raises:
        FencedError: the lease is over and the site has moved on.
    """
    site = schema.site.c
    row = connection.execute(
        sa.update(schema.site)
        .where(site.name == held.site, site.epoch == held.epoch, site.holder == held.holder, site.state == "leased")
        .values(lease_until=sa.func.now() + sa.func.make_interval(0, 0, 0, 0, 0, 0, lease_s))
        .returning(sa.select(work.c.cancel_at.is_not(None)).where(work.c.id == work_id).scalar_subquery())
    ).one_or_none()
    if row is None:
        raise fenced(held)
    return bool(row[0])


def fenced(held: Held) -> FencedError:
    """Return what to raise when the lease is over."""
    return FencedError(f"the lease on site {held.site} (epoch {held.epoch}) is over")
