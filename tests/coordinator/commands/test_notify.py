"""``notify`` from the command line, against a coordinator of its own process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.commands import failures


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside; the coordinator that ``live`` starts may send to this host."""
    for name in [name for name in os.environ if name.startswith("MESHGAUGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESHGAUGE_DATA_DIR", str(tmp_path / "data"))


def call(*words: str, given: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(app, list(words), input=given, env=environment)


def test_exactly_one_kind_of_receiver_is_named() -> None:
    for words in (["add", "ci"], ["add", "ci", "--webhook", "https://a", "--email", "a@b"]):
        result = call("notify", *words)
        assert result.exit_code == failures.USAGE
        assert "--webhook URL, --slack URL and --email ADDRESS" in result.stderr


def test_help_names_the_events() -> None:
    assert "step_suspected" in call("notify", "add", "--help", COLUMNS="200").stdout


@pytest.fixture
def here(live: Any) -> dict[str, str]:
    """A coordinator whose operator lets notices stay on this host."""
    live.kill()
    live.environment["MESHGAUGE_NOTIFY_NETWORKS"] = "127.0.0.0/8"
    live.start()
    return {"MESHGAUGE_COORDINATOR_URL": live.url}


def test_a_channel_is_added_listed_tested_and_removed(here: dict[str, str], hook: str) -> None:
    refused = call("notify", "add", "ci", "--webhook", "https://10.0.0.1/x", **here)
    assert refused.exit_code == failures.USAGE
    assert "not on the public internet" in refused.stderr
    unknown = call("notify", "add", "ci", "--webhook", hook, "--on", "gate_fail", **here)
    assert unknown.exit_code == failures.USAGE
    assert "gate_failed" in unknown.stderr

    made = call("notify", "add", "ci", "--webhook", "-", "--on", "gate_failed, run_finished", given=f"{hook}\n", **here)
    assert made.exit_code == 0, made.stderr
    secret = made.stdout.strip()
    assert secret.startswith("mgwh_")
    assert "not shown again" in made.stderr
    assert call("notify", "add", "ci", "--webhook", hook, **here).exit_code == failures.NOT_THERE

    for words in (["list"], ["list", "--json"], ["log", "--json"]):
        shown = call("notify", *words, **here).stdout
        assert secret not in shown
        assert "of-the-team" not in shown
    assert json.loads(call("notify", "list", "--json", **here).stdout)[0]["events"] == ["gate_failed", "run_finished"]

    tested = call("notify", "test", "ci", **here)
    assert tested.exit_code == 0
    assert "ci took it: HTTP 204" in tested.stderr
    logged = call("notify", "log", "ci", **here).stdout
    assert "sent" in logged
    assert "HTTP 204 No Content" in logged

    assert call("notify", "remove", "ci", **here).exit_code == 0
    assert call("notify", "test", "ci", **here).exit_code == failures.NOT_THERE


def test_a_receiver_that_does_not_take_a_test_is_told(here: dict[str, str]) -> None:
    call("notify", "add", "dead", "--slack", "http://127.0.0.1:1/x", **here)
    result = call("notify", "test", "dead", **here)
    assert result.exit_code == failures.UNAVAILABLE
    assert "dead did not take it: 127.0.0.1 port 1: Connection refused" in result.stderr
