"""Channels over HTTP: made, listed without their secrets, tested, removed; what became of notices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from coordinator.notices import tell
from coordinator.web.installation import Installation
from meshgauge.store import tokens
from meshgauge.store.database import transaction

SLACK = "https://127.0.0.1/services/T0/B0/a-secret"


@pytest.fixture
def client(installed: Installation, make_app: Callable[[Installation], Flask]) -> FlaskClient:
    """A client of an installation whose operator lets notices stay on this host, and has a mail server."""
    update = {
        "notify_networks": ("127.0.0.0/8",),
        "smtp_url": SecretStr("smtp://127.0.0.1:1"),
        "mail_from": "bench@example.org",
    }
    allowing = dataclasses.replace(installed, settings=installed.settings.model_copy(update=update))
    return make_app(allowing).test_client()


def add(client: FlaskClient, **changes: Any) -> Any:
    body = {"name": "ci", "kind": "webhook", "target": "https://127.0.0.1/hook", "events": ["gate_failed"], **changes}
    return client.post("/api/v1/channels", json=body)


def test_a_webhook_is_made_with_a_secret_that_is_shown_once(client: FlaskClient) -> None:
    made = add(client)
    assert made.status_code == 201
    secret = made.json["secret"]
    assert secret.startswith("mgwh_")
    listed = client.get("/api/v1/channels")
    assert listed.json == [made.json["channel"]]
    assert secret not in listed.text
    assert made.json["channel"]["events"] == ["gate_failed"]


def test_the_path_of_an_address_is_a_secret_too(client: FlaskClient) -> None:
    made = add(client, name="team", kind="slack", target=SLACK)
    assert made.json["secret"] is None
    for text in (made.text, client.get("/api/v1/channels").text):
        assert "a-secret" not in text
        assert "https://127.0.0.1/..." in text


def test_a_mailbox_is_shown_as_it_is(client: FlaskClient) -> None:
    assert add(client, kind="email", target="me@example.org").json["channel"]["target"] == "me@example.org"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "Not A Name"}, "name"),
        ({"kind": "pager"}, "kind"),
        ({"events": []}, "events"),
        ({"events": ["everything"]}, "events.0"),
        ({"target": "https://10.0.0.1/x"}, "not on the public internet"),
        ({"target": "https://169.254.169.254/latest/meta-data"}, "not on the public internet"),
        ({"target": "https://[::1]/x"}, "not on the public internet"),
        ({"target": "file:///etc/passwd"}, "https://HOST/PATH"),
        ({"kind": "email", "target": "a@b\r\nBcc: c@d"}, "e-mail address"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_cannot_be_used_is_refused_and_named(client: FlaskClient, changes: dict[str, Any], named: str) -> None:
    refused = add(client, **changes)
    assert refused.status_code == 400
    assert refused.json["type"] == "/problems/invalid-request"
    assert named in refused.json["detail"]
    assert client.get("/api/v1/channels").json == []


def test_mail_without_a_mail_server_is_refused(installed: Installation, make_app: Callable[..., Flask]) -> None:
    refused = add(make_app(installed).test_client(), kind="email", target="me@example.org")
    assert refused.status_code == 400
    assert "MESHGAUGE_SMTP_URL" in refused.json["detail"]


def test_a_form_is_not_taken_for_json(client: FlaskClient) -> None:
    assert client.post("/api/v1/channels", data={"name": "ci"}).status_code == 415


def test_the_same_name_twice_is_a_conflict(client: FlaskClient) -> None:
    add(client)
    assert add(client).status_code == 409


def test_a_test_says_what_came_back(client: FlaskClient, hook: str) -> None:
    add(client, target=hook)
    assert client.post("/api/v1/channels/ci/test").json == {"sent": True, "said": "HTTP 204 No Content"}
    add(client, name="dead", target="http://127.0.0.1:1/")
    dead = client.post("/api/v1/channels/dead/test").json
    assert dead["sent"] is False  # type: ignore[index]
    assert "Connection refused" in dead["said"]  # type: ignore[index]
    log = client.get("/api/v1/notices").json
    assert [(row["channel"], row["event"], row["state"]) for row in log] == [  # type: ignore[union-attr]
        ("dead", "test", "failed"),
        ("ci", "test", "sent"),
    ]


def test_the_log_shows_what_waits_without_where_it_goes(client: FlaskClient, installed: Installation) -> None:
    add(client, target="https://127.0.0.1/hook/hidden-path")
    add(client, name="other")
    with transaction(installed.engine) as connection:
        tell(connection, "gate_failed", "gate 1", {"subject": "x", "answer": "p99 is too high."})
    one = client.get("/api/v1/notices?channel=ci&limit=1")
    assert [(row["channel"], row["state"], row["attempts"]) for row in one.json] == [("ci", "pending", 0)]  # type: ignore[union-attr]
    assert "hidden-path" not in one.text
    assert len(client.get("/api/v1/notices").json) == 2  # type: ignore[arg-type]
    assert client.get("/api/v1/notices?channel=nobody").status_code == 404
    assert client.get("/api/v1/notices?limit=0").status_code == 400
    assert client.get("/api/v1/notices?limit=many").status_code == 400


def test_a_removed_channel_is_gone(client: FlaskClient) -> None:
    add(client)
    assert client.delete("/api/v1/channels/ci").status_code == 204
    assert client.delete("/api/v1/channels/ci").status_code == 404
    assert client.post("/api/v1/channels/ci/test").status_code == 404


def test_only_admins_say_where_notices_go(client: FlaskClient, installed: Installation) -> None:
    with transaction(installed.engine) as connection:
        secrets = {role: tokens.create(connection, f"t-{role}", role) for role in ("read", "run", "admin")}
    as_role = {role: {"Authorization": f"Bearer {secret}"} for role, secret in secrets.items()}
    body = {"name": "ci", "kind": "webhook", "target": "https://127.0.0.1/", "events": ["gate_failed"]}
    statuses = {
        role: client.post("/api/v1/channels", json=body, headers=headers).status_code
        for role, headers in as_role.items()
    }
    assert statuses == {"read": 403, "run": 403, "admin": 201}
    assert client.get("/api/v1/channels", headers=as_role["read"]).status_code == 403
    assert client.get("/api/v1/notices", headers=as_role["run"]).status_code == 200
    assert client.post("/api/v1/channels/ci/test", headers=as_role["run"]).status_code == 403
    assert client.delete("/api/v1/channels/ci", headers=as_role["run"]).status_code == 403


def test_the_body_is_described(client: FlaskClient) -> None:
    document = client.get("/api/v1/openapi.json").json
    taken = document["paths"]["/api/v1/channels"]["post"]["requestBody"]["content"]["application/json"]["schema"]  # type: ignore[index]
    assert taken == {"$ref": "#/components/schemas/ChannelDraft"}
    assert set(document["components"]["schemas"]["ChannelDraft"]["required"]) == {"name", "kind", "target", "events"}  # type: ignore[index]
