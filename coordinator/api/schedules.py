"""``/api/v1/schedules``: plans that fire by themselves."""

from __future__ import annotations

from flask import Blueprint, Response, request

from coordinator import schedules as planned
from coordinator.api.answers import ScheduleView, answer, schedule_view
from coordinator.planner import read_plan
from coordinator.web.callers import caller, may_run_programs, refuse_foreign_clusters
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.guards import plan_text
from coordinator.web.installation import installation
from meshgauge.errors import InvalidPlanError, Problem
from meshgauge.fields import NAME_PATTERN
from meshgauge.store import schedules
from meshgauge.store.database import transaction

blueprint = Blueprint("schedules", __name__, url_prefix="/api/v1/schedules")

_PARAMETERS = (
    QueryParameter("name", "Name of the schedule; the plan's by default", {"type": "string", "pattern": NAME_PATTERN}),
    QueryParameter("cron", "Five cron fields, instead of the plan's", {"type": "string"}),
    QueryParameter("time_zone", "IANA name, instead of the plan's", {"type": "string"}),
)


@blueprint.post("")
@declared(Facts("run", "Let a plan fire by itself", ScheduleView, status=201, takes_plan=True, parameters=_PARAMETERS))
def add() -> Response:
    installed = installation()
    text = plan_text()
    refuse_foreign_clusters(installed.settings, read_plan(text).infrastructures)
    draft = planned.Draft(
        text=text,
        submitted_by=caller().name,
        name=_name(),
        cron=request.args.get("cron"),
        time_zone=request.args.get("time_zone"),
        may_run_programs=may_run_programs(installed.settings),
    )
    row = planned.add(installed.engine, installed.planner, draft)
    with transaction(installed.engine) as connection:
        view = schedule_view(connection, row)
    return answer(ScheduleView, view, 201)


def _name() -> str | None:
    name = request.args.get("name")
    if name is not None and not planned.is_name(name):
        message = f"{name!r} cannot be a name; use lower-case letters, digits and . _ + -"
        raise InvalidPlanError([Problem("name", message)])
    return name


@blueprint.get("")
@declared(Facts("read", "List schedules with their next time and last fires", tuple[ScheduleView, ...]))
def listed() -> Response:
    with transaction(installation().engine) as connection:
        views = tuple(schedule_view(connection, row) for row in schedules.listed(connection))
    return answer(tuple[ScheduleView, ...], views)


@blueprint.get("/<name>")
@declared(Facts("read", "Show one schedule", ScheduleView))
def show(name: str) -> Response:
    with transaction(installation().engine) as connection:
        view = schedule_view(connection, schedules.get(connection, name))
    return answer(ScheduleView, view)


@blueprint.post("/<name>/pause")
@declared(Facts("run", "Let no further run start", ScheduleView))
def pause(name: str) -> Response:
    return _set_paused(name, paused=True)


@blueprint.post("/<name>/resume")
@declared(Facts("run", "Let it fire again, from now on", ScheduleView))
def resume(name: str) -> Response:
    return _set_paused(name, paused=False)


def _set_paused(name: str, *, paused: bool) -> Response:
    with transaction(installation().engine) as connection:
        view = schedule_view(connection, schedules.set_paused(connection, name, paused=paused))
    return answer(ScheduleView, view)


@blueprint.delete("/<name>")
@declared(Facts("run", "Remove a schedule; its runs stay", status=204, media_type=""))
def remove(name: str) -> Response:
    with transaction(installation().engine) as connection:
        schedules.remove(connection, name)
    return Response(status=204)
