"""The command line: sentences instead of tracebacks, exit codes that mean something, the API behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.client import Client
from coordinator.commands import failures
from meshgauge.errors import (
    ConfigurationError,
    ConflictError,
    InvalidPlanError,
    InvalidRequestError,
    MeasurementError,
    MeshgaugeError,
    ServiceUnavailableError,
    UnknownNameError,
)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside, and a data directory where nothing runs."""
    for name in [name for name in os.environ if name.startswith("MESHGAUGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESHGAUGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plan_file(tmp_path: Path, baseline_plan: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(baseline_plan)
    return path


def call(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(words), env=environment)


def test_the_version_is_told() -> None:
    result = call("--version")
    assert (result.exit_code, result.stdout.split()[0]) == (0, "meshgauge")


def test_help_names_every_exit_code() -> None:
    told = call("--help").stdout
    codes = [
        value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int) and name[0] != "_"
    ]
    assert len(codes) >= 8
    for code in codes:
        assert str(code) in told.partition("Exit codes")[2]


def test_every_error_of_ours_has_an_exit_code() -> None:
    errors: list[MeshgaugeError] = [
        MeshgaugeError("x"),
        InvalidPlanError([]),
        InvalidRequestError("x"),
        ServiceUnavailableError("x"),
        ConfigurationError("x"),
        UnknownNameError("run", "x", []),
        ConflictError("x"),
        MeasurementError("x"),
    ]
    assert [failures.code_of(error) for error in errors] == [1, 2, 2, 3, 4, 5, 5, 1]


@pytest.mark.parametrize(
    "words", ["list", "watch latest", "cancel latest", "show latest", "report latest", "schedule list", "site list"]
)
def test_without_a_coordinator_a_sentence_says_how_to_start_one(words: str) -> None:
    result = call(*words.split())
    assert result.exit_code == failures.UNAVAILABLE
    assert "meshgauge up" in result.stderr
    assert "Traceback" not in result.output


def test_a_coordinator_that_does_not_answer_is_named() -> None:
    result = call("list", MESHGAUGE_COORDINATOR_URL="http://127.0.0.1:1")
    assert result.exit_code == failures.UNAVAILABLE
    assert "http://127.0.0.1:1 does not answer" in result.stderr


def test_a_wrong_setting_is_named() -> None:
    result = call("list", MESHGAUGE_TICK_S="often")
    assert result.exit_code == failures.CONFIGURATION
    assert "MESHGAUGE_TICK_S" in result.stderr


@pytest.mark.parametrize("command", ["run", "submit", "plan check", "schedule add"])
def test_a_missing_plan_file_is_known_before_anything_starts(command: str) -> None:
    result = call(*command.split(), "nothing.yaml")
    assert result.exit_code == failures.USAGE
    assert "nothing.yaml: cannot be read" in result.stderr


def test_a_wrong_plan_is_told_line_by_line(plan_file: Path) -> None:
    plan_file.write_text(plan_file.read_text().replace("rate_rps: 10", "rate_rp: 10"))
    result = call("run", str(plan_file))
    assert result.exit_code == failures.USAGE
    assert "loads[0].rate_rp: unknown key; did you mean 'rate_rps'?" in result.stderr


def test_a_fault_of_ours_is_one_line_and_debug_shows_the_rest(plan_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr("coordinator.commands.plans.installed_planner", broken)
    quiet = call("plan", "check", str(plan_file))
    assert quiet.exit_code == failures.FAULT
    assert quiet.stderr.count("\n") == 1
    assert "Traceback" in call("--debug", "plan", "check", str(plan_file)).stderr


def test_a_plan_is_checked_without_a_server(plan_file: Path) -> None:
    result = call("plan", "check", str(plan_file))
    assert result.exit_code == 0
    assert "base: 1 cells, 2 blocks, 2 environments, 2 trials" in result.stdout
    assert "none/plain/web/local/10rps-16c" in result.stdout
    assert "10rps-16c: 10 requests/s over 16 connections; " in result.stdout
    assert " s window, " in result.stdout
    assert "2 blocks give no verdict" in result.stdout


def test_a_check_for_programs_is_json(plan_file: Path) -> None:
    check = json.loads(call("plan", "check", str(plan_file), "--json").stdout)
    assert check["cells"] == ["none/plain/web/local/10rps-16c"]


def test_the_schema_and_the_meshes_need_no_server() -> None:
    assert json.loads(call("plan", "schema").stdout)["title"] == "Meshgauge plan"
    assert {row["name"] for row in json.loads(call("adapters", "--json").stdout)} >= {"none", "envoy", "nginx"}


def test_a_run_is_submitted_listed_shown_and_cancelled(live: Any, plan_file: Path) -> None:
    here = {"MESHGAUGE_COORDINATOR_URL": live.url}
    submitted = call("submit", str(plan_file), "--key", "k", **here)
    assert submitted.exit_code == 0
    run = submitted.stdout.strip()
    assert call("submit", str(plan_file), "--key", "k", **here).stdout.strip() == run
    assert json.loads(call("list", "--json", **here).stdout)[0]["id"] == run
    assert run[:8] in call("list", **here).stdout
    assert "queued" in call("show", run[:8], **here).stdout
    cancelled = call("cancel", "latest", **here)
    assert cancelled.exit_code == 0
    assert "cancelled" in cancelled.stderr
    assert "over already" in call("cancel", run, **here).stderr
    watched = call("watch", run, **here)
    assert watched.exit_code == failures.CANCELLED


def test_a_report_is_saved_where_asked(live: Any, plan_file: Path, tmp_path: Path) -> None:
    here = {"MESHGAUGE_COORDINATOR_URL": live.url}
    run = call("submit", str(plan_file), **here).stdout.strip()
    call("cancel", run, **here)
    target = tmp_path / "deep" / "report.html"
    result = call("report", run, "-o", str(target), **here)
    assert result.stdout.strip() == str(target)
    assert "<html" in target.read_text()
    refused = call("report", run, "-o", "/proc/report.html", **here)
    assert refused.exit_code == failures.CONFIGURATION
    assert "--report" in refused.stderr or "-o" in refused.stderr


def test_an_unknown_run_is_told(live: Any) -> None:
    result = call("show", "abcdef12", MESHGAUGE_COORDINATOR_URL=live.url)
    assert result.exit_code == failures.NOT_THERE
    assert "abcdef12" in result.stderr


def test_schedules_are_kept_from_the_command_line(live: Any, plan_file: Path) -> None:
    here = {"MESHGAUGE_COORDINATOR_URL": live.url}
    added = call("schedule", "add", str(plan_file), "--name", "nightly", "--cron", "30 2 * * *", **here)
    assert "nightly: next at" in added.stdout
    assert call("schedule", "pause", "nightly", **here).exit_code == 0
    assert "paused" in call("schedule", "list", **here).stdout
    assert "next at" in call("schedule", "resume", "nightly", **here).stderr
    assert call("schedule", "remove", "nightly", **here).exit_code == 0
    missing = call("schedule", "remove", "nightly", **here)
    assert missing.exit_code == failures.NOT_THERE
    wrong = call("schedule", "add", str(plan_file), "--cron", "30 2 * *", **here)
    assert wrong.exit_code == failures.USAGE
    assert "schedule.cron" in wrong.stderr


def test_tokens_are_made_listed_and_revoked(live: Any, database_url: str) -> None:
    here = {"MESHGAUGE_COORDINATOR_URL": live.url, "MESHGAUGE_DATABASE_URL": database_url}
    made = call("token", "create", "ci", "--role", "read", **here)
    secret = made.stdout.strip()
    assert secret.startswith("mg_")
    assert call("list", **here).exit_code == failures.CONFIGURATION  # from now on a token is needed
    assert call("list", **here, MESHGAUGE_API_TOKEN=secret).exit_code == 0
    assert secret not in call("token", "list", **here).stdout
    assert "ci" in call("token", "list", **here).stdout
    assert call("token", "revoke", "ci", **here).exit_code == 0
    assert call("token", "create", "ci2", "--role", "root", **here).exit_code == failures.NOT_THERE


def test_a_site_that_is_not_in_quarantine_cannot_be_released(live: Any) -> None:
    result = call("site", "release", "local", MESHGAUGE_COORDINATOR_URL=live.url)
    assert result.exit_code == failures.NOT_THERE
    assert "quarantined site 'local'" in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_end_a_run_is_cancelled_and_waited_for(
    live: Any, plan_file: Path, tmp_path: Path, how: signal.Signals
) -> None:
    environment = {**live.environment, "MESHGAUGE_DATA_DIR": str(tmp_path / "other")}
    argv = [sys.executable, "-m", "coordinator.cli", "run", str(plan_file)]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(argv, env=environment, stderr=pipe, stdout=pipe, text=True) as process,
        Client(live.url) as client,
    ):
        deadline_s = time.monotonic() + 60
        while not client.get("/api/v1/runs")["runs"]:
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1.0)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        (run,) = client.get("/api/v1/runs")["runs"]
    assert process.returncode == failures.CANCELLED
    assert run["state"] == "cancelled"
    assert "what was measured is kept" in said
    assert "Traceback" not in said


def test_a_run_interrupted_while_meshgauge_starts_leaves_nothing_running(plan_file: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}
    environment["MESHGAUGE_DATA_DIR"] = str(tmp_path / "data")
    argv = [sys.executable, "-m", "coordinator.cli", "run", str(plan_file)]
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said = first + process.stderr.read()
    assert "starting Meshgauge" in first
    assert process.returncode == failures.CANCELLED
    assert "Traceback" not in said
    data_dir = str(tmp_path / "data")
    left = [line for line in _command_lines_and_environments() if data_dir in line]
    assert left == []


def _command_lines_and_environments() -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append(f"{(folder / 'cmdline').read_text()} {(folder / 'environ').read_text()}")
        except OSError:  # it ended meanwhile, or is not ours to read
            continue
    return found
