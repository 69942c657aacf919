"""Schedules over HTTP: added, listed, paused, resumed, removed."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

CRON = "30 2 * * *"


def add(client: FlaskClient, text: str, **query: str) -> Any:
    return client.post("/api/v1/schedules", data=text, content_type="application/yaml", query_string=query)


def test_a_plan_with_times_becomes_a_schedule(client: FlaskClient, plan_text: str) -> None:
    text = plan_text + f'schedule: {{cron: "{CRON}", time_zone: Europe/Berlin}}\n'
    response = add(client, text)
    assert response.status_code == 201
    assert response.json["name"] == "first"
    assert response.json["time_zone"] == "Europe/Berlin"
    assert response.json["next_fire_at"]
    assert client.get("/api/v1/schedules").json == [response.json]
    assert client.get("/api/v1/schedules/first").json == response.json


def test_times_of_the_request_replace_those_of_the_plan(client: FlaskClient, plan_text: str) -> None:
    text = plan_text + 'schedule: {cron: "0 0 * * *"}\n'
    made = add(client, text, name="nightly", cron=CRON, time_zone="Europe/Paris").json
    assert (made["name"], made["cron"], made["time_zone"]) == ("nightly", CRON, "Europe/Paris")


def test_a_schedule_is_paused_resumed_and_removed(client: FlaskClient, plan_text: str) -> None:
    add(client, plan_text, cron=CRON)
    assert client.post("/api/v1/schedules/first/pause").json["next_fire_at"] is None  # type: ignore[index]
    assert client.post("/api/v1/schedules/first/resume").json["next_fire_at"]  # type: ignore[index]
    assert client.delete("/api/v1/schedules/first").status_code == 204
    assert client.get("/api/v1/schedules").json == []


@pytest.mark.parametrize("method_and_path", ["GET x", "POST x/pause", "POST x/resume", "DELETE x"])
def test_an_unknown_schedule_is_404(client: FlaskClient, plan_text: str, method_and_path: str) -> None:
    add(client, plan_text, cron=CRON, name="nightly")
    method, path = method_and_path.split()
    response = client.open(f"/api/v1/schedules/{path}", method=method)
    assert response.status_code == 404
    assert "nightly" in response.json["detail"]  # type: ignore[index]


def test_the_same_name_twice_is_a_conflict(client: FlaskClient, plan_text: str) -> None:
    add(client, plan_text, cron=CRON)
    assert add(client, plan_text, cron=CRON).status_code == 409


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({}, "schedule"),
        ({"cron": "* * *"}, "schedule.cron"),
        ({"cron": CRON, "time_zone": "Mars/Base"}, "schedule.time_zone"),
        ({"cron": CRON, "name": "Not A Name"}, "name"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(
    client: FlaskClient, plan_text: str, query: dict[str, str], path: str
) -> None:
    response = add(client, plan_text, **query)
    assert response.status_code == 422
    assert response.json["errors"][0]["path"] == path
    assert client.get("/api/v1/schedules").json == []


def test_a_plan_that_cannot_run_becomes_no_schedule(client: FlaskClient, plan_text: str) -> None:
    assert add(client, plan_text.replace("envoy", "envoi"), cron=CRON).status_code == 422
