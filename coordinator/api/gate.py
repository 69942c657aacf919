"""``/api/v1/runs/<run>/gate``: a run held against its plan's thresholds, for programs, CI servers and pull requests."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any, Literal, cast

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest

from coordinator import confirming
from coordinator.api.answers import RunView, answer, run_view
from coordinator.api.results import known_run
from coordinator.web.callers import caller, may_run_programs
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.installation import installation
from meshgauge.store import runs
from meshgauge.store.database import transaction

if TYPE_CHECKING:
    from reports.thresholds.outcome import Outcome

blueprint = Blueprint("gate", __name__, url_prefix="/api/v1/runs/<run>")

_UNDECIDED = QueryParameter(
    "undecided",
    "What undecided checks count as: fail (errors, the default) or pass (skipped)",
    {"type": "string", "enum": ["fail", "pass"]},
)


@blueprint.get("/gate")
@declared(
    Facts("read", "How the run stands against its plan's thresholds: one answer, one row a check", dict[str, Any])
)
def gate(run: str) -> Response:
    run_id, outcome = _held(run)
    running = confirming.under_way(installation().engine, run_id)
    links = {"report": _report(run_id), "page": f"/runs/{run_id}"}
    return jsonify(outcome.to_json() | {"confirming_under_way": running and str(running), "links": links})


@blueprint.get("/gate.xml")
@declared(Facts("read", "The same as JUnit XML", media_type="application/xml", parameters=(_UNDECIDED,)))
def gate_xml(run: str) -> Response:
    from reports.thresholds.junit import junit_xml  # noqa: PLC0415

    undecided = request.args.get("undecided", "fail")
    if undecided not in ("fail", "pass"):
        raise BadRequest("undecided: write fail or pass")
    run_id, outcome = _held(run)
    text = junit_xml(outcome, cast(Literal["fail", "pass"], undecided), {"report": _report(run_id)})
    return Response(text, content_type="application/xml; charset=utf-8")


@blueprint.get("/gate.md")
@declared(Facts("read", "The same as Markdown for a pull request", media_type="text/markdown"))
def gate_markdown(run: str) -> Response:
    from reports.thresholds.markdown import markdown  # noqa: PLC0415

    run_id, outcome = _held(run)
    # Only an address that readers of a pull request can open is worth a link.
    link = _report(run_id) if installation().settings.public_url else None
    return Response(markdown(outcome, link), content_type="text/markdown; charset=utf-8")


@blueprint.post("/confirm")
@declared(Facts("run", "Repeat on fresh blocks what the run found beyond its thresholds", RunView, status=201))
def confirm(run: str) -> Response:
    installed = installation()
    asker = confirming.Asker(caller().name, may_run_programs(installed.settings))
    analysis_of = functools.partial(installed.reporting.analysis, installed.engine)
    accepted = confirming.confirm(
        installed.engine, installed.planner, installed.announce, analysis_of, known_run(run), asker
    )
    with transaction(installed.engine) as connection:
        view = run_view(runs.get(connection, accepted.run_id))
    return answer(RunView, view, 201 if accepted.is_new else 200, {"Location": view.links["self"]})


def _held(run: str) -> tuple[uuid.UUID, Outcome]:
    installed = installation()
    run_id = known_run(run)
    analysis_of = functools.partial(installed.reporting.analysis, installed.engine)
    return run_id, confirming.outcome_of(installed.engine, analysis_of, run_id)


def _report(run_id: uuid.UUID) -> str:
    """Return where the report is read: at the installation's public address where it has one."""
    base = installation().settings.public_url or request.host_url
    return f"{base.rstrip('/')}/runs/{run_id}/report"
