"""``/api/v1/runs/<run>/...``: what a run measured, as answers, tables, report and artefacts."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify
from werkzeug.http import dump_options_header

from coordinator.api.answers import answer, run_id_of
from coordinator.web.facts import Facts, declared
from coordinator.web.guards import FILE_POLICY, REPORT_POLICY
from coordinator.web.installation import installation
from meshgauge.errors import UnknownNameError
from meshgauge.store import artefacts as stored
from meshgauge.store import runs
from meshgauge.store.artefacts import ArtefactRow
from meshgauge.store.database import transaction

blueprint = Blueprint("results", __name__, url_prefix="/api/v1/runs/<run>")


@dataclass(frozen=True, slots=True)
class ArtefactView:
    """A file kept with an environment: rendered configuration, end of a log. ``link`` downloads it."""

    id: int
    environment_id: str | None
    attempt: int | None
    name: str
    media_type: str
    sha256: str
    size_bytes: int
    created_at: dt.datetime
    link: str


def known_run(run: str) -> uuid.UUID:
    """Return the id of an existing run.

    Raises:
        UnknownNameError: no such run.
    """
    with transaction(installation().engine) as connection:
        return runs.get(connection, run_id_of(connection, run)).id


@blueprint.get("/summary")
@declared(Facts("read", "The answers in words, and one row a comparison with interval, n and verdict", dict[str, Any]))
def summary(run: str) -> Response:
    installed = installation()
    return jsonify(installed.reporting.summary(installed.engine, known_run(run)))


@blueprint.get("/report")
@declared(Facts("read", "The report: one self-contained page", media_type="text/html"))
def report(run: str) -> Response:
    return report_page(run)


def report_page(run: str) -> Response:
    """Return the report of a run as it stands now."""
    installed = installation()
    run_id = known_run(run)
    response = Response(installed.reporting.page(installed.engine, run_id), mimetype="text/html")
    response.headers["Content-Security-Policy"] = f"{installed.reporting.page_policy()}; {REPORT_POLICY}"
    return response


@blueprint.get("/tables/<name>.csv")
@declared(Facts("read", "One table as CSV: trials, comparisons, blocks, gates, seconds", media_type="text/csv"))
def table(run: str, name: str) -> Response:
    installed = installation()
    run_id = known_run(run)
    tables = installed.reporting.tables(installed.engine, run_id)
    if name not in tables:
        raise UnknownNameError("table", name, tables)
    return download(tables[name].encode(), "text/csv; charset=utf-8", f"{str(run_id)[:8]}-{name}.csv")


@blueprint.get("/trials")
@declared(Facts("read", "All trials with their metrics, gates and reasons as CSV", media_type="text/csv"))
def trials(run: str) -> Response:
    return table(run, "trials")


@blueprint.get("/artefacts")
@declared(Facts("read", "List the files kept with the run", tuple[ArtefactView, ...]))
def artefacts(run: str) -> Response:
    run_id = known_run(run)
    with transaction(installation().engine) as connection:
        rows = stored.listed(connection, run_id)
    return answer(tuple[ArtefactView, ...], tuple(map(_artefact_view, rows)))


def _artefact_view(row: ArtefactRow) -> ArtefactView:
    return ArtefactView(
        id=row.id,
        environment_id=None if row.environment_id is None else str(row.environment_id),
        attempt=row.attempt,
        name=row.name,
        media_type=row.media_type,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        link=f"/api/v1/runs/{row.run_id}/artefacts/{row.id}",
    )


@blueprint.get("/artefacts/<int:artefact_id>")
@declared(Facts("read", "Download one file of the run", media_type="application/octet-stream"))
def artefact(run: str, artefact_id: int) -> Response:
    run_id = known_run(run)
    with transaction(installation().engine) as connection:
        row, content = stored.read(connection, artefact_id)
    if row.run_id != run_id:  # each run lets in to its own files only
        raise UnknownNameError("artefact", str(artefact_id), [])
    return download(content, "application/octet-stream", row.name)


def download(content: bytes, media_type: str, name: str) -> Response:
    """Return bytes to be saved, never shown. The name came from elsewhere: only harmless characters stay."""
    response = Response(content, content_type=media_type)
    safe = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).lstrip(".") or "file"
    response.headers["Content-Disposition"] = dump_options_header("attachment", {"filename": safe})
    response.headers["Content-Security-Policy"] = FILE_POLICY
    return response
