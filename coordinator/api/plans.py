"""``/api/v1/plans``: the dry run of a plan, and the schema its fields are checked against."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from coordinator.plan_check import PlanCheck, check_plan
from coordinator.web.callers import may_run_programs
from coordinator.web.facts import Facts, declared
from coordinator.web.guards import plan_text
from coordinator.web.installation import installation
from meshgauge.plan import Plan

blueprint = Blueprint("plans", __name__, url_prefix="/api/v1/plans")


@blueprint.post("/validate")
@declared(Facts("read", "Say what a plan would do: cells, order, time, warnings", PlanCheck, takes_plan=True))
def validate() -> Response:
    installed = installation()
    resolved = installed.planner.resolve(plan_text(), may_run_programs=may_run_programs(installed.settings))
    return jsonify(check_plan(resolved, installed.settings, installed.cores).to_json())


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan, for editors."""
    schema = Plan.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Meshgauge plan"}


@blueprint.get("/schema")
@declared(Facts("open", "The JSON Schema of a plan", dict[str, Any], media_type="application/schema+json"))
def schema() -> Response:
    response = jsonify(plan_schema())
    response.mimetype = "application/schema+json"
    return response
