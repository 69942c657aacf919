"""``meshgauge gate``: exit codes, files, and a plan taken from submission to its confirmed answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.client import Client
from coordinator.commands import failures
from meshgauge.store.database import transaction

Finish = Callable[..., None]

# Programs of the user's own need no index of versions.
PLAN = """\
name: own
meshes: [none]
workloads:
  name: web
  commands: [{version: v1, command: [web1]}, {version: v2, command: [web2]}]
loads: {rate_rps: 10, window_s: 10}
blocks: 6
thresholds:
- {metric: p50, worse_by_at_most: 5, against: application}
confirm_blocks: 6
"""


@pytest.fixture(autouse=True)
def environment(live: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator of the test, and a folder of its own."""
    monkeypatch.setenv("MESHGAUGE_COORDINATOR_URL", live.url)
    monkeypatch.setenv("MESHGAUGE_DATA_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture
def client(live: Any) -> Iterator[Client]:
    with Client(live.url) as made:
        yield made


@pytest.fixture
def run_of(client: Client, finish: Finish) -> Callable[..., str]:
    """Return a function that submits a plan and measures its run."""

    def make(text: str = PLAN, **levels: float) -> str:
        run = client.submit(text)["id"]
        finish(run, **levels)
        return str(run)

    return make


@pytest.fixture
def worker(engine: sa.Engine, finish: Finish) -> Iterator[dict[str, float]]:
    """Measures every run there is, as it comes; returns the levels it will measure."""
    stopped, levels = threading.Event(), {"newest_us": 240.0}

    def work() -> None:
        seed = 0
        while not stopped.is_set():
            with transaction(engine) as connection:
                open_runs = connection.execute(sa.text("SELECT id FROM run WHERE finished_at IS NULL")).scalars().all()
            for run in open_runs:
                seed += 100
                time.sleep(0.5)  # somebody looks at a run before it is over
                finish(str(run), seed=seed, **levels)
            stopped.wait(0.1)

    thread = threading.Thread(target=work)
    thread.start()
    yield levels
    stopped.set()
    thread.join()


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_a_run_that_keeps_its_thresholds_exits_0(run_of: Callable[..., str]) -> None:
    result = call("gate", run_of()[:8])
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "Passed: the only check keeps its threshold.")


def test_a_broken_threshold_exits_1_and_names_what_confirms_it(run_of: Callable[..., str]) -> None:
    run = run_of(newest_us=240.0)
    result = call("gate", "latest")
    assert result.exit_code == failures.THRESHOLD_BROKEN
    assert "failed (unconfirmed)" in result.stdout
    assert f"meshgauge gate {run[:8]} --confirm" in result.stderr


@pytest.mark.parametrize(("counts_as", "code"), [("own", 6), ("fail", 1), ("pass", 0)])
def test_undecided_has_a_code_of_its_own_unless_told_otherwise(
    run_of: Callable[..., str], counts_as: str, code: int
) -> None:
    text = PLAN.replace("metric: p50, worse", "metric: p99, worse")  # 4000 requests give no p99
    result = call("gate", run_of(text), "--undecided", counts_as, "--junit", "out.xml")
    assert result.exit_code == code
    assert "Undecided" in result.stdout
    suite = Xml.parse("out.xml").getroot()[0]  # noqa: S314 - our own text
    assert (suite.attrib["errors"], suite.attrib["skipped"]) == (("0", "1") if counts_as == "pass" else ("1", "0"))


def test_answers_are_written_where_asked_also_when_a_threshold_is_broken(run_of: Callable[..., str]) -> None:
    run = run_of(newest_us=240.0)
    names = {"--junit": "deep/gate.xml", "--markdown": "gate.md", "--json": "gate.json", "--report": "report.html"}
    result = call("gate", run, *[word for pair in names.items() for word in pair])
    assert result.exit_code == failures.THRESHOLD_BROKEN
    assert Xml.parse("deep/gate.xml").getroot().tag == "testsuites"  # noqa: S314
    assert Path("gate.md").read_text().startswith("### Meshgauge: own")
    assert json.loads(Path("gate.json").read_text())["run_id"] == run
    assert "<html" in Path("report.html").read_text()
    assert str(Path("report.html").resolve()) in result.stdout


def test_a_place_that_cannot_be_written_is_told_with_its_option(run_of: Callable[..., str]) -> None:
    result = call("gate", run_of(), "--markdown", "/proc/gate.md")
    assert result.exit_code == failures.CONFIGURATION
    assert "--markdown" in result.stderr


def test_a_plan_is_submitted_followed_confirmed_and_answered(
    plan_file: Path, worker: dict[str, float], client: Client
) -> None:
    result = call("gate", str(plan_file), "--json", "gate.json")
    assert result.exit_code == failures.THRESHOLD_BROKEN, result.output
    answer = json.loads(Path("gate.json").read_text())
    assert answer["checks"][0]["confirmation"] == "confirmed"
    assert "repeating 2 cells on fresh blocks" in result.stderr
    assert len(client.get("/api/v1/runs")["runs"]) == 2


def test_a_plan_may_be_answered_without_confirmation(plan_file: Path, worker: dict[str, float], client: Client) -> None:
    result = call("gate", str(plan_file), "--no-confirm")
    assert result.exit_code == failures.THRESHOLD_BROKEN
    assert "failed (unconfirmed)" in result.stdout
    assert len(client.get("/api/v1/runs")["runs"]) == 1


def test_a_finding_of_a_stored_run_is_confirmed_on_demand(run_of: Callable[..., str], worker: dict[str, float]) -> None:
    run = run_of(newest_us=240.0)
    worker["newest_us"] = 200.0
    result = call("gate", run, "--confirm")
    assert result.exit_code == failures.DONE, result.output
    assert "of the first run not confirmed, kept" in " ".join(result.stdout.split())
    latest = call("gate", "latest")
    assert (latest.exit_code, latest.stdout) == (failures.DONE, result.stdout)
    assert f"repeats findings of run {run[:8]}" in latest.stderr


def test_a_plan_without_thresholds_is_refused_before_anything_is_submitted(plan_file: Path, client: Client) -> None:
    plan_file.write_text(PLAN.partition("thresholds:")[0])
    result = call("gate", str(plan_file))
    assert result.exit_code == failures.USAGE
    assert "worse_by_at_most: 3" in result.stderr
    assert client.get("/api/v1/runs")["runs"] == []


def test_a_threshold_that_selects_nothing_is_refused_before_anything_is_measured(
    plan_file: Path, client: Client
) -> None:
    plan_file.write_text(PLAN.replace("against: application", "against: release"))
    result = call("gate", str(plan_file))
    assert result.exit_code == failures.USAGE
    assert "thresholds[0]: selects no comparison against the release" in result.stderr
    (run,) = client.get("/api/v1/runs")["runs"]
    assert run["cancel_requested_at"] is not None


def test_a_cancelled_run_answers_nothing(plan_file: Path, client: Client) -> None:
    def cancel() -> None:
        deadline_s = time.monotonic() + 60
        while not (runs := client.get("/api/v1/runs")["runs"]):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        time.sleep(1)
        client.post(f"/api/v1/runs/{runs[0]['id']}/cancel")

    thread = threading.Thread(target=cancel)
    thread.start()
    result = call("gate", str(plan_file))
    thread.join()
    assert result.exit_code == failures.CANCELLED
    assert "Passed" not in result.stdout


@pytest.mark.parametrize(("newest_us", "status", "code"), [(200.0, "passed", 0), (240.0, "failed", 1)])
def test_the_gate_step_of_the_github_action_answers_as_a_runner_expects(
    run_of: Callable[..., str], tmp_path: Path, live: Any, newest_us: float, status: str, code: int
) -> None:
    outputs, summary = _run_gate_step(tmp_path, live.url, run_of(newest_us=newest_us))
    assert (outputs["status"], outputs["exit-code"]) == (status, str(code))
    assert summary.startswith("### Meshgauge: own")
    assert Xml.parse(outputs["junit"]).getroot().tag == "testsuites"  # noqa: S314
    assert Path(outputs["markdown"]).read_text() == summary
    assert (Path(outputs["junit"]).parent / "report.html").exists()


def test_the_gate_step_without_an_answer_says_why(tmp_path: Path, live: Any) -> None:
    outputs, summary = _run_gate_step(tmp_path, live.url, "abcdef12; touch hacked")
    assert (outputs["status"], outputs["exit-code"], outputs["run"]) == ("error", "5", "")
    assert "gave no answer (exit code 5)" in summary
    assert "abcdef12" in summary
    assert not list(tmp_path.rglob("hacked"))


def _run_gate_step(folder: Path, url: str, plan: str) -> tuple[dict[str, str], str]:
    """Run the step as a runner does: its shell, its environment, its files; return outputs and summary."""
    action = yaml.safe_load((Path(__file__).parents[3] / "deploy" / "github-action" / "action.yml").read_text())
    script = next(step["run"] for step in action["runs"]["steps"] if step.get("id") == "gate")
    output, summary = folder / "output", folder / "summary"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    files = {"RUNNER_TEMP": folder / "runner", "GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary}
    inputs = {"PLAN": plan, "UNDECIDED": "own", "CONFIRM": "false", "COORDINATOR_URL": url, "TOKEN": ""}
    environment = {"PATH": path, **{name: str(value) for name, value in files.items()}, **inputs}
    subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], env=environment, check=True)
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
    return outputs, summary.read_text()
