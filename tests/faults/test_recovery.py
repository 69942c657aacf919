"""Coordinator, reconciler, workers, the app and load workers lost at any time; two reconcilers; power loss."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_instance import LIFECYCLE, LOAD, LiveInstance, plan
from live_processes import eventually

pytestmark = pytest.mark.slow


def test_all_workers_killed_at_once_and_the_run_finishes(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=2))
    watched.wait_measuring(run_id)
    watched.kill(*LIFECYCLE, *LOAD, "worker-control")
    eventually(lambda: not watched.carriers(), 5.0, "nothing outlives the workers")
    watched.finish(run_id)
    assert [row.outcome for row in watched.attempts(run_id)] == ["lost", "done", "done"]
    watched.assert_all_answered(run_id)


def test_a_worker_asked_to_stop_gives_its_environment_back_uncounted(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=4))
    attempt = watched.wait_measuring(run_id)
    service, _ = watched.holder(attempt)
    os.kill(watched.pid(service), signal.SIGQUIT)
    eventually(lambda: watched.attempts(run_id)[0].outcome, 8, "the attempt ends at once")
    assert watched.attempts(run_id)[0].outcome == "interrupted"
    assert "was asked to stop" in watched.attempts(run_id)[0].reason
    watched.finish(run_id)
    counted = watched.rows("SELECT max(counted_attempts) AS most FROM environment WHERE run_id = :id", id=run_id)
    assert counted[0].most == 1
    watched.assert_all_answered(run_id)


def test_the_control_worker_and_the_reconciler_killed_while_a_lost_site_is_cleaned(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=2))
    attempt = watched.wait_measuring(run_id)
    service, _ = watched.holder(attempt)
    watched.kill(service, "worker-control", "reconciler")
    watched.finish(run_id)
    watched.assert_all_answered(run_id)


def test_the_coordinator_killed_leaves_the_run_alone(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=2))
    watched.wait_measuring(run_id)
    watched.kill("coordinator", "reconciler")
    watched.finish(run_id)
    assert [row.outcome for row in watched.attempts(run_id)] == ["done", "done"]
    watched.assert_all_answered(run_id)


def test_two_reconcilers_do_what_one_does(watched: LiveInstance) -> None:
    with _second_reconciler(watched):
        run_id = watched.submit(plan(blocks=2))
        watched.finish(run_id)
    assert [row.outcome for row in watched.attempts(run_id)] == ["done"] * 4
    ends = watched.rows("SELECT id FROM event WHERE run_id = :id AND kind = 'finished'", id=run_id)
    assert len(ends) == 1
    watched.assert_all_answered(run_id)


@pytest.mark.parametrize("service", LOAD)
def test_a_load_worker_killed_in_mid_trial_is_said(watched: LiveInstance, service: str) -> None:
    run_id = watched.submit(plan(window_s=8, load_workers=2))  # long enough to be hit on a busy host
    watched.wait_measuring(run_id)
    watched.kill(service)
    watched.finish(run_id)
    first = watched.trials(run_id)[0]
    assert first.state == "invalid"
    assert "load" in first.reason
    assert watched.has_answer(watched.trials(run_id)[1])
    watched.assert_sound(run_id)


def test_a_killed_locust_master_is_said(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=3))
    watched.wait_measuring(run_id)
    (master,) = watched.carriers("workers.load.master")
    os.kill(master.pid, signal.SIGKILL)
    watched.finish(run_id)
    first = watched.trials(run_id)[0]
    assert first.state == "invalid"
    assert "Locust master" in first.reason
    assert watched.has_answer(watched.trials(run_id)[1])
    watched.assert_sound(run_id)


def test_a_killed_app_spoils_its_trial_and_is_named(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=3))
    attempt = watched.wait_measuring(run_id, "none")
    (app,) = [c for c in watched.carriers("nginx: master") if c.epoch == attempt.epoch]
    os.kill(app.pid, signal.SIGKILL)
    watched.finish(run_id)
    of_none = next(trial for trial in watched.trials(run_id) if trial.key.startswith("none"))
    assert of_none.state == "invalid"
    assert "app was killed by signal 9" in of_none.reason
    watched.assert_sound(run_id)


def test_everything_killed_at_once_and_started_again_finishes_the_run(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=2))
    watched.wait_measuring(run_id)
    watched.power_loss()
    eventually(lambda: not watched.carriers(), 10.0, "nothing outlives the instance")
    watched.start_again()
    watched.finish(run_id)
    assert [row.outcome for row in watched.attempts(run_id)] == ["lost", "done", "done"]
    watched.assert_all_answered(run_id)


def test_an_instance_taken_down_in_mid_trial_goes_on_when_it_is_up_again(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=4))
    watched.wait_measuring(run_id)
    watched.take_down()
    assert watched.carriers() == []
    watched.start_again()
    watched.finish(run_id)
    first, *others = watched.attempts(run_id)
    assert first.outcome in ("done", "interrupted")  # a worker asked to stop may end what takes no longer than 5 s
    assert {other.outcome for other in others} == {"done"}
    watched.assert_all_answered(run_id)


@contextlib.contextmanager
def _second_reconciler(instance: LiveInstance) -> Iterator[None]:
    """Run another reconciler with the environment of the first."""
    raw = Path(f"/proc/{instance.pid('reconciler')}/environ").read_bytes().decode()
    env = dict(pair.split("=", 1) for pair in raw.split("\0") if pair)
    with (instance.settings.data_dir / "logs" / "second-reconciler.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.reconciler"], env=env, cwd="/", stdout=log, stderr=log
        )
        try:
            time.sleep(1.0)
            assert process.poll() is None
            yield
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(10)
