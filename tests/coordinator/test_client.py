"""The client: errors come back as what they were, streams are read as the standard says."""

from __future__ import annotations

import httpx
import pytest

from coordinator.client import Client, parse_events
from meshgauge.errors import (
    ConfigurationError,
    ConflictError,
    InvalidPlanError,
    MeshgaugeError,
    ServiceUnavailableError,
    UnknownNameError,
)


def answering(status: int, body: object = None, text: str | None = None) -> Client:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=body) if text is None else httpx.Response(status, text=text)

    return Client("http://127.0.0.1:9", transport=httpx.MockTransport(answer))


def problem(kind: str, **more: object) -> dict[str, object]:
    return {"type": f"/problems/{kind}", "detail": "a sentence", **more}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, problem("unknown-name", unknown={"kind": "run", "name": "x", "known": []}), UnknownNameError),
        (409, problem("conflict"), ConflictError),
        (422, problem("invalid-plan", errors=[{"path": "name", "message": "is needed"}]), InvalidPlanError),
        (401, problem("request"), ConfigurationError),
        (403, problem("request"), ConfigurationError),
        (503, problem("unavailable"), ServiceUnavailableError),
        (500, problem("bug"), MeshgaugeError),
    ],
)
def test_a_problem_is_raised_as_what_it_was_there(
    status: int, body: dict[str, object], kind: type[MeshgaugeError]
) -> None:
    with answering(status, body) as client, pytest.raises(MeshgaugeError) as raised:
        client.get("/api/v1/runs/x")
    assert type(raised.value) is kind


def test_something_else_at_the_address_is_said() -> None:
    with answering(502, text="<html>") as client, pytest.raises(ConfigurationError, match="is this a Meshgauge"):
        client.get("/")


def test_nobody_at_the_address_is_said_with_what_to_do() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(ServiceUnavailableError, match="meshgauge up"):
        client.get("/")


@pytest.mark.parametrize("url", ["http://[", "http://a:b:c", "http://\x00", "localhost:80", "ftp://x", ""])
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MESHGAUGE_COORDINATOR_URL"):
        Client(url)


def test_a_lost_answer_is_asked_for_again_under_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadError("cut")
        return httpx.Response(201, json={"id": "r"})

    monkeypatch.setattr("coordinator.client._PAUSE_S", 0.0)
    with Client("http://127.0.0.1:9", transport=httpx.MockTransport(answer)) as client:
        assert client.submit("name: x")["id"] == "r"
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_token_is_sent_and_a_plan_in_its_own_type() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json={"id": "r"})

    with Client("http://127.0.0.1:9", "mg_secret", httpx.MockTransport(answer)) as client:
        client.submit('{"name": "x"}')
        client.submit("name: x")
    assert {request.headers["Authorization"] for request in seen} == {"Bearer mg_secret"}
    assert [request.headers["Content-Type"] for request in seen] == ["application/json", "application/yaml"]


def test_a_stream_is_read_event_by_event() -> None:
    lines = [
        "retry: 2000", "", ": a remark", "",
        "id: 5", "event: phase", 'data: {"phase":', 'data: "install"}', "",
        "id: 6", "event: finished", "data: {}", "",
        "data: {", # cut off: no empty line follows
    ]  # fmt: skip
    events = list(parse_events(iter(lines), 0))
    assert [(event.id, event.kind, dict(event.data)) for event in events] == [
        (5, "phase", {"phase": "install"}),
        (6, "finished", {}),
    ]
