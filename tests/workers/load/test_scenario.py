"""Own scenarios: a user's Locust file under our conductor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workers.load.launch import load_environment, start_master, worker_argv
from workers.load.order import LoadOrder
from workers.load.result_file import read_load_result

_SCENARIO = """
from locust import FastHttpUser, constant, task

class Shopper(FastHttpUser):
    wait_time = constant(0.02)

    @task
    def look(self):
        self.client.get("/", name="look")
"""


@pytest.fixture
def run_scenario(tmp_path: Path) -> Callable[[LoadOrder], list[dict[str, Any]]]:
    """Run a trial to its end; return its events."""

    def run(order: LoadOrder) -> list[dict[str, Any]]:
        master = start_master(order, "127.0.0.1:0", tmp_path, stderr=subprocess.DEVNULL)
        workers: list[subprocess.Popen[bytes]] = []
        events = []
        assert master.stdin is not None
        assert master.stdout is not None
        try:
            for event in map(json.loads, master.stdout):
                events.append(event)
                if event["event"] == "listening":
                    argv = worker_argv(f"127.0.0.1:{event['port']}")
                    workers += [
                        subprocess.Popen(argv, env=load_environment(), stderr=subprocess.DEVNULL)
                        for _ in range(order.load_workers)
                    ]
                if event["event"] == "workers_ready":
                    master.stdin.write('{"command": "go"}\n')
                    master.stdin.flush()
            return events
        finally:
            master.kill()
            master.communicate()
            for worker in workers:
                worker.kill()
                worker.wait()

    return run


def test_a_locust_file_is_measured_and_labelled(
    start_target: Any, make_order: Any, run_scenario: Any, tmp_path: Path
) -> None:
    path = tmp_path / "shop.py"
    path.write_text(_SCENARIO)
    target = start_target(delay_s=0.005, with_503=True)
    order = make_order(target.port, locust_file=str(path), rate_rps=None, connections=6, load_workers=2)
    events = run_scenario(order)
    assert events[-1] == {"event": "done"}
    result, seen = read_load_result(tmp_path), target.counts()
    assert (result.engine, result.engine_abi, result.resolution_ns) == ("locust_file", None, 1_000_000)
    assert set(result.outcomes) == {"ok", "status_5xx"}
    assert result.done == sum(result.outcomes.values()) == sum(row.done for row in result.seconds)
    assert result.requests_total == seen["requests"]
    p50_ns = result.clock("response").quantile_ns(0.5)
    assert p50_ns is not None
    assert p50_ns > 5_000_000
    assert result.clock("lag").total == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "does not import"),
        ("x = 1", "defines no user class"),
        (
            _SCENARIO + "\nfrom locust import LoadTestShape\nclass S(LoadTestShape):\n    tick = None\n",
            "defines a load shape",
        ),
    ],
)
def test_an_unusable_locust_file_is_refused(
    start_target: Any, make_order: Any, run_scenario: Any, tmp_path: Path, source: str, reason: str
) -> None:
    path = tmp_path / "shop.py"
    path.write_text(source)
    events = run_scenario(make_order(start_target().port, locust_file=str(path), rate_rps=None))
    assert events[-1]["event"] == "failed"
    assert reason in events[-1]["reason"]


def test_a_missing_locust_file_is_named(make_order: Any, run_scenario: Any, tmp_path: Path) -> None:
    events = run_scenario(make_order(1, locust_file=str(tmp_path / "none.py"), rate_rps=None))
    assert "none.py cannot be read" in events[-1]["reason"]


def test_rooms_outside_load_never_meet_locust() -> None:
    code = "import sys, workers.load.launch, workers.load.result_file, workers.load.engine.choice as c; "
    code += "print([m for m in ('locust', 'gevent') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
