"""Pages for browsers: what runs, one run live, its report, logging in. They work without script."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, redirect, render_template, request, session
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from coordinator.api import results
from coordinator.api.answers import run_id_of, schedule_view
from coordinator.api.results import report_page
from coordinator.api.runs import event_stream
from coordinator.api.sites import site_views
from coordinator.progress import last_events, progress_of
from coordinator.web.callers import SESSION_TOKEN, caller, known_by_secret
from coordinator.web.diary import told
from coordinator.web.facts import Facts, declared
from coordinator.web.guards import CSRF_FIELD, check_form, csrf_token
from coordinator.web.installation import installation
from coordinator.web.spoken import clock, duration, moment
from meshgauge.store import artefacts, runs, schedules, tokens
from meshgauge.store.database import transaction
from meshgauge.store.runs import RunRow

blueprint = Blueprint("pages", __name__)

_RUNS_A_PAGE = 50
_EVENTS_SHOWN = 200
_QUICKLY_ANALYSED_TRIALS = 2000  # takes a second or two; of larger runs the answer is told once somebody opened them


def add_filters(app: Flask) -> None:
    """Teach the templates how we write times, and how a form proves that it is ours."""
    app.jinja_env.filters.update(duration=duration, moment=moment, clock=clock)
    app.jinja_env.globals.update(csrf_token=csrf_token, csrf_field=CSRF_FIELD, told=told)


def _page(summary: str) -> Facts:
    return Facts("read", summary, media_type="text/html", accepts_cookie=True)


@blueprint.get("/")
@declared(_page("Runs and schedules"))
def index() -> str:
    before = _instant(request.args.get("before"))
    installed = installation()
    with transaction(installed.engine) as connection:
        number = runs.count(connection)
        rows = runs.newest(connection, _RUNS_A_PAGE, before)
        planned = [schedule_view(connection, row) for row in schedules.listed(connection)]
        sites = site_views(connection)
    following = rows[-1].created_at.isoformat() if len(rows) == _RUNS_A_PAGE else None
    return render_template(
        "index.html",
        number=number,
        newest=_newest_finding(rows),
        runs=rows,
        schedules=planned,
        sites=sites,
        following=following,
        caller=caller(),
    )


def _newest_finding(rows: Sequence[RunRow]) -> tuple[RunRow, str] | None:
    """Return the newest run that came to its end, and its answer in words.

    Runs under way are not asked: their statistics would be made again with every trial, beside the measurement.
    """
    installed = installation()
    over = next((row for row in rows if row.state == "done" and row.trials.get("measured")), None)
    if over is None:
        return None
    small = sum(over.trials.values()) <= _QUICKLY_ANALYSED_TRIALS
    text = installed.reporting.finding(installed.engine, over.id, make=small)
    return None if text is None else (over, text)


def _instant(text: str | None) -> dt.datetime | None:
    try:
        value = dt.datetime.fromisoformat((text or "").replace(" ", "+"))
    except ValueError:
        return None  # a page shows the newest rather than an error
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


@blueprint.get("/runs/<run>")
@declared(_page("One run, live"))
def run(run: str) -> str:
    with transaction(installation().engine) as connection:
        run_id = run_id_of(connection, run)
        now = progress_of(connection, run_id)
        happened = last_events(connection, run_id, _EVENTS_SHOWN)
        files = artefacts.listed(connection, run_id)
    return render_template(
        "run.html",
        run=now.run,
        progress=now,
        events=happened,
        artefacts=files,
        caller=caller(),
    )


@blueprint.get("/runs/<run>/events")
@declared(Facts("read", "Follow a run in a browser", media_type="text/event-stream", accepts_cookie=True))
def run_events(run: str) -> Response:
    return event_stream(run)


@blueprint.get("/runs/<run>/plan")
@declared(Facts("read", "The plan of a run, to read", media_type="text/plain", accepts_cookie=True))
def plan(run: str) -> Response:
    with transaction(installation().engine) as connection:
        body = runs.restored_plan(connection, run_id_of(connection, run)).text
    return Response(body, mimetype="text/plain")


@blueprint.get("/runs/<run>/report")
@declared(_page("The report of a run"))
def report(run: str) -> Response:
    return report_page(run)


@blueprint.get("/runs/<run>/artefacts/<int:artefact_id>")
@declared(Facts("read", "Download a file of a run", media_type="application/octet-stream", accepts_cookie=True))
def artefact(run: str, artefact_id: int) -> Response:
    return results.artefact(run, artefact_id)


@blueprint.post("/runs/<run>/cancel")
@declared(Facts("run", "Cancel a run from its page", media_type="text/html", accepts_cookie=True))
def cancel(run: str) -> AnyResponse:
    check_form()
    with transaction(installation().engine) as connection:
        row = runs.request_cancel(connection, run_id_of(connection, run), caller().name)
    return redirect(f"/runs/{row.id}", 303)


@blueprint.get("/login")
@declared(Facts("open", "Log in with a token", media_type="text/html"))
def login() -> str:
    return render_template("login.html", next=_own_path(request.args.get("next")))


@blueprint.post("/login")
@declared(Facts("open", "Log in with a token", media_type="text/html"))
def log_in() -> AnyResponse:
    check_form()
    secret = request.form.get("token", "").strip()
    if known_by_secret(installation(), secret) is None:
        raise Unauthorized("this token is not known or was revoked; make one with: meshgauge token create NAME")
    session.clear()  # no session of before the log-in lives on
    session[SESSION_TOKEN] = tokens.sha256_of(secret)
    return redirect(_own_path(request.form.get("next")), 303)


@blueprint.post("/logout")
@declared(Facts("open", "Log out", media_type="text/html"))
def log_out() -> AnyResponse:
    check_form()
    session.clear()
    return redirect("/login", 303)


def _own_path(text: str | None) -> str:
    """Return where to go after the log-in: a path of ours, never another site."""
    parts = urlsplit(text or "/")
    harmless = not parts.scheme and not parts.netloc and parts.path.startswith("/") and "\\" not in parts.path
    return (text or "/") if harmless and not parts.path.startswith("//") else "/"
