"""``/api/v1/openapi.json``: made from the views' own declarations and the types that validate and serialise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from coordinator.api.answers import adapter_of
from coordinator.web.facts import Facts, declared, facts_of
from coordinator.web.guards import PLAN_MEDIA_TYPES
from coordinator.web.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE
from meshgauge.plan import Plan
from meshgauge.revision import own_version
from meshgauge.smp.messages import SmpFile

PREFIX = "/api/v1"
_REF = "#/components/schemas/{model}"
_PLANS: tuple[type[BaseModel], ...] = (Plan, SmpFile)  # what is taken for a plan
_ARGUMENT = re.compile(r"<(?:(\w+):)?(\w+)>")

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "one sentence: what was wrong, where, what to do"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

blueprint = Blueprint("openapi", __name__, url_prefix=PREFIX)


@blueprint.get("/openapi.json")
@declared(Facts("open", "This document", dict[str, Any]))
def openapi() -> Response:
    return jsonify(document(current_app))


def document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of every view under PREFIX, and of the health views."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM_SCHEMA}
    _, plan = models_json_schema([(model, "validation") for model in _PLANS], ref_template=_REF)
    schemas |= plan["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for rule, facts in _described(app):
        path = _ARGUMENT.sub(r"{\2}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(rule, facts, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Meshgauge",
            "version": own_version(),
            "description": "Benchmarks service meshes: submit a plan, follow its run, read the verdicts.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(app: Flask) -> Iterator[tuple[Rule, Facts]]:
    for rule in app.url_map.iter_rules():
        facts = facts_of(app.view_functions[rule.endpoint])
        if facts is not None and (rule.rule.startswith(PREFIX) or rule.endpoint.startswith("health.")):
            yield rule, facts


def _operation(rule: Rule, facts: Facts, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": facts.summary,
        "description": f"Access: {facts.access}.",
        "parameters": _parameters(rule, facts),
        "responses": {
            str(facts.status): _good_answer(facts, schemas),
            "default": {
                "description": "what went wrong",
                "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
            },
        },
        "security": [] if facts.access == "open" else [{"token": []}, {}],
    }
    if facts.takes_plan:
        plan = {"schema": {"anyOf": [{"$ref": _REF.format(model=model.__name__)} for model in _PLANS]}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(PLAN_MEDIA_TYPES, plan)}
    if facts.takes is not None:
        schema = facts.takes.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[facts.takes.__name__] = schema
        body = {"schema": {"$ref": _REF.format(model=facts.takes.__name__)}}
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    return operation


def _parameters(rule: Rule, facts: Facts) -> list[dict[str, Any]]:
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if converter == "int" else "string"},
        }
        for converter, name in _ARGUMENT.findall(rule.rule)
    ]
    others = [
        {
            "name": parameter.name,
            "in": "header" if parameter.header else "query",
            "required": False,
            "description": parameter.summary,
            "schema": parameter.schema,
        }
        for parameter in facts.parameters
    ]
    return in_path + others


def _good_answer(facts: Facts, schemas: dict[str, Any]) -> dict[str, Any]:
    if not facts.media_type:
        return {"description": facts.summary}
    schema: dict[str, Any] = {"type": "string"}
    if facts.answers is not None:
        schema = adapter_of(facts.answers).json_schema(ref_template=_REF, mode="serialization")
        schemas.update(schema.pop("$defs", {}))
    return {"description": facts.summary, "content": {facts.media_type: {"schema": schema}}}
