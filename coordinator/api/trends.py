"""``/api/v1/trends`` and ``/api/v1/steps``: nights of schedules, their steps, remarks and pinned baselines."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field

from coordinator.api.answers import answer, run_id_of
from coordinator.api.trend_views import (
    AnnotationView,
    StepView,
    TrendLine,
    TrendView,
    step_view,
    trend_line,
    trend_view,
)
from coordinator.web.callers import LOCAL, OPERATOR, caller
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.guards import body_of
from coordinator.web.installation import installation
from meshgauge.errors import ConflictError, InvalidRequestError
from meshgauge.store import schedules, series, steps
from meshgauge.store.database import transaction
from meshgauge.store.records import read_run

blueprint = Blueprint("trends", __name__, url_prefix="/api/v1")

_STATES = ("suspected", "confirmed", "not_reproduced", "acknowledged")
_STATE = QueryParameter("state", "Only steps in this state", {"type": "string", "enum": list(_STATES)})

Words = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]
Who = Annotated[str | None, Field(default=None, min_length=1, max_length=100, pattern=r"\S")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Acknowledgement(_Body):
    """Why a step is taken note of, and by whom. ``by`` counts where the caller has no token with a name of its own."""

    reason: Words
    by: Who


class Remark(_Body):
    """Something that happened. ``at``: on which night; by default now."""

    text: Words
    at: dt.datetime | None = None
    by: Who


class Pin(_Body):
    """The run to hold nights against: its id or the first characters of it."""

    run: Words
    reason: Words
    by: Who


def _name(given: str | None) -> str:
    """Return who acts: the token's name, or on this host what they say; else what the host calls them."""
    who = caller()
    return given.strip() if given and who in (LOCAL, OPERATOR) else who.name


@blueprint.get("/trends")
@declared(Facts("read", "List schedules with the answer of their nights", tuple[TrendLine, ...]))
def listed() -> Response:
    with transaction(installation().engine) as connection:
        found = [series.trend(connection, row.name) for row in schedules.listed(connection)]
    return answer(tuple[TrendLine, ...], tuple(map(trend_line, found)))


@blueprint.get("/trends/<schedule>")
@declared(Facts("read", "The nights of a schedule: series, steps, remarks, gaps and the pinned baseline", TrendView))
def show(schedule: str) -> Response:
    with transaction(installation().engine) as connection:
        found = series.trend(connection, schedule)
    return answer(TrendView, trend_view(found))


@blueprint.get("/steps")
@declared(Facts("read", "List steps of all schedules, newest first", tuple[StepView, ...], parameters=(_STATE,)))
def list_steps() -> Response:
    state = next((known for known in steps.STATES if known == request.args.get("state")), None)
    if state is None and "state" in request.args:
        raise InvalidRequestError(f"state: {request.args['state']!r} is none; one of {', '.join(_STATES)}")
    with transaction(installation().engine) as connection:
        found = steps.all_of(connection, state)
    return answer(tuple[StepView, ...], tuple(map(step_view, found)))


@blueprint.get("/steps/<int:step>")
@declared(Facts("read", "Show one step", StepView))
def show_step(step: int) -> Response:
    with transaction(installation().engine) as connection:
        return answer(StepView, step_view(steps.get(connection, step)))


@blueprint.post("/steps/<int:step>/acknowledge")
@declared(Facts("run", "Take note of a step, with a reason", StepView, takes=Acknowledgement))
def acknowledge(step: int) -> Response:
    body = body_of(Acknowledgement)
    with transaction(installation().engine) as connection:
        done = steps.acknowledge(connection, step, body.reason.strip(), _name(body.by))
    return answer(StepView, step_view(done))


@blueprint.post("/steps/<int:step>/confirm")
@declared(Facts("run", "Measure a step again on fresh blocks", StepView, status=202))
def confirm(step: int) -> Response:
    from coordinator import tracking  # noqa: PLC0415 - statistics take a second to import

    here = installation()
    done = tracking.confirm_again(here.engine, here.planner, here.announce, step)
    return answer(StepView, step_view(done), 202)


@blueprint.post("/trends/<schedule>/annotations")
@declared(Facts("run", "Note what happened on a night", AnnotationView, status=201, takes=Remark))
def annotate(schedule: str) -> Response:
    body = body_of(Remark)
    at = body.at if body.at is None or body.at.tzinfo else body.at.replace(tzinfo=dt.UTC)
    with transaction(installation().engine) as connection:
        made = series.annotate(connection, schedule, at, body.text.strip(), _name(body.by))
    return answer(AnnotationView, AnnotationView(made.id, made.at, made.text, made.made_by), 201)


@blueprint.delete("/trends/<schedule>/annotations/<int:annotation>")
@declared(Facts("run", "Take a remark back", status=204, media_type=""))
def remove_annotation(schedule: str, annotation: int) -> Response:
    with transaction(installation().engine) as connection:
        series.remove_annotation(connection, schedule, annotation)
    return Response(status=204)


@blueprint.post("/trends/<schedule>/baseline")
@declared(Facts("run", "Hold the nights of a schedule against this run", TrendView, takes=Pin))
def pin(schedule: str) -> Response:
    from reports.nightly.nights import night_points  # noqa: PLC0415 - statistics take a second to import

    body, engine = body_of(Pin), installation().engine
    with transaction(engine) as connection:
        schedules.get(connection, schedule)  # before a run is read in vain
        record = read_run(connection, run_id_of(connection, body.run))
    if record.finished_at is None:
        raise ConflictError(f"run {record.run_id} is not over; pin it when it is")
    points = night_points(record, record.created_at)
    if all(point.value is None for point in points):
        raise ConflictError(
            f"run {record.run_id} has no valid comparison with its baseline: nothing can be held against it"
        )
    with transaction(engine) as connection:
        run_id = run_id_of(connection, record.run_id)
        series.pin(connection, schedule, run_id, body.reason.strip(), _name(body.by), points)
        found = series.trend(connection, schedule)
    return answer(TrendView, trend_view(found))


@blueprint.delete("/trends/<schedule>/baseline")
@declared(Facts("run", "Hold the nights of a schedule against no run", status=204, media_type=""))
def unpin(schedule: str) -> Response:
    with transaction(installation().engine) as connection:
        series.unpin(connection, schedule)
    return Response(status=204)
