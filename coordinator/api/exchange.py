"""``/api/v1/runs/<run>/export/<format>`` and ``/api/v1/published``: results for other tools, others' results here."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from coordinator.api.answers import answer
from coordinator.api.results import download, known_run
from coordinator.web.callers import caller
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.guards import body_of
from coordinator.web.installation import installation
from meshgauge.fields import NAME_PATTERN
from meshgauge.store import published
from meshgauge.store.database import transaction
from meshgauge.store.published import PublishedRow

blueprint = Blueprint("exchange", __name__, url_prefix="/api/v1")

_TABLE = QueryParameter(
    "table",
    "csv and parquet hold one table: trials (the default), comparisons, blocks, gates or seconds",
    {"type": "string", "default": "trials"},
)


class PublishedDraft(BaseModel):
    """Results somebody published, to be shown beside ours."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME_PATTERN, description="what pages call it: lower-case letters, digits and . _ + -")
    source: str = Field(min_length=1, max_length=500, description="who measured it, and where it was published")
    importer: Literal["fortio", "istio-csv"] | None = Field(default=None, description="told from the text by default")
    text: str = Field(min_length=1, description="the file's content: Fortio JSON, or Istio's benchmark CSV")


@dataclass(frozen=True, slots=True)
class PublishedView:
    """A published series, not measured here. ``points`` is how many measurements it has."""

    name: str
    source: str
    importer: str
    caveats: tuple[str, ...]
    points: int
    imported_by: str
    created_at: dt.datetime
    link: str


@dataclass(frozen=True, slots=True)
class PublishedWhole:
    """A published series with its measurements, in our units."""

    series: PublishedView
    points: tuple[dict[str, Any], ...]


@blueprint.get("/runs/<run>/export/<name>")
@declared(
    Facts(
        "read",
        "A run for other tools: csv, parquet, json, hdr, smp or meshmark",
        media_type="application/octet-stream",
        parameters=(_TABLE,),
    )
)
def export(run: str, name: str) -> Response:
    from reports.exchange.formats import DEFAULT_TABLE, FORMATS  # noqa: PLC0415 - loads statistics and drawing

    installed = installation()
    run_id = known_run(run)
    table = request.args.get("table", DEFAULT_TABLE)
    content = installed.reporting.exported(installed.engine, run_id, name, table)
    made = FORMATS[name]
    middle = f"-{table}" if made.is_table else ""
    return download(content, made.media_type, f"{str(run_id)[:8]}{middle}.{made.ending}")


@blueprint.get("/export/schema")
@declared(Facts("open", "The JSON Schema of a run exported as json", dict[str, Any], "application/schema+json"))
def schema() -> Response:
    from reports.exchange.run_document import json_schema  # noqa: PLC0415

    response = jsonify(json_schema())
    response.mimetype = "application/schema+json"
    return response


@blueprint.post("/published")
@declared(
    Facts("run", "Import results others published; nothing is overwritten", PublishedView, status=201,
          takes=PublishedDraft)
)  # fmt: skip
def add() -> Response:
    from reports.exchange.published import for_store, import_series  # noqa: PLC0415

    draft = body_of(PublishedDraft)
    series = import_series(draft.text, draft.name, draft.source, draft.importer)
    with transaction(installation().engine) as connection:
        row = published.add(
            connection, series.name, series.source, series.importer, for_store(series), caller().name
        )  # fmt: skip
    return answer(PublishedView, _view(row), 201)


@blueprint.get("/published")
@declared(Facts("read", "List published series, not measured here", tuple[PublishedView, ...]))
def listed() -> Response:
    with transaction(installation().engine) as connection:
        views = tuple(map(_view, published.listed(connection)))
    return answer(tuple[PublishedView, ...], views)


@blueprint.get("/published/<name>")
@declared(Facts("read", "A published series with its measurements, in our units", PublishedWhole))
def show(name: str) -> Response:
    with transaction(installation().engine) as connection:
        row = published.get(connection, name)
    return answer(PublishedWhole, PublishedWhole(_view(row), tuple(row.rows["points"])))


@blueprint.delete("/published/<name>")
@declared(Facts("run", "Remove a published series", status=204, media_type=""))
def remove(name: str) -> Response:
    with transaction(installation().engine) as connection:
        published.remove(connection, name)
    return Response(status=204)


def _view(row: PublishedRow) -> PublishedView:
    return PublishedView(
        name=row.name,
        source=row.source,
        importer=row.format,
        caveats=tuple(row.rows["caveats"]),
        points=len(row.rows["points"]),
        imported_by=row.imported_by,
        created_at=row.created_at,
        link=f"/api/v1/published/{row.name}",
    )
