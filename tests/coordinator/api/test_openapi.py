"""The OpenAPI document: every view is in it, and answers are what it says they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from coordinator.web.installation import Installation


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    response = client.get("/api/v1/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json  # type: ignore[assignment]
    return found


def test_every_view_of_the_api_is_described(
    document: dict[str, Any], installed: Installation, make_app: Callable[[Installation], Any]
) -> None:
    paths = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in make_app(installed).url_map.iter_rules()
        if rule.rule.startswith("/api/")
    }
    assert paths <= set(document["paths"])
    assert {"/healthz", "/readyz", "/metrics"} <= set(document["paths"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    assert "Plan" in names


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_answers_have_the_fields_the_document_names(
    client: FlaskClient, document: dict[str, Any], submit: Callable[..., dict[str, Any]], plan_text: str
) -> None:
    run = submit()
    check = client.post("/api/v1/plans/validate", data=plan_text, content_type="application/yaml").json
    progress = client.get(f"/api/v1/runs/{run['id']}/progress").json
    for name, answer in (("RunView", run), ("PlanCheck", check), ("Progress", progress)):
        schema = document["components"]["schemas"].get(name)
        if schema is None:  # the answer itself, not a part of another
            schema = next(
                operation["responses"][status]["content"]["application/json"]["schema"]
                for path in document["paths"].values()
                for operation in path.values()
                for status in operation["responses"]
                if operation["responses"][status]
                .get("content", {})
                .get("application/json", {})
                .get("schema", {})
                .get("title")
                == name
            )
        assert set(schema["required"]) == set(schema["properties"])
        assert set(answer) == set(schema["properties"]), name  # type: ignore[arg-type]


def test_the_schema_of_a_plan_fits_editors(client: FlaskClient) -> None:
    schema = client.get("/api/v1/plans/schema").json
    assert schema["$schema"].startswith("https://json-schema.org/")  # type: ignore[index]
    assert schema["additionalProperties"] is False  # type: ignore[index]
    assert {"name", "meshes", "workloads", "loads"} <= set(schema["required"])  # type: ignore[index]


def test_the_dry_run_answers_over_http(client: FlaskClient, plan_text: str) -> None:
    check = client.post("/api/v1/plans/validate", data=plan_text, content_type="application/yaml").json
    assert len(check["cells"]) == 3  # type: ignore[index]
    assert any("2 cores" in warning for warning in check["warnings"])  # type: ignore[index]
    assert check["features"]["envoy-1.40.0/mtls/web/local"]["server"]["tls"] == "1.3"  # type: ignore[index]
    assert client.get("/api/v1/runs").json["runs"] == []  # type: ignore[index]
