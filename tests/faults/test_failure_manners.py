"""What goes wrong is said in one clear sentence, the run goes on with the rest, and nothing is left (issue 2, 13)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_instance import LiveInstance, plan
from live_processes import eventually


def test_a_mesh_that_does_not_come_up_fails_alone_and_says_why(watched: LiveInstance) -> None:
    run_id = watched.submit(plan("[none, {adapter: nginx, binary: /bin/false, label: broken}]"))
    row = watched.finish(run_id)
    broken, fine = sorted(watched.trials(run_id), key=lambda trial: trial.key)
    assert watched.has_answer(fine)
    assert broken.state == "failed"
    assert "/bin/false" in broken.reason
    assert broken.reason in row.reason
    assert len(broken.reason.splitlines()) == 1
    tried = [attempt for attempt in watched.attempts(run_id) if "/bin/false" in (attempt.reason or "")]
    assert len(tried) == 1, "trying again cannot help"
    watched.assert_sound(run_id)


def test_an_unknown_version_is_refused_before_anything_starts(instance: LiveInstance) -> None:
    answer = instance.http.post(
        "/api/v1/runs",
        content=plan("[none, {adapter: nginx, version: 0.0.1}]"),
        headers={"content-type": "application/yaml"},
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "0.0.1" in answer.text
    assert "1.31.3" in answer.text  # what there is instead


@pytest.mark.slow
def test_a_port_in_use_is_named(watched: LiveInstance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = f"[{sys.executable}, -m, http.server, '{port}', --bind, 127.0.0.1]"
        workload = f"{{name: own, health_timeout_s: 3, commands: [{{version: '1.0', command: {command}}}]}}"
        run_id = watched.submit(plan("[none]", profiles="[plain]", workloads=workload))
        row = watched.finish(run_id)
    assert row.state == "failed"
    assert "ddress already in use" in row.reason
    watched.assert_sound(run_id)


@pytest.mark.slow
def test_a_full_disk_under_the_spool_is_said_and_work_goes_on_when_there_is_room(
    watched: LiveInstance, small_spool: Path
) -> None:
    filler = small_spool / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_spool).free - 4096))
    run_id = watched.submit(plan())
    eventually(lambda: any(row.outcome for row in watched.attempts(run_id)), 30, "an attempt ends")
    first = watched.attempts(run_id)[0]
    assert first.outcome == "failed"
    assert "disk" in first.reason
    assert "is full" in first.reason
    assert "free some space" in first.reason
    filler.unlink()
    watched.finish(run_id)
    watched.assert_all_answered(run_id)


@pytest.mark.slow
def test_a_disk_that_fills_in_mid_trial_is_said_and_leaves_nothing_half_written(
    watched: LiveInstance, small_spool: Path
) -> None:
    run_id = watched.submit(plan(window_s=3))
    watched.wait_measuring(run_id)
    filler = small_spool / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_spool).free - 4096))
    eventually(lambda: watched.attempts(run_id)[0].outcome, 30, "the attempt ends")
    assert "is full" in watched.attempts(run_id)[0].reason
    filler.unlink()
    watched.finish(run_id)
    watched.assert_sound(run_id)


@pytest.mark.slow
def test_an_unreachable_postgres_is_a_503_with_a_sentence(instance: LiveInstance) -> None:
    with instance.nothing_restarts():
        instance.kill("postgres")
        answer = instance.http.get("/api/v1/runs")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Postgres" in answer.json()["detail"]
    instance.wait_up()
    eventually(lambda: instance.http.get("/api/v1/runs").status_code == 200, 30)


@pytest.fixture
def small_spool(instance: LiveInstance) -> Iterator[Path]:
    """The instance's spool on a small disk of its own."""
    spool = instance.settings.data_dir / "spool"
    spool.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(spool)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield spool
    instance.cancel_everything()
    subprocess.run(["umount", str(spool)], check=True)
