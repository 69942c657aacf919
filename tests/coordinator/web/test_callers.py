"""Who is let in where: every role against every kind of view, on loopback and beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from coordinator.web.callers import is_loopback
from coordinator.web.installation import Installation
from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store import tokens
from meshgauge.store.database import transaction

COMMANDS = "commands: [{version: '1', command: [sh, -c, id]}]"


@pytest.fixture
def token(engine: sa.Engine) -> Callable[[str], dict[str, str]]:
    """Return a function that makes a token of a role and gives the header to send."""

    def make(role: str) -> dict[str, str]:
        with transaction(engine) as connection:
            return {"Authorization": f"Bearer {tokens.create(connection, f'a-{role}', role)}"}  # type: ignore[arg-type]

    return make


def asked(client: FlaskClient, what: str, plan: str, headers: dict[str, str]) -> int:
    kwargs: dict[str, Any] = {"headers": headers}
    if what == "list":
        return client.get("/api/v1/runs", **kwargs).status_code
    if what == "page":
        return client.get("/", **kwargs).status_code
    if what == "metrics":
        return client.get("/metrics", **kwargs).status_code
    if what == "release":
        return client.post("/api/v1/sites/local/release", **kwargs).status_code
    if what == "health":
        return client.get("/healthz", **kwargs).status_code
    return client.post("/api/v1/runs", data=plan, content_type="application/yaml", **kwargs).status_code


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("read", {"health": 200, "list": 200, "page": 200, "metrics": 200, "submit": 403, "release": 403}),
        ("run", {"health": 200, "list": 200, "page": 200, "metrics": 200, "submit": 201, "release": 403}),
        ("admin", {"health": 200, "list": 200, "page": 200, "metrics": 200, "submit": 201, "release": 404}),
    ],
)
def test_a_role_may_what_its_name_says(
    remote_client: FlaskClient,
    token: Callable[[str], dict[str, str]],
    plan_text: str,
    role: str,
    expected: dict[str, int],
) -> None:
    headers = token(role)
    assert {what: asked(remote_client, what, plan_text, headers) for what in expected} == expected


def test_beyond_loopback_nobody_does_anything_without_a_token(remote_client: FlaskClient, plan_text: str) -> None:
    for what, status in {"health": 200, "list": 401, "metrics": 401, "submit": 401, "release": 401}.items():
        assert asked(remote_client, what, plan_text, {}) == status, what


def test_on_loopback_without_tokens_everybody_here_may_do_everything(client: FlaskClient, plan_text: str) -> None:
    for what, status in {"list": 200, "page": 200, "submit": 201}.items():
        assert asked(client, what, plan_text, {}) == status, what


def test_with_the_first_token_loopback_asks_for_one_too(
    client: FlaskClient, token: Callable[[str], dict[str, str]], plan_text: str
) -> None:
    headers = token("run")
    assert asked(client, "submit", plan_text, {}) == 401
    assert asked(client, "submit", plan_text, headers) == 201


def test_the_owner_of_the_data_directory_is_always_let_in(remote_client: FlaskClient, plan_text: str) -> None:
    assert asked(remote_client, "submit", plan_text, {"Authorization": "Bearer operator-secret"}) == 201


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer", "Basic b3BlcmF0b3I6eA==", "operator-secret", "Bearer \x7f"]
)
def test_a_wrong_token_is_refused_even_where_none_is_needed(client: FlaskClient, header: str) -> None:
    response = client.get("/api/v1/runs", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_revoked_token_ends_at_once(
    remote_client: FlaskClient, token: Callable[[str], dict[str, str]], engine: sa.Engine, plan_text: str
) -> None:
    headers = token("read")
    assert asked(remote_client, "list", plan_text, headers) == 200
    with transaction(engine) as connection:
        tokens.revoke(connection, "a-read")
    assert asked(remote_client, "list", plan_text, headers) == 401


def test_plans_that_run_programs_need_an_admin(
    remote_client: FlaskClient, token: Callable[[str], dict[str, str]], plan_text: str
) -> None:
    plan = plan_text.replace("app: fixed-reply, reply_bytes: 1024", COMMANDS)
    assert asked(remote_client, "submit", plan, token("run")) == 422
    assert asked(remote_client, "submit", plan, token("admin")) == 201


def test_secrets_are_stored_as_hashes_only(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        secret = tokens.create(connection, "ci", "run")
        row = connection.execute(sa.text("SELECT * FROM api_token")).one()
    assert secret not in map(str, row)
    assert row.sha256 == tokens.sha256_of(secret)


def test_a_tokens_name_is_used_once_and_has_a_form(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        tokens.create(connection, "ci", "run")
    with pytest.raises(ConflictError, match="already"), transaction(engine) as connection:
        tokens.create(connection, "ci", "read")
    with pytest.raises(ConflictError, match="cannot be"), transaction(engine) as connection:
        tokens.create(connection, "Not A Name", "read")
    with pytest.raises(UnknownNameError, match="'root'"), transaction(engine) as connection:
        tokens.create(connection, "x", "root")  # type: ignore[arg-type]


def test_an_idempotency_key_belongs_to_its_submitter(
    remote_client: FlaskClient, token: Callable[[str], dict[str, str]], plan_text: str
) -> None:
    ids = set()
    for role in ("run", "admin"):
        headers = {**token(role), "Idempotency-Key": "same"}
        response = remote_client.post("/api/v1/runs", data=plan_text, content_type="text/yaml", headers=headers)
        ids.add(response.json["id"])  # type: ignore[index]
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.1", False), ("localhost.example.com", False)],
)  # fmt: skip
def test_loopback_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def log_in(client: FlaskClient, secret: str, **more: str) -> Any:
    page = client.get("/login").text
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    return client.post("/login", data={"csrf": csrf, "token": secret, **more})


def test_a_browser_without_session_is_sent_to_log_in(remote_client: FlaskClient) -> None:
    response = remote_client.get("/runs/abcdef?x=1")
    assert response.status_code == 302
    assert response.headers["Location"] == "/login?next=/runs/abcdef%3Fx%3D1"


def test_a_browser_logs_in_with_a_token_and_out_again(
    remote_client: FlaskClient, token: Callable[[str], dict[str, str]]
) -> None:
    secret = token("read")["Authorization"].removeprefix("Bearer ")
    response = log_in(remote_client, secret, next="/runs/x")
    assert (response.status_code, response.headers["Location"]) == (303, "/runs/x")
    page = remote_client.get("/")
    assert page.status_code == 200
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    remote_client.post("/logout", data={"csrf": csrf})
    assert remote_client.get("/").status_code == 302


def test_the_api_takes_no_cookie_for_a_token(
    remote_client: FlaskClient, token: Callable[[str], dict[str, str]], plan_text: str
) -> None:
    log_in(remote_client, token("admin")["Authorization"].removeprefix("Bearer "))
    assert remote_client.get("/").status_code == 200
    assert asked(remote_client, "submit", plan_text, {}) == 401


def test_a_wrong_token_does_not_log_in(remote_client: FlaskClient) -> None:
    assert log_in(remote_client, "wrong").status_code == 401
    assert remote_client.get("/").status_code == 302


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x"])
def test_the_log_in_leads_to_no_other_site(
    remote_client: FlaskClient, token: Callable[[str], dict[str, str]], target: str
) -> None:
    secret = token("read")["Authorization"].removeprefix("Bearer ")
    assert log_in(remote_client, secret, next=target).headers["Location"] == "/"


def test_every_view_says_who_may_call_it(installed: Installation, make_app: Callable[[Installation], Any]) -> None:
    app = make_app(installed)
    open_views = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if getattr(app.view_functions[rule.endpoint], "meshgauge_facts", None) is not None
        and app.view_functions[rule.endpoint].meshgauge_facts.access == "open"
    }
    assert open_views == {
        "exchange.schema", "health.healthz", "health.readyz", "openapi.openapi", "plans.schema",
        "pages.login", "pages.log_in", "pages.log_out",
    }  # fmt: skip
