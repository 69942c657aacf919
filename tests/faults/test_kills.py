"""Processes killed with -9 or paused in mid-trial: nothing outlives its owner, and the run finishes all the same."""

from __future__ import annotations

import os
import signal
import time

import pytest
from live_instance import LEASE_S, LiveInstance, plan
from live_processes import Carrier, eventually, is_zombie

ORPHAN_LIMIT_S = 5.0  # issue 2, bars


def test_a_worker_killed_in_mid_trial_leaves_no_proxy_and_the_run_finishes(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=2))
    attempt = watched.wait_measuring(run_id)
    assert watched.carriers("nginx")
    service, _ = watched.holder(attempt)
    watched.kill(service)
    eventually(lambda: not _of_epoch(watched, attempt.epoch), ORPHAN_LIMIT_S, "all processes of the killed worker end")
    watched.finish(run_id)
    lost, *others = watched.attempts(run_id)
    assert lost.outcome == "lost"
    assert f"worker {attempt.worker} stopped renewing its lease" in lost.reason
    assert [other.outcome for other in others] == ["done", "done"]
    watched.assert_all_answered(run_id)


@pytest.mark.slow
def test_a_killed_celery_child_leaves_nothing_and_the_run_finishes(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=2))
    attempt = watched.wait_measuring(run_id)
    _, child = watched.holder(attempt)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not _of_epoch(watched, attempt.epoch), ORPHAN_LIMIT_S)
    watched.finish(run_id)
    assert [row.outcome for row in watched.attempts(run_id)] == ["lost", "done", "done"]
    watched.assert_all_answered(run_id)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["workers.guard", "workers.runner"])
def test_a_killed_guard_or_runner_is_said_and_the_environment_tried_again(watched: LiveInstance, victim: str) -> None:
    run_id = watched.submit(plan(window_s=2))
    attempt = watched.wait_measuring(run_id)
    (pid,) = [
        carrier.pid
        for carrier in _of_epoch(watched, attempt.epoch)
        # The guard's command line names what it guards.
        if f"-m {victim} " in carrier.command.partition("-- ")[0] and "workers.runner" in carrier.command
    ]
    os.kill(pid, signal.SIGKILL)
    watched.finish(run_id)
    first, *others = watched.attempts(run_id)
    assert first.outcome == "failed"
    assert "was killed by SIGKILL" in first.reason
    assert first.reason.startswith("the runner on ")
    assert [other.outcome for other in others] == ["done", "done"]
    watched.assert_all_answered(run_id)


def test_a_worker_paused_beyond_its_lease_is_fenced_and_its_result_kept_unused(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=1))
    attempt = watched.wait_measuring(run_id)
    _, child = watched.holder(attempt)
    os.kill(child, signal.SIGSTOP)
    try:
        eventually(lambda: watched.attempts(run_id)[0].outcome == "lost", LEASE_S + 5, "the lease runs out")
        eventually(lambda: not _of_epoch(watched, attempt.epoch), ORPHAN_LIMIT_S)
    finally:
        os.kill(child, signal.SIGCONT)
    watched.finish(run_id)
    fenced = watched.rows(
        "SELECT a.trial_id, a.attempt, a.summary IS NOT NULL AS kept FROM trial_attempt a JOIN trial t"
        " ON t.id = a.trial_id WHERE t.run_id = :id AND a.state = 'fenced'",
        id=run_id,
    )
    assert [(row.attempt, row.kept) for row in fenced] == [(attempt.attempt, True)]
    eventually(lambda: is_zombie(child), 20, "the zombie worker's child ends by itself")
    watched.assert_all_answered(run_id)


def test_a_proxy_killed_in_mid_trial_spoils_that_trial_only_and_is_named(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=3, profiles="[mtls]"))
    attempt = watched.wait_measuring(run_id, "nginx")
    proxies = [c for c in _of_epoch(watched, attempt.epoch) if "nginx: master" in c.command and "app" not in c.command]
    assert len(proxies) >= 2
    os.kill(proxies[-1].pid, signal.SIGKILL)
    watched.finish(run_id)
    of_nginx = next(trial for trial in watched.trials(run_id) if trial.key.startswith("nginx"))
    assert of_nginx.state == "invalid"
    assert "was killed by signal 9" in of_nginx.reason
    assert "nginx" in of_nginx.reason or "proxy" in of_nginx.reason
    of_none = next(trial for trial in watched.trials(run_id) if trial.key.startswith("none"))
    assert watched.has_answer(of_none)
    watched.assert_sound(run_id)


def test_forty_duplicate_hints_measure_each_trial_once(watched: LiveInstance) -> None:
    run_id = watched.submit(plan())
    for _ in range(20):
        watched.announce_work()
        watched.announce_clean()
        time.sleep(0.05)
    watched.finish(run_id)
    assert [row.outcome for row in watched.attempts(run_id)] == ["done", "done"]
    watched.assert_all_answered(run_id)


def _of_epoch(instance: LiveInstance, epoch: int) -> list[Carrier]:
    return [carrier for carrier in instance.carriers() if carrier.epoch == epoch]
