"""The API of operations: accepted once, followed line by line, cancelled, and open to those the operator lets in."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from coordinator.web.installation import Installation
from meshgauge import queue
from meshgauge.operations import OperationClaim
from meshgauge.store import operations, schema, tokens
from meshgauge.store.database import transaction

URL = "/api/v1/operations"
CHECK = {"action": "conformance", "adapter": "envoy", "provider": "local"}

Post = Callable[..., Any]


@pytest.fixture
def claim(engine: sa.Engine) -> Callable[[], OperationClaim]:
    """A function that claims what is next on the local site, as a worker would."""

    def take() -> OperationClaim:
        with transaction(engine) as connection:
            connection.execute(sa.update(schema.site).values(state="free"))
            claim = operations.claim_next(connection, "local", "worker-1", 60.0)
        assert claim is not None
        return claim

    return take


def test_an_operation_is_accepted_announced_and_shown(
    client: FlaskClient, mailbox: Any, claim: Callable[[], OperationClaim], engine: sa.Engine
) -> None:
    made = client.post(URL, json=CHECK)
    assert made.status_code == 202, made.text
    view = made.json
    assert view is not None
    assert made.headers["Location"] == view["links"]["self"]
    assert (view["state"], view["site"], view["subject"]) == ("queued", "local", "conformance envoy latest")
    assert view["waits_for"] == "site local, which is being cleaned"
    assert mailbox.sent == [(queue.CLEAN, "local")]
    held = claim()
    with transaction(engine) as connection:
        operations.say(connection, held, [("phase", "plain"), ("line", "up")])
        operations.end(connection, held, "done", None, {"passed": 23})
    shown = client.get(view["links"]["self"]).json
    assert shown is not None
    assert (shown["operation"]["state"], shown["operation"]["result"]) == ("done", {"passed": 23})
    assert [line["kind"] for line in shown["lines"]] == ["submitted", "claimed", "phase", "line", "finished"]
    later = client.get(f"{URL}/{view['id'][:8]}?after={shown['lines'][3]['id']}").json
    assert later is not None
    assert [line["text"] for line in later["lines"]] == ["done"]
    assert later["more"] is False


def test_the_same_key_gives_the_same_operation(client: FlaskClient) -> None:
    first = client.post(URL, json=CHECK, headers={"Idempotency-Key": "k"})
    again = client.post(URL, json=CHECK, headers={"Idempotency-Key": "k"})
    other = client.post(URL, json={**CHECK, "version": "previous"}, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json["id"] == again.json["id"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"action": "install"}, 400, "name the mesh"),
        ({**CHECK, "colour": "red"}, 400, "colour"),
        ({**CHECK, "adapter": "envoi"}, 404, "Did you mean 'envoy'?"),
        ({"action": "install", "adapter": "istoi"}, 404, "Did you mean 'istio'?"),
        ({"action": "install", "adapter": "istio", "placement": "node"}, 422, "cannot do that"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_stored(
    client: FlaskClient, body: dict[str, Any], status: int, said: str
) -> None:
    refused = client.post(URL, json=body)
    assert refused.status_code == status, refused.text
    assert said in refused.json["detail"]  # type: ignore[index]
    assert client.get(URL).json == {"operations": [], "next": None}


def test_operations_are_listed_page_by_page(client: FlaskClient) -> None:
    ids = [client.post(URL, json=CHECK).json["id"] for _ in range(3)]  # type: ignore[index]
    page = client.get(f"{URL}?limit=2").json
    assert page is not None
    assert [item["id"] for item in page["operations"]] == ids[:0:-1]
    last = client.get(page["next"].replace("+", "%2B")).json
    assert last is not None
    assert [item["id"] for item in last["operations"]] == ids[:1]


def test_a_queued_operation_is_cancelled_at_once_and_cancelling_twice_changes_nothing(client: FlaskClient) -> None:
    view = client.post(URL, json=CHECK).json
    assert view is not None
    first, second = (client.post(view["links"]["cancel"]).json for _ in range(2))
    assert first is not None
    assert (first["state"], first["reason"]) == ("cancelled", "cancelled by local before it began")
    assert second == first


def test_what_is_left_open_is_as_it_was_installed(client: FlaskClient, engine: sa.Engine) -> None:
    cluster = {"context": "c", "charts": "/mirror"}
    asked = {"action": "install", "adapter": "istio", "profile": "mtls", "placement": "pair", "cluster": cluster}
    assert client.post(URL, json=asked).status_code == 202
    with transaction(engine) as connection:
        connection.execute(sa.update(schema.site).values(state="free"))
        held = operations.claim_next(connection, "kubernetes:c", "worker-1", 60.0)
        assert held is not None
        operations.end(connection, held, "done", None, {"version": "1.30.3"})
    made = client.post(URL, json={"action": "verify", "adapter": "istio", "cluster": {"context": "c"}}).json
    assert made is not None
    request = made["request"]
    assert (request["profile"]["name"], request["placement"], request["cluster"]["charts"]) == (
        "mtls", "pair", "/mirror",
    )  # fmt: skip
    other = client.post(URL, json={"action": "verify", "adapter": "istio", "cluster": {"context": "d"}}).json
    assert other is not None
    assert other["request"]["profile"] is None


def test_an_operation_nobody_knows_is_404(client: FlaskClient) -> None:
    assert client.get(f"{URL}/abcdef").status_code == 404
    assert client.get(f"{URL}/%25%25%25%25%25%25").status_code == 404


@pytest.mark.parametrize(
    ("role", "allowed", "context", "status"),
    [
        ("run", (), None, 403),
        ("run", (), "prod", 403),
        ("run", ("prod",), "staging", 403),
        ("run", ("prod",), "prod", 202),
        ("run", ("default",), None, 202),
        ("run", ("*",), "prod", 202),
        ("admin", (), "prod", 202),
        ("read", ("*",), "prod", 403),
    ],
)
def test_a_cluster_is_open_to_admins_and_to_whom_the_operator_lists(
    installed: Installation,
    make_app: Callable[[Installation], Flask],
    engine: sa.Engine,
    role: Any,
    allowed: tuple[str, ...],
    context: str | None,
    status: int,
) -> None:
    with transaction(engine) as connection:
        secret = tokens.create(connection, "ci", role)
    settings = installed.settings.model_copy(update={"allowed_clusters": allowed})
    client = make_app(dataclasses.replace(installed, settings=settings)).test_client()
    asked = {"action": "clean", "cluster": {"context": context} if context else {}}
    answered = client.post(URL, json=asked, headers={"Authorization": f"Bearer {secret}"})
    assert answered.status_code == status, answered.text
    if (role, status) == ("run", 403):
        assert "MESHGAUGE_ALLOWED_CLUSTERS" in answered.json["detail"]  # type: ignore[index]


def test_charts_of_ones_own_are_for_admins(
    installed: Installation, make_app: Callable[[Installation], Flask], engine: sa.Engine
) -> None:
    with transaction(engine) as connection:
        secret = tokens.create(connection, "ci", "run")
    settings = installed.settings.model_copy(update={"allowed_clusters": ("*",)})
    client = make_app(dataclasses.replace(installed, settings=settings)).test_client()
    asked = {"action": "clean", "cluster": {"charts": "http://192.0.2.1/"}}
    refused = client.post(URL, json=asked, headers={"Authorization": f"Bearer {secret}"})
    assert refused.status_code == 403
    assert "leave charts and images out" in refused.json["detail"]  # type: ignore[index]


def test_a_plan_for_a_cluster_that_is_not_open_is_refused(client: FlaskClient, engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        secret = tokens.create(connection, "ci", "run")
    plan = "name: x\nmeshes: [none]\nworkloads: {name: w, app: fixed-reply, reply_bytes: 1}\nloads: {rate_rps: 10}\n"
    headers = {"Authorization": f"Bearer {secret}"}
    for url in ("/api/v1/runs", "/api/v1/schedules?cron=0 3 * * *"):
        refused = client.post(
            url, data=plan + "infrastructures: kubernetes\n", content_type="application/yaml", headers=headers
        )
        assert refused.status_code == 403
        assert "'default' is not open" in refused.json["detail"]  # type: ignore[index]


def test_a_site_of_any_name_is_released(client: FlaskClient, engine: sa.Engine) -> None:
    name = "kubernetes:arn:aws:eks:eu-1:7:cluster/bench"
    with transaction(engine) as connection:
        connection.execute(sa.insert(schema.site).values(name=name, provider="kubernetes", state="quarantined"))
    released = client.post(f"/api/v1/sites/{quote(name, safe='')}/release")
    assert released.status_code == 200, released.text
    assert (released.json["name"], released.json["state"]) == (name, "dirty")  # type: ignore[index]


def test_pages_show_operations_and_their_log_and_cancel_them(
    client: FlaskClient, claim: Callable[[], OperationClaim], engine: sa.Engine
) -> None:
    assert "meshgauge mesh install istio" in client.get("/operations").text
    view = client.post(URL, json=CHECK).json
    assert view is not None
    page = client.get(f"/operations/{view['id']}").text
    assert "Waits for site local, which is being cleaned." in page
    held = claim()
    with transaction(engine) as connection:
        operations.say(connection, held, [("phase", "plain"), ("line", "<b>up</b>")])
    page = client.get(f"/operations/{view['id']}").text
    assert "&lt;b&gt;up&lt;/b&gt;" in page
    assert view["subject"] in client.get("/operations").text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    address = f"/operations/{view['id']}/cancel"
    assert client.post(address, data={"csrf": "wrong"}).status_code == 403
    assert client.post(address, data={"csrf": token[1]}).status_code == 303
    page = client.get(f"/operations/{view['id']}").text
    assert "Cancelling." in page
    assert "<button" not in page
