"""An SMP test configuration wherever a plan goes: planner, plan check, API; faults named by its own fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from coordinator.planner import Planner, notes_on, read_plan
from meshgauge.errors import InvalidPlanError

SMP = """\
test:
  name: load
  clients:
    - {load_generator: fortio, protocol: 1, connections: 8, rps: 1000, endpoint_urls: ['http://shop.example/']}
  duration: 60s
mesh: {type: ISTIO}
"""


def test_it_is_resolved_like_a_plan_and_kept_verbatim(planner: Planner) -> None:
    resolved = planner.resolve(SMP, may_run_programs=False)
    assert resolved.text == SMP
    assert [arm.label for arm in resolved.arms] == ["none", "envoy-1.40.0"]
    assert resolved.matrix.cells[0].load.rate_rps == 1000


def test_a_dry_run_carries_every_note(client: FlaskClient) -> None:
    for text, media_type in ((SMP, "application/yaml"), (json.dumps(_json()), "application/json")):
        found: Any = client.post("/api/v1/plans/validate", data=text, content_type=media_type).json
        notes = [f"SMP test configuration: {note}" for note in notes_on(text)]
        assert len(notes) >= 4
        assert found["warnings"][: len(notes)] == notes


def _json() -> dict[str, Any]:
    return {
        "test": {
            "name": "load",
            "clients": [{"loadGenerator": "fortio", "rps": "1000", "connections": 8, "endpointUrls": ["http://a.example"]}],
            "duration": "60s",
        },
        "mesh": {"type": 3},
    }  # fmt: skip


def test_it_is_submitted_like_a_plan(client: FlaskClient) -> None:
    made = client.post("/api/v1/runs", data=SMP, content_type="application/yaml")
    assert made.status_code == 201, made.text
    assert made.json["name"] == "load"  # type: ignore[index]
    assert client.get(f"/api/v1/runs/{made.json['id']}/plan").text == SMP  # type: ignore[index]


def test_limits_of_the_plan_name_the_field_they_came_from() -> None:
    text = (
        SMP.replace("rps: 1000", "rps: 9000000")
        .replace("60s", "100000h")
        .replace("connections: 8", "connections: 70000")
    )
    with pytest.raises(InvalidPlanError) as refused:
        read_plan(text)
    paths = {problem.path for problem in refused.value.problems}
    assert paths == {"test.clients[0].rps", "test.clients[0].connections", "test.duration"}
    with pytest.raises(InvalidPlanError) as refused:
        read_plan(SMP.replace("rps: 1000", "rps: 10, headers: {Host: x}"))
    assert refused.value.problems[0].path == "test.clients[0].headers"


def test_secrets_are_refused_here_too() -> None:
    with pytest.raises(InvalidPlanError, match="looks like a secret"):
        read_plan(SMP.replace("rps: 1000", "rps: 1000, cookies: {session_token: abc}"))


def test_a_plan_has_no_notes(plan_text: str) -> None:
    assert notes_on(plan_text) == ()
