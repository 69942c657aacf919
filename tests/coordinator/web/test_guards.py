"""What is refused before a view sees it, and the headers on every answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

YAML = "application/yaml"


def test_a_plan_that_is_too_large_is_413(client: FlaskClient) -> None:
    response = client.post("/api/v1/runs", data="x" * 300_000, content_type=YAML)
    assert response.status_code == 413
    assert response.mimetype == "application/problem+json"


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""])
def test_a_plan_of_another_type_is_415(client: FlaskClient, plan_text: str, kind: str) -> None:
    assert client.post("/api/v1/runs", data=plan_text.encode(), content_type=kind).status_code == 415


def test_a_plan_that_is_not_text_is_400(client: FlaskClient) -> None:
    response = client.post("/api/v1/plans/validate", data=b"name: \xff", content_type=YAML)
    assert response.status_code == 400
    assert "UTF-8" in response.json["detail"]  # type: ignore[index]


def test_a_chunked_body_is_411(client: FlaskClient, plan_text: str) -> None:
    response = client.post("/api/v1/runs", data=plan_text, content_type=YAML, headers={"Transfer-Encoding": "chunked"})
    assert response.status_code == 411


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.7"])
def test_another_name_for_loopback_is_refused(client: FlaskClient, host: str) -> None:
    assert client.get("/api/v1/runs", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080"])
def test_names_of_loopback_are_answered(client: FlaskClient, host: str) -> None:
    assert client.get("/api/v1/runs", headers={"Host": host}).status_code == 200


FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_pages_of_other_sites_cannot_write(
    client: FlaskClient, submit: Callable[..., dict[str, Any]], headers: dict[str, str]
) -> None:
    run = submit()
    response = client.post(f"/api/v1/runs/{run['id']}/cancel", headers=headers)
    assert response.status_code == 403
    assert client.get(f"/api/v1/runs/{run['id']}").json["cancel_requested_at"] is None  # type: ignore[index]


def test_every_answer_carries_the_security_headers(client: FlaskClient) -> None:
    for path in ("/", "/api/v1/runs", "/healthz", "/nothing", "/static/style.css"):
        with client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in response.headers


def test_nothing_found_is_json_under_the_api_and_a_page_elsewhere(client: FlaskClient) -> None:
    assert client.get("/api/v1/nothing").mimetype == "application/problem+json"
    page = client.get("/nothing")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "there is nothing at /nothing" in page.text


def test_a_wrong_method_names_the_right_ones(client: FlaskClient) -> None:
    response = client.delete("/api/v1/runs")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


def test_a_fault_of_ours_is_500_without_its_details(
    client: FlaskClient, installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    object.__setattr__(installed, "adapter_rows", broken)
    response = client.get("/api/v1/adapters")
    assert response.status_code == 500
    assert "secret detail" not in response.text


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%5capp.py", "/static/%00"])
def test_files_outside_of_static_are_not_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code in (400, 404)
