"""Meshes on the command line: what is said while an operation goes on, what stands, and that clean asks first."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.client import Client
from coordinator.commands import meshes, operating
from coordinator.commands.adapters import _keep
from coordinator.commands.meshes import standing
from meshgauge.conformance import ConformanceCheck, ConformanceResult
from meshgauge.errors import ConfigurationError

SITE = "kubernetes:c"


def operation(action: str = "install", adapter: str | None = "istio", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": "0f0f0f0f-0000-4000-8000-000000000000", "action": action, "adapter": adapter, "site": SITE,
        "subject": f"{action} {adapter} latest", "state": "done", "phase": None, "reason": None, "waits_for": None,
        "result": {}, "request": {"dry_run": False}, "created_at": "2026-11-23T14:00:00+00:00", "started_at": None,
    }  # fmt: skip
    return made | fields


class Server:
    """A coordinator that plays a script: each operation asked for ends as ``ends`` says, in turn."""

    def __init__(self, *ends: Mapping[str, Any]) -> None:
        self.ends = list(ends)
        self.asked: list[dict[str, Any]] = []
        self.looks = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = json.loads(request.content)
            self.asked.append(body)
            self.looks = 0
            return httpx.Response(202, json=operation(body["action"], body.get("adapter"), state="queued"))
        if request.url.path.endswith("/sites"):
            return httpx.Response(200, json=[{"name": SITE, "state": "free", "reason": None}])
        self.looks += 1
        asked = self.asked[-1]
        now = operation(asked["action"], asked.get("adapter"))
        if self.looks == 1:
            now |= {"state": "queued", "waits_for": "run nightly"}
            lines = [line(1, "submitted", "asked for")]
        else:
            now |= self.ends.pop(0)
            lines = [line(2, "phase", "install"), line(3, "line", "chart base"), line(4, "finished", now["state"])]
        after = int(request.url.params["after"])
        lines = [one for one in lines if one["id"] > after]
        return httpx.Response(200, json={"operation": now, "lines": lines, "more": False})


def line(number: int, kind: str, text: str) -> dict[str, Any]:
    return {"id": number, "at": "2026-11-23T14:00:07+00:00", "kind": kind, "text": text}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """A function that runs the command line against a server of the test's own."""

    def run(server: Server, *words: str, typed: str = "") -> Result:
        monkeypatch.setenv("MESHGAUGE_COORDINATOR_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("MESHGAUGE_DATA_DIR", str(tmp_path))
        monkeypatch.setattr(operating, "_POLL_S", 0.0)

        def client(*_: Any) -> Client:
            return Client("http://127.0.0.1:9", transport=httpx.MockTransport(server))

        monkeypatch.setattr("coordinator.commands.runs.client_if_any", client)
        monkeypatch.setattr(meshes, "open_client", client)
        return CliRunner().invoke(app, list(words), input=typed)

    return run


def test_an_installation_is_followed_line_by_line(call: Callable[..., Result], tmp_path: Path) -> None:
    server = Server({"state": "done", "result": {"version": "1.30.3"}})
    done = call(server, "mesh", "install", "istio", "--profile", "mtls", "--context", "c", "--charts", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert server.asked == [
        {"action": "install", "adapter": "istio", "version": "latest", "profile": "mtls",
         "cluster": {"context": "c", "charts": str(tmp_path)}}
    ]  # fmt: skip
    assert done.stdout == f"install istio 1.30.3 on {SITE}: done\n"
    assert [text.strip() for text in done.stderr.splitlines()[1:]] == [
        "14:00:07 asked for", "waits for run nightly", "14:00:07 == install", "14:00:07 chart base", "14:00:07 done",
    ]  # fmt: skip


@pytest.mark.parametrize(("state", "code"), [("failed", 1), ("cancelled", 130)])
def test_the_exit_code_says_how_it_ended(call: Callable[..., Result], state: str, code: int) -> None:
    end = {"state": state, "reason": "no node takes pods", "started_at": "2026-11-23T14:00:00+00:00"}
    ended = call(Server(end), "mesh", "uninstall", "istio")
    assert ended.exit_code == code
    assert f"{state}, no node takes pods" in ended.stdout


def test_a_detached_operation_prints_its_id_and_returns(call: Callable[..., Result]) -> None:
    server = Server()
    done = call(server, "mesh", "upgrade", "istio", "--detach")
    assert (done.exit_code, done.stdout) == (0, "0f0f0f0f-0000-4000-8000-000000000000\n")
    assert server.looks == 0


def test_clean_lists_and_asks_before_it_removes(call: Callable[..., Result]) -> None:
    found = {"state": "done", "result": {"found": ["istio 1.30.3 of operation-3, meant to stay"]}}
    refused = Server(found)
    answer = call(refused, "clean", "--context", "c", typed="n\n")
    assert answer.exit_code == 5
    assert "nothing was removed" in answer.stderr
    assert [one.get("dry_run", False) for one in refused.asked] == [True]
    agreed = Server(found, {"state": "done"})
    assert call(agreed, "clean", "--context", "c", typed="y\n").exit_code == 0
    assert [one.get("dry_run", False) for one in agreed.asked] == [True, False]
    unasked = Server(found, {"state": "done"})
    assert call(unasked, "clean", "--context", "c", "--yes").exit_code == 0
    empty = Server({"state": "done", "result": {"found": []}})
    assert "nothing of Meshgauge's is in that cluster" in call(empty, "clean").stderr
    assert len(empty.asked) == 1


def test_what_stands_is_read_from_the_newest_operations() -> None:
    history = [  # newest first
        operation("verify"),
        operation("upgrade", result={"version": "1.31.0"}),
        operation("install", result={"version": "1.30.3"}),
        operation("uninstall", "linkerd"),
        operation("install", "linkerd", result={"version": "26.8.3"}),
        operation("install", "kuma", state="failed"),
        operation("install", "consul", site="kubernetes:d", result={"version": "2.0.3"}),
        operation("clean", None, site="kubernetes:e"),
        operation("install", "kuma", site="kubernetes:e"),
        operation("clean", None, request={"dry_run": True}),
    ]
    assert list(standing(history)) == [
        {"site": SITE, "adapter": "istio", "version": "1.31.0"},
        {"site": "kubernetes:d", "adapter": "consul", "version": "2.0.3"},
    ]


def test_results_are_kept_beside_those_a_file_has(tmp_path: Path) -> None:
    def result(version: str, day: int) -> ConformanceResult:
        checks = (ConformanceCheck("traffic", "pass", "50 of 50"),)
        at = dt.datetime(2026, 11, day, tzinfo=dt.UTC)
        return ConformanceResult("envoy", version, "local", "local, Linux", "abc", at, checks)

    file = tmp_path / "results.json"
    _keep(file, [result("1.40.0", 1), result("1.39.0", 1)])
    _keep(file, [result("1.40.0", 2)])
    kept = [ConformanceResult.of_json(one) for one in json.loads(file.read_text())]
    assert kept == [result("1.39.0", 1), result("1.40.0", 2)]
    file.write_text("{")
    with pytest.raises(ConfigurationError, match=r"results\.json"):
        _keep(file, [])
