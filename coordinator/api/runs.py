"""``/api/v1/runs``: submit, list, show, follow and cancel."""

from __future__ import annotations

import datetime as dt

from flask import Blueprint, Response, request, stream_with_context, url_for
from werkzeug.exceptions import BadRequest, ServiceUnavailable

from coordinator import submission
from coordinator.api.answers import RunList, RunView, answer, run_id_of, run_view
from coordinator.planner import read_plan
from coordinator.progress import Progress, progress_of
from coordinator.web.callers import caller, may_run_programs, refuse_foreign_clusters
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.guards import plan_text
from coordinator.web.installation import installation
from coordinator.web.streams import follow
from meshgauge.store import runs
from meshgauge.store.database import transaction

MAX_LISTED = 200
_DEFAULT_LISTED = 20
_MAX_KEY = 200

blueprint = Blueprint("runs", __name__, url_prefix="/api/v1/runs")

_KEY = QueryParameter(
    "Idempotency-Key",
    "The same key with the same plan gives the same run; with another plan it is 409. Without a key every "
    "request is a new run, unless same_plan_within_s is given.",
    {"type": "string", "maxLength": _MAX_KEY},
    header=True,
)
_WITHIN = QueryParameter(
    "same_plan_within_s",
    "Without a key: take a run of the same text that you submitted within so many seconds for this one",
    {"type": "number", "exclusiveMinimum": 0, "maximum": 604_800},
)
_LIMIT = QueryParameter("limit", "How many", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED})
_BEFORE = QueryParameter("before", "Only runs made before this time", {"type": "string", "format": "date-time"})
_LAST_EVENT = QueryParameter(
    "Last-Event-ID", "Continue after this event (browsers send it)", {"type": "integer"}, header=True
)


@blueprint.post("")
@declared(
    Facts("run", "Submit a run", RunView, status=201, takes_plan=True, parameters=(_KEY, _WITHIN)),
)
def submit() -> Response:
    installed = installation()
    text = plan_text()
    refuse_foreign_clusters(installed.settings, read_plan(text).infrastructures)
    asked = submission.Request(
        text=text,
        submitted_by=caller().name,
        idempotency_key=idempotency_key(),
        same_plan_within_s=positive_number("same_plan_within_s", 604_800.0),
        may_run_programs=may_run_programs(installed.settings),
    )
    accepted = submission.submit(installed.engine, installed.planner, installed.announce, asked)
    with transaction(installed.engine) as connection:
        view = run_view(runs.get(connection, accepted.run_id))
    return answer(RunView, view, 201 if accepted.is_new else 200, {"Location": view.links["self"]})


def idempotency_key() -> str | None:
    """Return the key of this request, if it has one.

    Raises:
        BadRequest: it is too long, or cannot be printed.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and (not 0 < len(key) <= _MAX_KEY or not key.isprintable()):
        raise BadRequest(f"Idempotency-Key: 1 to {_MAX_KEY} printable characters")
    return key


def positive_number(name: str, most: float) -> float | None:
    """Return the number above 0 a query parameter names, if it is there.

    Raises:
        BadRequest: it is no such number.
    """
    text = request.args.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {text!r} is no number") from error
    if not 0 < value <= most:
        raise BadRequest(f"{name}: give more than 0 and at most {most:g}")
    return value


@blueprint.get("")
@declared(Facts("read", "List runs, newest first", RunList, parameters=(_LIMIT, _BEFORE)))
def listed() -> Response:
    limit = int(positive_number("limit", MAX_LISTED) or _DEFAULT_LISTED)
    before = instant("before")
    with transaction(installation().engine) as connection:
        rows = runs.newest(connection, max(1, limit), before)
    following = None
    if len(rows) == limit:
        following = url_for("runs.listed", limit=limit, before=rows[-1].created_at.isoformat())
    return answer(RunList, RunList(tuple(map(run_view, rows)), following))


def instant(name: str) -> dt.datetime | None:
    """Return the moment a query parameter names, if it is there.

    Raises:
        BadRequest: it is no time.
    """
    text = request.args.get(name)
    if text is None:
        return None
    try:
        value = dt.datetime.fromisoformat(text.replace(" ", "+"))  # a + of the zone arrives as a space
    except ValueError as error:
        raise BadRequest(f"{name}: {text!r} is no time; write 2026-11-23T08:00:00+00:00") from error
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


@blueprint.get("/<run>")
@declared(Facts("read", "Show one run", RunView))
def show(run: str) -> Response:
    with transaction(installation().engine) as connection:
        return answer(RunView, run_view(runs.get(connection, run_id_of(connection, run))))


@blueprint.get("/<run>/plan")
@declared(Facts("read", "The plan as it was submitted", media_type="application/yaml"))
def plan(run: str) -> Response:
    with transaction(installation().engine) as connection:
        body = runs.restored_plan(connection, run_id_of(connection, run)).text
    return Response(body, mimetype="application/yaml")


@blueprint.get("/<run>/progress")
@declared(Facts("read", "How far the run is, and how long it will still take", Progress))
def progress(run: str) -> Response:
    with transaction(installation().engine) as connection:
        return answer(Progress, progress_of(connection, run_id_of(connection, run)))


@blueprint.get("/<run>/events")
@declared(
    Facts("read", "Follow the run: server-sent events", media_type="text/event-stream", parameters=(_LAST_EVENT,))
)
def events(run: str) -> Response:
    return event_stream(run)


def event_stream(run: str) -> Response:
    """Return the live events of a run, from after the client's Last-Event-ID.

    Raises:
        UnknownNameError: no such run.
        ServiceUnavailable: too many clients follow runs already.
    """
    installed = installation()
    with transaction(installed.engine) as connection:
        run_id = run_id_of(connection, run)
        runs.get(connection, run_id)
    last = request.headers.get("Last-Event-ID", "0")
    if not last.isascii() or not last.isdigit() or len(last) > 18:
        raise BadRequest("Last-Event-ID is a number")
    if not installed.streams.acquire(blocking=False):
        raise ServiceUnavailable("too many clients follow runs; ask for .../progress now and then instead")
    lines = follow(installed.engine, installed.hub, run_id, int(last), installed.is_stopping)
    response = Response(stream_with_context(lines), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(installed.streams.release)
    return response


@blueprint.post("/<run>/cancel")
@declared(Facts("run", "Stop the run at once; what was measured is kept", RunView))
def cancel(run: str) -> Response:
    with transaction(installation().engine) as connection:
        row = runs.request_cancel(connection, run_id_of(connection, run), caller().name)
    return answer(RunView, run_view(row))
