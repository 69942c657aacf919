"""Own scenarios: a user's Locust file under our conductor."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshgauge.errors import ConfigurationError
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


_ASK = """
import pickle, sys
from meshgauge.histogram import Histogram
from workers.load.scenario import outcome_of, user_classes_of

def locust_figures():
    from locust.stats import RequestStats
    from workers.load.statistics_feed import feed
    stats = RequestStats()
    feed(stats, "GET", "/", Histogram.of([250_123] * 900 + [7_000_456] * 50), 5)
    feed(stats, "GET", "/", Histogram.of([250_456] * 50), 5)
    feed(stats, "GET", "/", Histogram(), 0)
    total = stats.total
    return {
        "requests": total.num_requests,
        "failures": stats.get("/", "GET").num_failures,
        "p50_ms": total.get_response_time_percentile(0.5),
        "p99_ms": total.get_response_time_percentile(0.99),
    }

name, arguments = pickle.load(sys.stdin.buffer)
try:
    answer = globals()[name](*arguments)
    answer = [c.__name__ for c in answer] if name == "user_classes_of" else answer
except Exception as error:
    answer = error
sys.stdout.buffer.write(pickle.dumps(answer))
"""


def in_locust(name: str, *arguments: Any) -> Any:
    """Call a function in a process that may import Locust."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK], input=pickle.dumps((name, arguments)), capture_output=True, check=True
    )
    answer = pickle.loads(done.stdout)  # noqa: S301 - what our own process just wrote
    if isinstance(answer, Exception):
        raise answer
    return answer


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
        (_SCENARIO + "\nfrom locust import LoadTestShape\nclass S(LoadTestShape):\n    tick = None\n", "load shape"),
    ],
)
def test_an_unusable_locust_file_is_refused(source: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        in_locust("user_classes_of", "shop.py", source)


@pytest.mark.parametrize(
    ("exception", "status", "outcome"),
    [
        (None, 200, "ok"),
        (ValueError("x"), 503, "status_5xx"),
        (ValueError("x"), 404, "status_4xx"),
        (TimeoutError(), 0, "timeout"),
        (ConnectionRefusedError(), 0, "connect_failure"),
        (ConnectionResetError(), 0, "reset"),
        (ValueError("the scenario said so"), 200, "bad_body"),
    ],
)
def test_request_events_become_outcomes(exception: Exception | None, status: int, outcome: str) -> None:
    response = types.SimpleNamespace(status_code=status)
    assert in_locust("outcome_of", exception, response) == outcome


def test_locust_shows_what_the_engine_did() -> None:
    assert in_locust("locust_figures") == {"requests": 1010, "failures": 10, "p50_ms": 0.25, "p99_ms": 7.0}


def test_a_missing_locust_file_is_named(make_order: Any, run_scenario: Any, tmp_path: Path) -> None:
    events = run_scenario(make_order(1, locust_file=str(tmp_path / "none.py"), rate_rps=None))
    assert events[-1]["event"] == "failed"
    assert "none.py cannot be read" in events[-1]["reason"]


def test_rooms_outside_load_never_meet_locust() -> None:
    code = "import sys, workers.load.launch, workers.load.result_file, workers.load.engine.choice as c; "
    code += "print([m for m in ('locust', 'gevent') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
