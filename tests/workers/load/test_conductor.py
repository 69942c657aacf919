"""Whole trials: a Locust master and its load workers as processes, against a target that counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.load.engine.library import OVERRIDE
from workers.load.launch import load_environment, start_master, worker_argv
from workers.load.order import LoadOrder
from workers.load.result_file import read_load_result


class Trial:
    """A master, its events, its workers."""

    def __init__(self, order: LoadOrder, out_dir: Path) -> None:
        self.out_dir = out_dir
        self.master = start_master(order, "127.0.0.1:0", out_dir, stderr=subprocess.PIPE)  # its port is the system's
        self.events: list[dict[str, Any]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.master.stdout is not None
        for line in self.master.stdout:
            with self._arrived:
                self.events.append(json.loads(line))
                self._arrived.notify_all()

    def wait(self, event: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait for an event."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.has(event), timeout_s), (event, self.events)
        return next(found for found in self.events if found["event"] == event)

    def has(self, event: str) -> bool:
        return any(found["event"] == event for found in self.events)

    def start_workers(self, count: int, **env: str) -> None:
        port = self.wait("listening")["port"]
        for _ in range(count):
            argv = worker_argv(f"127.0.0.1:{port}")
            self.workers.append(subprocess.Popen(argv, env={**load_environment(), **env}, stderr=subprocess.DEVNULL))

    def go(self, order: LoadOrder | None = None) -> None:
        self.wait("workers_ready")
        self.say(json.dumps({"command": "go"} | ({} if order is None else {"order": json.loads(order.to_json())})))

    def say(self, line: str) -> None:
        assert self.master.stdin is not None
        self.master.stdin.write(line + "\n")
        self.master.stdin.flush()

    def end(self) -> None:
        everyone: list[subprocess.Popen[Any]] = [self.master, *self.workers]
        for process in everyone:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._reader.join()
        for stream in (self.master.stdin, self.master.stdout, self.master.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def start_trial(tmp_path: Path) -> Iterator[Callable[[LoadOrder], Trial]]:
    trials: list[Trial] = []

    def start(order: LoadOrder) -> Trial:
        trials.append(Trial(order, tmp_path))
        return trials[-1]

    yield start
    for trial in trials:
        trial.end()


def test_two_workers_measure_one_trial_and_every_request_is_accounted_for(
    start_target: Any, make_order: Any, start_trial: Any
) -> None:
    target = start_target(with_503=True)
    trial = start_trial(make_order(target.port, load_workers=2, connections=5))
    trial.start_workers(2)
    trial.go()
    trial.wait("done")
    assert trial.master.wait(10) == 0
    assert [worker.wait(10) for worker in trial.workers] == [0, 0]
    result, seen = read_load_result(trial.out_dir), target.counts()
    assert result.requests_total == seen["requests"] == seen["ok"] + seen["status_503"]
    assert result.offered == result.sent == result.done == sum(result.outcomes.values())
    assert set(result.outcomes) == {"ok", "status_5xx"}
    assert result.clock("net").total == result.outcomes["ok"]
    assert sum(row.done for row in result.seconds) == result.done
    assert result.connections_opened == seen["connections"] == 5
    assert (result.engine, len(result.workers), len(result.batch_p50_us)) == ("native", 2, 12)
    assert 0.7 < result.offered / (400 * 1.2) < 1.3
    window = trial.wait("window")
    assert window["window_start"] == pytest.approx(result.window_start.timestamp(), abs=1e-3)
    assert window["window_end"] - window["window_start"] == pytest.approx(1.2)
    progress = trial.wait("progress")
    assert progress["phase"] in ("warm_up", "window", "cool_down")
    assert progress["achieved_rps"] > 0
    assert progress["p50_us"] > 0


def test_the_python_engine_runs_under_the_same_conductor(
    start_target: Any, make_order: Any, start_trial: Any, tmp_path: Path
) -> None:
    target = start_target()
    trial = start_trial(make_order(1))  # the target is known only when all is up
    trial.start_workers(1, **{OVERRIDE: str(tmp_path / "none.so")})
    trial.go(make_order(target.port))
    trial.wait("done")
    result = read_load_result(trial.out_dir)
    assert (result.engine, result.engine_abi) == ("python", None)
    assert result.requests_total == target.counts()["requests"]
    assert set(result.outcomes) == {"ok"}


def _affinities(pid: int) -> set[frozenset[int]]:
    return {frozenset(os.sched_getaffinity(int(task.name))) for task in Path(f"/proc/{pid}/task").iterdir()}


def test_cores_and_priority_are_kept_and_named(start_target: Any, make_order: Any, start_trial: Any) -> None:
    core = min(os.sched_getaffinity(0))
    trial = start_trial(make_order(start_target().port, cpus=(core,), fifo_priority=1, window_s=1.0))
    trial.start_workers(1)
    trial.go()
    trial.wait("window")
    assert _affinities(trial.workers[0].pid) == {frozenset({core})}
    trial.wait("done")
    assert read_load_result(trial.out_dir).scheduling in ("fifo:1", "normal (fifo:1 was refused)")


def test_a_core_that_is_not_ours_is_named(start_target: Any, make_order: Any, start_trial: Any) -> None:
    trial = start_trial(make_order(start_target().port, cpus=(999,)))
    trial.start_workers(1)
    trial.go()
    assert "cannot run on cores (999,)" in failure_of(trial)


def failure_of(trial: Trial) -> str:
    reason: str = trial.wait("failed")["reason"]
    assert trial.master.wait(10) == 1
    assert not (trial.out_dir / "load.json").exists()
    return reason


def test_workers_with_different_engines_are_refused(
    start_target: Any, make_order: Any, start_trial: Any, tmp_path: Path
) -> None:
    trial = start_trial(make_order(start_target().port, load_workers=2))
    trial.start_workers(1)
    trial.start_workers(1, **{OVERRIDE: str(tmp_path / "none.so")})
    trial.go()
    assert "would mix engines" in failure_of(trial)


@pytest.mark.parametrize("line", ['{"command": "stop"}', "go", "[]", '{"command": "go", "order": {"rate": 1}}'])
def test_a_line_that_is_no_go_line_aborts_the_trial(make_order: Any, start_trial: Any, line: str) -> None:
    trial = start_trial(make_order(1))
    trial.wait("listening")
    trial.say(line)
    assert "no go line" in failure_of(trial)


def test_the_final_order_may_not_want_other_workers(make_order: Any, start_trial: Any) -> None:
    trial = start_trial(make_order(1))
    trial.start_workers(1)
    trial.go(make_order(1, load_workers=2))
    assert "number of load workers cannot change" in failure_of(trial)


def test_a_worker_lost_in_mid_trial_fails_the_trial(start_target: Any, make_order: Any, start_trial: Any) -> None:
    trial = start_trial(make_order(start_target().port, load_workers=2, window_s=60.0))
    trial.start_workers(2)
    trial.go()
    trial.wait("progress")
    trial.workers[0].kill()
    assert "was lost in mid-trial" in failure_of(trial)
    assert trial.workers[1].wait(10) == 0


def test_a_target_nobody_answers_at_is_named(start_target: Any, make_order: Any, start_trial: Any) -> None:
    target = start_target()
    target.end()
    trial = start_trial(make_order(target.port))
    trial.start_workers(1)
    trial.go()
    reason = failure_of(trial)
    assert (
        reason == f"only 0 of 8 connections to the target 127.0.0.1:{target.port} could be opened: Connection refused"
    )


def test_a_target_that_refuses_at_first_is_waited_for(start_target: Any, make_order: Any, start_trial: Any) -> None:
    target = start_target()
    target.end()
    trial = start_trial(make_order(target.port))
    trial.start_workers(1)
    trial.go()
    time.sleep(1.0)  # the worker is refused all the while
    assert not trial.has("window")
    start_target(port=target.port)
    trial.wait("window")


def test_a_closed_standard_input_aborts_the_trial(start_target: Any, make_order: Any, start_trial: Any) -> None:
    trial = start_trial(make_order(start_target().port, window_s=60.0))
    trial.start_workers(1)
    trial.go()
    trial.wait("window")
    assert trial.master.stdin is not None
    trial.master.stdin.close()
    assert failure_of(trial) == "standard input was closed"
    assert trial.workers[0].wait(10) == 0


def test_sigterm_ends_master_and_workers_at_once(start_target: Any, make_order: Any, start_trial: Any) -> None:
    trial = start_trial(make_order(start_target().port, window_s=60.0))
    trial.start_workers(1)
    trial.go()
    trial.wait("window")
    before = time.monotonic()
    trial.master.send_signal(signal.SIGTERM)
    assert failure_of(trial) == "terminated by a signal"
    assert trial.workers[0].wait(10) == 0
    assert time.monotonic() - before < 10


def test_a_port_in_use_is_named(make_order: Any, tmp_path: Path, start_trial: Any) -> None:
    port = start_trial(make_order(1)).wait("listening")["port"]
    second = start_master(make_order(1), f"127.0.0.1:{port}", tmp_path, stderr=subprocess.DEVNULL)
    output, _ = second.communicate(timeout=30)
    assert json.loads(output) == {
        "event": "failed",
        "reason": f"the Locust master cannot listen on 127.0.0.1:{port}: the port is in use",
    }


def test_too_few_workers_are_waited_for_and_named(make_order: Any, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text(make_order(1, load_workers=2).to_json())
    argv = [sys.executable, "-m", "workers.load.master", "--order", str(tmp_path / "order.json")]
    argv += ["--bind", "127.0.0.1:0", "--out", str(tmp_path), "--worker-wait-s", "0.3", "--auto-go"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "0 of 2 load workers came within 0.3 s" in json.loads(done.stdout.splitlines()[-1])["reason"]
