"""Operations on a whole instance: the contract suite run for real, followed from the command line, its result kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_instance import ENDED, LiveInstance
from live_processes import eventually

CHECK = {"action": "conformance", "adapter": "nginx", "provider": "local", "version": "1.31.3"}


def ended(instance: LiveInstance, operation: dict[str, Any]) -> dict[str, Any]:
    """Wait until an operation is over; return it with its log."""
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(instance.http.get(operation["links"]["self"]).json())
        return found["operation"]["state"] in ENDED

    eventually(look, 60, "the operation is over")
    return found


def test_the_contract_suite_runs_under_the_lease_and_its_result_decides_the_stage(instance: LiveInstance) -> None:
    made = instance.http.post("/api/v1/operations", json=CHECK)
    assert made.status_code == 202, made.text
    last = ended(instance, made.json())
    assert last["operation"]["state"] == "done", last["lines"]
    assert last["operation"]["result"]["version"] == "1.31.3"
    phases = [line["text"] for line in last["lines"] if line["kind"] == "phase"]
    assert phases == ["plain", "mtls", "observed", "mtls-observed", "upgrade", "nothing left"]
    (result,) = [one for one in instance.http.get("/api/v1/conformance").json() if one["adapter"] == "nginx"]
    outcomes = {check["name"]: check["outcome"] for check in result["checks"]}
    proven = ("plain: traffic", "plain: counters", "mtls: mutual TLS", "mtls: plaintext refused", "nothing left")
    assert {outcomes[name] for name in proven} == {"pass"}
    assert outcomes["upgrade in place"] == "not applicable"
    (row,) = [one for one in instance.http.get("/api/v1/adapters").json() if one["name"] == "nginx"]
    assert row["checked_on"] == result["at"][:10]
    assert row["stage"] in ("beta", "stable")
    instance.assert_clean()


def test_a_run_that_was_submitted_later_waits_for_the_operation(instance: LiveInstance) -> None:
    operation = instance.http.post("/api/v1/operations", json=CHECK).json()
    run_id = instance.submit("name: after\nmeshes: [none]\nblocks: 1\n"
                             "workloads: {name: w, app: fixed-reply, reply_bytes: 1}\n"
                             "loads: {rate_rps: 50, window_s: 1, warm_up_s: 0.5, cool_down_s: 0}\n")  # fmt: skip
    with instance.watched() as watch:
        instance.finish(run_id)
    assert len(watch.epochs) >= 2
    assert ended(instance, operation)["operation"]["state"] == "done"
    (order,) = instance.rows(
        "SELECT o.finished_at < a.started_at AS waited FROM operation o, environment_attempt a JOIN environment e"
        " ON e.id = a.environment_id WHERE o.id = :operation AND e.run_id = :run",
        operation=operation["id"], run=run_id,
    )  # fmt: skip
    assert order.waited


@pytest.fixture
def environment(instance: LiveInstance) -> dict[str, str]:
    """Variables under which the command line talks to the instance."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}
    return {**others, "MESHGAUGE_DATA_DIR": str(instance.settings.data_dir), "MESHGAUGE_SITE": instance.site}


def call(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    argv = [sys.executable, "-m", "coordinator.cli", *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=90, check=False)


def test_the_command_line_follows_the_suite_and_keeps_its_results(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = call(environment, "adapters", "conformance", "nginx", "--version", "1.31.3", "--into", str(file))
    assert done.returncode == 0, done.stderr
    assert "mtls: plaintext refused: pass" in done.stderr
    assert f"conformance nginx 1.31.3 on {environment['MESHGAUGE_SITE']}: done" in done.stdout
    (kept,) = json.loads(file.read_text())
    assert (kept["adapter"], kept["version"]) == ("nginx", "1.31.3")


def test_a_cluster_nobody_can_reach_is_said_with_what_to_do(environment: dict[str, str], tmp_path: Path) -> None:
    asked = call(environment, "clean", "--context", "nowhere", "--yes")
    assert asked.returncode == 1, asked.stderr
    assert "nowhere" in asked.stdout
    assert "meshgauge site release kubernetes:nowhere" in asked.stdout
