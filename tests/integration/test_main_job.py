"""The main job on a real instance: a plan over HTTP, real data planes, numbers in Postgres, a report page."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import pytest
from live_instance import LiveInstance, plan
from live_processes import eventually

from meshgauge.histogram import Histogram

CANCEL_LIMIT_S = 5.0  # reliability.md 5


def test_every_trial_is_measured_and_the_run_says_so(instance: LiveInstance, finished_run: uuid.UUID) -> None:
    trials = instance.trials(finished_run)
    assert sorted(trial.key.split("/")[0] for trial in trials) == ["nginx-1.31.3", "none"]
    row = instance.run_row(finished_run)
    assert row.reason.startswith(("2 measured trials", "1 measured", "2 invalid"))
    assert [attempt.outcome for attempt in instance.attempts(finished_run)] == ["done", "done"]
    instance.assert_all_answered(finished_run)


def test_every_number_of_a_trial_adds_up(instance: LiveInstance, finished_run: uuid.UUID) -> None:
    for trial in instance.trials(finished_run):
        _assert_adds_up(instance, trial.id, trial.attempt)


def test_the_proxies_counted_what_was_sent_and_every_other_check_passed(
    instance: LiveInstance, finished_run: uuid.UUID
) -> None:
    for trial in instance.trials(finished_run):
        checks = _summary(instance, trial.id, trial.attempt).checks
        assert [check for check in checks if not check["passed"]] == []
        names = {check["name"].partition("/")[0] for check in checks}
        expected = {"reply", "mtls_certificate", "connections"} if trial.key.startswith("nginx") else {"no_proxy"}
        assert expected <= names


def test_gates_and_usage_of_every_component_are_stored(instance: LiveInstance, finished_run: uuid.UUID) -> None:
    for trial in instance.trials(finished_run):
        gates = instance.rows("SELECT gate, status, unit, message FROM gate WHERE trial_id = :t", t=trial.id)
        assert {"treatment", "errors"} <= {gate.gate for gate in gates}
        assert all(gate.message for gate in gates)
        usage = instance.rows("SELECT * FROM component_usage WHERE trial_id = :t", t=trial.id)
        assert {"app", "load_generator", "host"} <= {row.component for row in usage}
        assert [row for row in usage if row.cpu_user_s is None or row.cpu_user_s < 0] == []
        at_s = [
            row.at_s
            for row in instance.rows(
                "SELECT at_s FROM usage_sample WHERE trial_id = :t AND component = 'app' ORDER BY at_s", t=trial.id
            )
        ]
        assert len(at_s) == 3  # both edges of a window of 2 s, and the second between
        assert at_s[-1] - at_s[0] == pytest.approx(2.0, abs=0.5)


def test_artefacts_can_be_read_and_hold_no_key(instance: LiveInstance, finished_run: uuid.UUID) -> None:
    listed = instance.http.get(f"/api/v1/runs/{finished_run}/artefacts").json()
    listed = listed if isinstance(listed, list) else next(iter(listed.values()))
    assert any(artefact["name"].endswith(".conf") for artefact in listed)
    for artefact in listed:
        content = instance.http.get(artefact["link"])
        assert content.status_code == 200
        assert len(content.content) == artefact["size_bytes"]
        assert b"PRIVATE KEY" not in content.content


def test_the_report_is_a_page_and_progress_says_it_is_over(instance: LiveInstance, finished_run: uuid.UUID) -> None:
    page = instance.http.get(f"/runs/{finished_run}/report")
    assert page.status_code == 200
    assert "nginx-1.31.3" in page.text
    progress = instance.http.get(f"/api/v1/runs/{finished_run}/progress").json()
    assert progress["run"]["state"] == instance.run_row(finished_run).state


def test_nothing_is_left_on_the_host(instance: LiveInstance, finished_run: uuid.UUID) -> None:
    instance.assert_clean()


def test_two_load_workers_are_merged_exactly(instance: LiveInstance) -> None:
    run_id = instance.submit(plan("[none]", load_workers=2))
    instance.finish(run_id)
    for trial in instance.trials(run_id):
        assert len(_summary(instance, trial.id, trial.attempt).summary["workers"]) == 2
        _assert_adds_up(instance, trial.id, trial.attempt)
        jobs = instance.rows("SELECT DISTINCT worker FROM load_job WHERE trial_id = :t", t=trial.id)
        assert len(jobs) == 2  # two Celery workers drove them
    instance.assert_all_answered(run_id)


def test_a_program_of_the_users_own_is_measured_version_by_version(instance: LiveInstance) -> None:
    command = f"[{sys.executable}, -m, http.server, '{{port}}', --bind, 127.0.0.1]"
    workload = f"{{name: own, health_path: /, path: /, commands: [{{version: '1.0', command: {command}}}]}}"
    run_id = instance.submit(plan("[none]", profiles="[plain]", workloads=workload, rate_rps=50))
    instance.finish(run_id)
    (trial,) = instance.trials(run_id)
    assert "own" in trial.key
    _assert_adds_up(instance, trial.id, trial.attempt)
    instance.assert_all_answered(run_id)


def test_a_run_cancelled_in_mid_trial_is_gone_at_once_and_keeps_what_it_measured(instance: LiveInstance) -> None:
    run_id = instance.submit(plan(window_s=2, blocks=3))
    eventually(lambda: any(instance.has_answer(trial) for trial in instance.trials(run_id)), 60)
    instance.wait_measuring(run_id)
    instance.cancel(run_id)
    eventually(lambda: instance.carriers() == [], CANCEL_LIMIT_S, "everything of the run ends")
    row = instance.finish(run_id)
    assert row.state == "cancelled"
    assert "cancelled by" in row.reason
    states = [trial.state for trial in instance.trials(run_id)]
    assert "cancelled" in states
    assert any(instance.has_answer(trial) for trial in instance.trials(run_id))
    cancelled = instance.attempts(run_id)[-1]
    assert cancelled.outcome == "cancelled"
    kept = instance.rows(
        "SELECT provenance FROM environment_attempt WHERE environment_id = :e", e=cancelled.environment_id
    )
    assert kept[0].provenance["app"]
    instance.assert_sound(run_id)


def test_the_same_plan_twice_with_one_key_is_one_run(instance: LiveInstance) -> None:
    key = uuid.uuid4().hex
    first = instance.submit(plan("[none]"), key)
    assert instance.submit(plan("[none]"), key) == first
    other = instance.http.post(
        "/api/v1/runs",
        content=plan("[none]", blocks=2),
        headers={"content-type": "application/yaml", "Idempotency-Key": key},
    )
    assert other.status_code == 409
    instance.cancel(first)
    instance.finish(first)


def _summary(instance: LiveInstance, trial_id: uuid.UUID, attempt: int) -> Any:
    return instance.rows(
        "SELECT summary, checks FROM trial_attempt WHERE trial_id = :t AND attempt = :a", t=trial_id, a=attempt
    )[0]


def _assert_adds_up(instance: LiveInstance, trial_id: uuid.UUID, attempt: int) -> None:
    """Hold histograms, outcomes and seconds of a trial against one another: each counts the same requests."""
    summary = _summary(instance, trial_id, attempt).summary
    rows = instance.rows(
        "SELECT outcome, clock, total, counts FROM histogram WHERE trial_id = :t AND attempt = :a",
        t=trial_id, a=attempt,
    )  # fmt: skip
    for row in rows:
        assert Histogram.decode(bytes(row.counts)).total == row.total == summary["outcomes"][row.outcome]
    assert sum(row.total for row in rows if row.clock == "net") == summary["done"]
    assert sum(summary["outcomes"].values()) == summary["done"]
    seconds = instance.rows(
        "SELECT count(*) AS seconds, sum(offered) AS offered, sum(sent) AS sent, sum(done) AS done FROM second"
        " WHERE trial_id = :t AND attempt = :a",
        t=trial_id, a=attempt,
    )[0]  # fmt: skip
    assert (seconds.offered, seconds.sent, seconds.done) == (summary["offered"], summary["sent"], summary["done"])
    assert seconds.seconds == summary["window_s"]
    assert summary["requests_total"] >= summary["sent"] > 0
