"""``/api/v1/sites``, ``/adapters`` and ``/conformance``: where environments run, what there is, what was proven."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from flask import Blueprint, Response

from adapters.registry import AdapterRow
from coordinator.api.answers import answer
from coordinator.web.facts import Facts, declared
from coordinator.web.installation import installation
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import UnknownNameError
from meshgauge.store import conformance, leases, schema
from meshgauge.store.database import transaction

blueprint = Blueprint("sites", __name__, url_prefix="/api/v1")


@dataclass(frozen=True, slots=True)
class SiteView:
    """A place where environments run, one at a time. ``reason`` says why it is not free."""

    name: str
    state: str
    epoch: int
    holder: str | None
    lease_until: dt.datetime | None
    reason: str | None


_COLUMNS = (
    schema.site.c.name,
    schema.site.c.state,
    schema.site.c.epoch,
    schema.site.c.holder,
    schema.site.c.lease_until,
    schema.site.c.reason,
)


def site_views(connection: sa.Connection) -> tuple[SiteView, ...]:
    """Return all sites by name."""
    rows = connection.execute(sa.select(*_COLUMNS).order_by(schema.site.c.name))
    return tuple(SiteView(**row._mapping) for row in rows)


@blueprint.get("/sites")
@declared(Facts("read", "List sites", tuple[SiteView, ...]))
def sites() -> Response:
    with transaction(installation().engine) as connection:
        return answer(tuple[SiteView, ...], site_views(connection))


@blueprint.post("/sites/<path:name>/release")
@declared(Facts("admin", "Let a quarantined site be cleaned and used again", SiteView))
def release(name: str) -> Response:
    with transaction(installation().engine) as connection:
        leases.release_quarantine(connection, name)
        view = next((site for site in site_views(connection) if site.name == name), None)
    if view is None:
        raise UnknownNameError("site", name, [])
    return answer(SiteView, view)


@blueprint.get("/adapters")
@declared(Facts("read", "List meshes: stage, placements, profiles, what they cannot do", tuple[AdapterRow, ...]))
def adapters() -> Response:
    return answer(tuple[AdapterRow, ...], tuple(installation().adapter_rows()))


@blueprint.get("/conformance")
@declared(Facts("read", "Newest result of the contract suite per adapter and version", tuple[ConformanceResult, ...]))
def conformance_results() -> Response:
    with transaction(installation().engine) as connection:
        return answer(tuple[ConformanceResult, ...], conformance.results(connection))
