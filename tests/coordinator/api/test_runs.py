"""Submitting, finding and cancelling runs over HTTP, against a real database."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

Submit = Callable[..., dict[str, Any]]


def test_a_submitted_plan_becomes_a_run_with_all_its_trials(submit: Submit, mailbox: Any) -> None:
    run = submit()
    assert run["state"] == "queued"
    assert run["trials"] == {"pending": 6}  # three arms, two blocks
    assert mailbox.sent == [("meshgauge.site.clean", "local")]  # a new site is dirty


def test_the_location_of_a_new_run_leads_to_it(client: FlaskClient, plan_text: str) -> None:
    response = client.post("/api/v1/runs", data=plan_text, content_type="application/yaml")
    assert response.status_code == 201
    assert client.get(response.headers["Location"]).json["id"] == response.json["id"]  # type: ignore[index]


def test_json_is_accepted_like_yaml(submit: Submit, client: FlaskClient) -> None:
    plan = {"name": "j", "meshes": ["none"], "workloads": {"name": "w", "app": "fixed-reply", "reply_bytes": 1},
            "loads": {"rate_rps": 10}, "blocks": 1}  # fmt: skip
    body = json.dumps(plan, indent="\t")
    response = client.post("/api/v1/runs", data=body, content_type="application/json")
    assert response.status_code == 201
    assert client.get(f"/api/v1/runs/{response.json['id']}/plan").text == body  # type: ignore[index]


def test_the_same_key_with_the_same_plan_gives_the_same_run(submit: Submit, client: FlaskClient) -> None:
    first, again = submit(**{"Idempotency-Key": "k"}), submit(**{"Idempotency-Key": "k"})
    assert first["id"] == again["id"]
    assert len(client.get("/api/v1/runs").json["runs"]) == 1  # type: ignore[index]


def test_a_repeat_with_a_key_needs_no_index_of_versions(submit: Submit, shelf: Any) -> None:
    first = submit(**{"Idempotency-Key": "k"})
    shelf.is_away = True
    assert submit(**{"Idempotency-Key": "k"})["id"] == first["id"]


def test_the_same_key_with_another_plan_is_a_conflict(submit: Submit, client: FlaskClient, plan_text: str) -> None:
    submit(**{"Idempotency-Key": "k"})
    response = client.post(
        "/api/v1/runs",
        data=plan_text.replace("blocks: 2", "blocks: 3"),
        content_type="application/yaml",
        headers={"Idempotency-Key": "k"},
    )
    assert response.status_code == 409
    assert response.mimetype == "application/problem+json"
    assert "another plan" in response.json["detail"]  # type: ignore[index]


def test_without_a_key_every_request_is_a_new_run(submit: Submit) -> None:
    assert submit()["id"] != submit()["id"]


def test_within_a_window_the_client_names_the_same_plan_is_the_same_run(client: FlaskClient, plan_text: str) -> None:
    answers = [
        client.post("/api/v1/runs?same_plan_within_s=60", data=plan_text, content_type="application/yaml")
        for _ in range(2)
    ]
    assert [response.status_code for response in answers] == [201, 200]
    assert answers[0].json["id"] == answers[1].json["id"]  # type: ignore[index]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, plan_text: str, key: str) -> None:
    response = client.post(
        "/api/v1/runs", data=plan_text, content_type="application/yaml", headers={"Idempotency-Key": key}
    )
    assert response.status_code == 400


def test_an_absent_broker_does_not_stop_a_submit(submit: Submit, mailbox: Any) -> None:
    mailbox.is_away = True
    assert submit()["state"] == "queued"


def test_an_absent_index_of_versions_is_503_and_stores_nothing(client: FlaskClient, plan_text: str, shelf: Any) -> None:
    shelf.is_away = True
    response = client.post("/api/v1/runs", data=plan_text, content_type="application/yaml")
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert client.get("/api/v1/runs").json["runs"] == []  # type: ignore[index]


def test_every_problem_of_a_plan_is_named_with_its_path(client: FlaskClient, plan_text: str) -> None:
    body = plan_text.replace("warm_up_s", "warmup_s").replace("reply_bytes: 1024", "reply_bytes: -1")
    response = client.post("/api/v1/runs", data=body, content_type="application/yaml")
    assert response.status_code == 422
    errors = {error["path"]: error["message"] for error in response.json["errors"]}  # type: ignore[index]
    assert "did you mean 'warm_up_s'?" in errors["loads[0].warmup_s"]
    assert "workloads[0].reply_bytes" in errors


def test_pages_of_runs_hang_together(submit: Submit, client: FlaskClient) -> None:
    ids = [submit()["id"] for _ in range(3)]
    first = client.get("/api/v1/runs?limit=2").json
    second = client.get(first["next"]).json  # type: ignore[index]
    assert [run["id"] for run in first["runs"] + second["runs"]] == ids[::-1]  # type: ignore[index]
    assert second["next"] is None  # type: ignore[index]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1000", "limit=nan", "before=yesterday"])
def test_wrong_parameters_are_named(client: FlaskClient, query: str) -> None:
    response = client.get(f"/api/v1/runs?{query}")
    assert response.status_code == 400
    assert query.partition("=")[0] in response.json["detail"]  # type: ignore[index]


def test_a_run_is_found_by_the_first_characters_of_its_id(submit: Submit, client: FlaskClient) -> None:
    run = submit()
    assert client.get(f"/api/v1/runs/{run['id'][:8]}").json["id"] == run["id"]  # type: ignore[index]


@pytest.mark.parametrize("name", ["nothing", "%25", "00000000", "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_run_is_404_in_the_api(client: FlaskClient, name: str) -> None:
    for part in ("", "/progress", "/events", "/summary", "/report", "/trials", "/artefacts", "/plan"):
        response = client.get(f"/api/v1/runs/{name}{part}")
        assert response.status_code == 404, part
        assert response.mimetype == "application/problem+json"


def test_cancelling_a_waiting_run_ends_it_at_once(submit: Submit, client: FlaskClient) -> None:
    run = submit()
    cancelled = client.post(f"/api/v1/runs/{run['id']}/cancel").json
    assert cancelled["cancel_requested_at"] is not None  # type: ignore[index]
    assert cancelled["trials"] == {"cancelled": 6}  # type: ignore[index]


def test_cancelling_twice_changes_nothing(submit: Submit, client: FlaskClient) -> None:
    run = submit()
    first = client.post(f"/api/v1/runs/{run['id']}/cancel").json
    assert first["cancel_requested_at"]  # type: ignore[index]
    second = client.post(f"/api/v1/runs/{run['id']}/cancel").json
    assert first == second


def test_a_waiting_run_goes_by_the_estimate_of_its_plan(submit: Submit, client: FlaskClient) -> None:
    run = submit()
    progress = client.get(f"/api/v1/runs/{run['id']}/progress").json
    assert progress["run"]["state"] == "queued"  # type: ignore[index]
    assert (progress["block"], progress["blocks"]) == (1, 2)  # type: ignore[index]
    assert (progress["done"], progress["total"]) == (0, 6)  # type: ignore[index]
    assert progress["time_left_s"] == run["estimate_s"]  # type: ignore[index]
    assert progress["now"] == []  # type: ignore[index]
