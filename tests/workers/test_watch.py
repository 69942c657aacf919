"""The watcher's deliveries: in order, patient while Postgres is away, over when somebody else holds the site."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.settings import Settings
from meshgauge.store.database import transaction
from meshgauge.trial import MeasuredTrial
from workers import guard, spool
from workers.watch import Watcher
from workers.watching import RunnerWatch, Watched, margin_s
from workers.work import WorkOrder

Away = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def announced() -> list[tuple[str, str]]:
    """What the watcher announced."""
    return []


@pytest.fixture
def order(site_claim: Claim, tmp_path: Path) -> WorkOrder:
    """An order that is never carried out."""
    directory = spool.attempt_directory(tmp_path / "spool", site_claim)
    return WorkOrder(
        str(site_claim.environment_id), 1, "here.0", 1, site_claim.key, "", {}, {}, 1, (), str(directory), "", "", "",
        "auto", quiet_host=False,
    )  # fmt: skip


@pytest.fixture
def watcher(
    engine: sa.Engine, settings: Settings, site_claim: Claim, order: WorkOrder, announced: list[tuple[str, str]]
) -> Watcher:
    """A watcher with nothing to watch yet."""
    return Watcher(settings, engine, site_claim, order, lambda task, row: announced.append((task, row)))


def kinds(engine: sa.Engine) -> list[str]:
    with transaction(engine) as connection:
        rows = connection.execute(sa.text("SELECT kind, data->>'phase' FROM event ORDER BY id"))
        return [phase or kind for kind, phase in rows]


def test_what_waited_for_postgres_arrives_in_order(engine: sa.Engine, watcher: Watcher, postgres_away: Away) -> None:
    with postgres_away():
        for phase in ("install", "workload", "ready"):
            watcher._on_phase(phase)
            watcher._deliver()
    assert len(watcher._deliveries) == 3
    watcher._deliver()
    assert kinds(engine)[-3:] == ["install", "workload", "ready"]


def test_a_measured_trial_survives_a_postgres_that_is_away(
    engine: sa.Engine,
    watcher: Watcher,
    order: WorkOrder,
    trial_id: uuid.UUID,
    failed_trial: MeasuredTrial,
    postgres_away: Away,
) -> None:
    spool.write_measured(spool.trial_directory(Path(order.directory), str(trial_id)), failed_trial)
    with postgres_away():
        watcher._on_trial_started(str(trial_id))
        watcher._on_trial_finished(str(trial_id))
        watcher._deliver()
    watcher._deliver()
    with transaction(engine) as connection:
        row = connection.execute(sa.text("SELECT state, reason FROM trial WHERE id = :id"), {"id": trial_id}).one()
    assert tuple(row) == ("invalid", "the proxy died")


def test_load_jobs_are_announced_after_they_are_stored(
    watcher: Watcher, trial_id: uuid.UUID, announced: list[tuple[str, str]], postgres_away: Away
) -> None:
    with postgres_away():
        watcher._on_load_wanted(str(trial_id), "127.0.0.1:1", 2)
        watcher._deliver()
        assert announced == []
    watcher._deliver()
    assert [task for task, _ in announced] == ["meshgauge.load.drive"] * 2


def test_a_result_that_cannot_be_read_fails_the_attempt_with_a_sentence(watcher: Watcher, trial_id: uuid.UUID) -> None:
    watcher._on_trial_started(str(trial_id))
    watcher._on_trial_finished(str(trial_id))  # nothing lies in the spool
    watcher._deliver()
    assert watcher._failure is not None
    assert watcher._failure.startswith("what was measured could not be stored: ")
    assert "trial.json" in watcher._failure


def test_a_repeated_begin_is_no_fence(engine: sa.Engine, watcher: Watcher, trial_id: uuid.UUID) -> None:
    for _ in range(2):  # the commit's answer was lost, so it is sent again
        watcher._on_trial_started(str(trial_id))
        watcher._deliver()
    assert not watcher._fenced


def test_a_watcher_whose_site_moved_on_announces_nothing_more(
    engine: sa.Engine, watcher: Watcher, trial_id: uuid.UUID, announced: list[tuple[str, str]]
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE site SET epoch = epoch + 1"))
    watcher._on_load_wanted(str(trial_id), "127.0.0.1:1", 1)
    watcher._deliver()
    assert watcher._fenced
    assert announced == []


class Watching(RunnerWatch):
    """Watches a program that speaks of nothing."""

    def _renew(self, connection: sa.Connection) -> bool:
        return False

    def _conclude(self) -> None: ...


def test_temporary_files_of_a_killed_runner_are_gone_with_it(
    engine: sa.Engine, settings: Settings, site_claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    seen = tmp_path / "seen"
    program = (
        "import os, pathlib, signal, sys, tempfile; folder = tempfile.mkdtemp(); "
        "pathlib.Path(sys.argv[1]).write_text(folder); os.kill(os.getpid(), signal.SIGKILL)"
    )
    directory = tmp_path / "attempt"
    directory.mkdir()
    watched = Watched(site_claim.run_id, "here", "worker-1", {}, ("-c", program, str(seen)), directory)
    Watching(settings, engine, watched).run()
    assert seen.read_text()
    assert not Path(seen.read_text()).exists()
    assert not list((tmp_path / "shared").iterdir())


def test_the_work_ends_before_the_lease_does() -> None:
    assert margin_s(60.0) == 15.0  # reliability.md 2
    assert 0 < margin_s(2.0) < 2.0


def test_prints_of_anybody_do_not_disturb_the_events() -> None:
    source = (
        "import os\nfrom workers.work import EventStream\n"
        "events = EventStream.taking_over_stdout()\nprint('noise', flush=True)\nos.system('echo more')\n"
        "events.send('phase', phase='install')\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"event": "phase", "phase": "install"}
    assert done.stderr.split() == [b"noise", b"more"]


@pytest.mark.parametrize(
    ("code", "phrase"),
    [(0, "exited with code 0"), (3, "exited with code 3"), (200, "exited with code 200"), (143, "killed by SIGTERM")],
)
def test_exit_codes_are_said_in_words(code: int, phrase: str) -> None:
    assert phrase in guard.how_it_ended(code)


@pytest.mark.parametrize("code", [-9, 137])
def test_a_sigkill_reminds_of_the_kernel(code: int) -> None:
    assert guard.how_it_ended(code) == "was killed by SIGKILL (as the kernel does when memory runs out)"
