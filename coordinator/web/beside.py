"""What others published, as it stands beside every run: the series, and what changes whenever they do."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import sqlalchemy as sa

from meshgauge.store import published
from meshgauge.store.database import transaction
from reports.exchange.published import PublishedSeries, from_store


@dataclass(frozen=True, slots=True)
class Beside:
    """Published series. ``key`` changes with them; it is empty where nothing was imported."""

    key: Hashable
    series: tuple[PublishedSeries, ...]


def published_beside(engine: sa.Engine) -> Beside:
    """Return every published series, by name."""
    with transaction(engine) as connection:
        rows = published.listed(connection)
    return Beside(
        tuple((row.name, row.created_at.isoformat()) for row in rows),
        tuple(from_store(row.name, row.source, row.format, row.rows) for row in rows),
    )
