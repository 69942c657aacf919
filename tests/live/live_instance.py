"""One whole Meshgauge for tests: real servers, workers and data planes, with short leases and a site of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import tempfile
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from live_processes import Carrier, OverlapWatch, carriers, children, eventually

from coordinator.embedded.bootstrap import down, up
from coordinator.embedded.processes import processes_of, send, wait_until_gone
from coordinator.embedded.state import State, read_state
from meshgauge import queue
from meshgauge.errors import ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store.database import connect, transaction

ENDED = ("done", "failed", "cancelled")
LIFECYCLE = ("worker-lifecycle-1", "worker-lifecycle-2")
LOAD = ("worker-load-1", "worker-load-2")
LEASE_S = 6.0


def plan(
    meshes: str = "[none, {adapter: nginx, version: 1.31.3}]",
    *,
    profiles: str = "[mtls]",
    workloads: str = "{name: http-1k, app: fixed-reply, reply_bytes: 1024}",
    window_s: float = 1.0,
    blocks: int = 1,
    load_workers: int = 1,
    rate_rps: int = 200,
) -> str:
    """Return a tiny plan, YAML."""
    return textwrap.dedent(
        f"""\
        name: tiny
        meshes: {meshes}
        profiles: {profiles}
        workloads: {workloads}
        loads: {{rate_rps: {rate_rps}, connections: 4, window_s: {window_s}, warm_up_s: 0.5, cool_down_s: 0.2,
          load_workers: {load_workers}}}
        blocks: {blocks}
        seed: 1
        """
    )


class LiveInstance:
    """An instance and what a test does to it: submit, look, kill."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.site = settings.site
        self.said: list[str] = []
        self._start()

    def _start(self) -> None:
        self.state: State = up(self.settings, self.said.append)
        self.engine = connect(self.state.database_url, pool_size=2)
        self._celery = queue.create_celery(self.state.broker_url)
        self.http = httpx.Client(base_url=self.state.coordinator_url, timeout=60)

    @classmethod
    def settings_in(cls, folder: Path, cache: Path, **changes: Any) -> Settings:
        """Return settings for a data directory in ``folder`` that takes binaries from ``cache``."""
        data = folder / "data"
        data.mkdir(mode=0o700)
        (data / "cache").symlink_to(cache)
        values: dict[str, Any] = {
            "data_dir": data,
            "site": f"test-{secrets.token_hex(4)}",
            "lease_s": LEASE_S,
            "heartbeat_s": 1.0,
            "tick_s": 0.5,
            "redispatch_s": 3.0,
            "quiet_host": "off",  # a calibration takes seconds and measures nothing these tests ask for
        }
        return Settings(**{**values, **changes})

    def close(self) -> None:
        """End the instance and its connections."""
        self.http.close()
        self.engine.dispose()
        down(self.settings, self.said.append)

    # Submitting and looking.

    def submit(self, text: str, key: str | None = None) -> uuid.UUID:
        """Submit a plan over HTTP; return the run's id."""
        headers = {"content-type": "application/yaml", **({"Idempotency-Key": key} if key else {})}
        answer = self.http.post("/api/v1/runs", content=text, headers=headers)
        assert answer.status_code in (200, 201, 202), answer.text
        return uuid.UUID(answer.json()["id"])

    def cancel(self, run_id: uuid.UUID) -> None:
        """Cancel a run over HTTP."""
        answer = self.http.post(f"/api/v1/runs/{run_id}/cancel")
        assert answer.status_code in (200, 202), answer.text

    def rows(self, statement: str, **parameters: Any) -> list[sa.Row[Any]]:
        """Return the rows of a query; waits while Postgres is away."""
        deadline_s = time.monotonic() + 60
        while True:
            try:
                with transaction(self.engine) as connection:
                    return list(connection.execute(sa.text(statement), parameters).all())
            except ServiceUnavailableError:
                assert time.monotonic() < deadline_s
                time.sleep(0.2)

    def run_row(self, run_id: uuid.UUID) -> sa.Row[Any]:
        """Return state and reason of a run."""
        return self.rows("SELECT state, reason, cancel_at, finished_at FROM run WHERE id = :id", id=run_id)[0]

    def trials(self, run_id: uuid.UUID) -> list[sa.Row[Any]]:
        """Return the trials of a run in their order, with the labels of their environments."""
        return self.rows(
            "SELECT t.id, t.state, t.attempt, t.reason, t.cell, e.key, e.state AS environment_state, e.block"
            " FROM trial t JOIN environment e ON e.id = t.environment_id"
            " WHERE t.run_id = :id ORDER BY e.ordinal, t.turn",
            id=run_id,
        )

    def attempts(self, run_id: uuid.UUID) -> list[sa.Row[Any]]:
        """Return all attempts at the environments of a run, in the order they began."""
        return self.rows(
            "SELECT a.environment_id, a.attempt, a.epoch, a.worker, a.phase, a.outcome, a.reason, e.key"
            " FROM environment_attempt a JOIN environment e ON e.id = a.environment_id"
            " WHERE e.run_id = :id ORDER BY a.epoch",
            id=run_id,
        )

    def finish(self, run_id: uuid.UUID, within_s: float = 90.0) -> sa.Row[Any]:
        """Wait for the end of a run; return its row."""
        deadline_s = time.monotonic() + within_s
        while (row := self.run_row(run_id)).state not in ENDED:
            assert time.monotonic() < deadline_s, f"the run did not end within {within_s} s: {self.describe(run_id)}"
            time.sleep(0.2)
        return row

    def describe(self, run_id: uuid.UUID) -> str:
        """Return what is known of a run, for a failing test."""
        sites = self.rows("SELECT * FROM site")
        return f"{self.run_row(run_id)} {self.attempts(run_id)} {sites}"

    def wait_measuring(self, run_id: uuid.UUID, mesh: str = "", within_s: float = 40.0) -> sa.Row[Any]:
        """Wait until the window of a trial (of ``mesh``) is near: its load runs; return its environment's attempt."""

        def current() -> list[sa.Row[Any]]:
            return [
                attempt
                for attempt in self.attempts(run_id)
                if attempt.outcome is None and attempt.key.startswith(mesh) and self._has_progress(run_id, attempt)
            ]

        eventually(current, within_s, f"a trial of {mesh or 'any mesh'} runs")
        return current()[0]

    def _has_progress(self, run_id: uuid.UUID, attempt: sa.Row[Any]) -> bool:
        return bool(
            self.rows(
                "SELECT 1 FROM event WHERE run_id = :id AND kind = 'progress' AND data->>'environment' = :key"
                " AND at > (SELECT started_at FROM environment_attempt"
                " WHERE environment_id = :environment AND attempt = :attempt)",
                id=run_id,
                key=attempt.key,
                environment=attempt.environment_id,
                attempt=attempt.attempt,
            )
        )

    def has_answer(self, trial: sa.Row[Any]) -> bool:
        """Return whether a trial was measured. A busy host may make it invalid: these tests are about other things."""
        summaries = self.rows(
            "SELECT 1 FROM trial_attempt WHERE trial_id = :id AND attempt = :attempt AND summary IS NOT NULL",
            id=trial.id, attempt=trial.attempt,
        )  # fmt: skip
        return trial.state in ("measured", "invalid") and bool(summaries)

    @property
    def redis_url(self) -> str:
        """The broker's address in the words of redis-py."""
        return self.state.broker_url.replace("redis+socket://", "unix://").partition("?")[0]

    def announce_work(self) -> None:
        """Send another hint that an environment may be due."""
        queue.announce(self._celery, queue.WORK, self.site)

    def announce_clean(self) -> None:
        """Send another hint that the site may be dirty."""
        queue.announce(self._celery, queue.CLEAN, self.site)

    def cancel_everything(self) -> None:
        """Cancel what is open and wait until the site is free."""
        for row in self.rows("SELECT id FROM run WHERE finished_at IS NULL"):
            self.cancel(row.id)
            self.finish(row.id)
        if self.rows("SELECT 1 FROM site"):
            self.assert_clean(30)

    # Processes.

    def carriers(self, *words: str) -> list[Carrier]:
        """Return the living processes of environments whose command line has one of ``words`` (all when none)."""
        return [c for c in carriers(self.site) if not words or any(word in c.command for word in words)]

    def pid(self, service: str) -> int:
        """Return the pid of a service's main process, waiting until it has one."""
        found: list[int] = []

        def look() -> bool:
            state = read_state(self.settings.data_dir)
            row = state.service(service) if state else None
            if row and row.process and row.process.is_alive():
                found.append(row.process.pid)
            return bool(found)

        eventually(look, 60, f"{service} runs")
        return found[0]

    def is_up(self, *services: str) -> bool:
        """Return whether services (all when none named) are up again."""
        state = read_state(self.settings.data_dir)
        assert state is not None
        return all(
            service.phase in ("up", "done") and (service.process is None or service.process.is_alive())
            for service in state.services
            if not services or service.name in services
        )

    def wait_up(self, *services: str) -> None:
        """Wait until services are up."""
        eventually(lambda: self.is_up(*services), 120, f"{services or 'everything'} is up")

    def kill(self, *services: str) -> None:
        """Kill -9 the main processes of services; the supervisor starts them again."""
        for pid in [self.pid(service) for service in services]:
            os.kill(pid, signal.SIGKILL)

    def children_of(self, pid: int) -> list[int]:
        """Return the living children of a process."""
        return children(pid)

    def power_loss(self) -> None:
        """Kill -9 everything of the instance at once, the supervisor first."""
        everything = [*processes_of(self.state.instance, [Path(home) for home in self.state.server_dirs])]
        for process in [self.state.supervisor, *everything]:
            send(process, signal.SIGKILL)
        wait_until_gone([self.state.supervisor, *everything], 10)

    def take_down(self) -> None:
        """End the instance politely, as ``meshgauge down`` does."""
        down(self.settings, self.said.append)

    def start_again(self) -> None:
        """Start the instance on the same data."""
        self.engine.dispose()
        self.http.close()
        self._start()

    def holder(self, attempt: sa.Row[Any]) -> tuple[str, int]:
        """Return the service and the pid of the Celery child that holds an attempt."""
        child = int(attempt.worker.rpartition(":")[2])
        service = next(name for name in LIFECYCLE if child in children(self.pid(name)))
        return service, child

    @contextlib.contextmanager
    def nothing_restarts(self) -> Iterator[None]:
        """Hold the supervisor still: what is killed inside stays dead until the end of the block."""
        os.kill(self.state.supervisor.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.state.supervisor.pid, signal.SIGCONT)

    # What must hold whatever happened.

    @contextlib.contextmanager
    def watched(self) -> Iterator[OverlapWatch]:
        """Fail when two environments lived on the site at once during the block."""
        with OverlapWatch(self.site).watching() as watch:
            yield watch
        assert watch.overlaps == []

    def assert_clean(self, within_s: float = 10.0) -> None:
        """Fail unless the site is free, no process of it lives and no folder of it is left."""
        eventually(
            lambda: [row.state for row in self.rows("SELECT state FROM site WHERE name = :s", s=self.site)] == ["free"],
            within_s, "the site is free",
        )  # fmt: skip
        eventually(lambda: self.carriers() == [], within_s, f"nothing is left: {self.carriers()}")
        assert list((self.settings.data_dir / "spool" / self.site).glob("*")) == []
        assert self.runtime_directories() == []

    def runtime_directories(self) -> list[Path]:
        """Return the private folders of environments on our site."""
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
        return list((base / f"meshgauge-{os.getuid()}").glob(f"{self.site}*"))

    def assert_each_counted_once(self, run_id: uuid.UUID) -> None:
        """Fail unless each trial with an answer has exactly one attempt that counts, whose data are complete."""
        answered = [trial for trial in self.trials(run_id) if trial.state in ("measured", "invalid")]
        for trial in answered:
            counting = self.rows(
                "SELECT a.attempt, a.state, a.summary IS NOT NULL AS has_summary,"
                " (SELECT sum(total) FROM histogram h WHERE h.trial_id = a.trial_id AND h.attempt = a.attempt"
                "  AND h.clock = 'net') AS total,"
                " (a.summary->>'requests_total')::bigint AS requests"
                " FROM trial_attempt a WHERE a.trial_id = :id AND a.state IN ('measured', 'invalid')",
                id=trial.id,
            )
            assert [row.attempt for row in counting] == [trial.attempt], (trial, counting)
            if trial.state == "measured":
                assert counting[0].has_summary
                assert counting[0].total > 0
        doubled = self.rows(
            "SELECT u.trial_id, u.attempt, u.component, u.at_s, count(*) FROM usage_sample u"
            " JOIN trial t ON t.id = u.trial_id WHERE t.run_id = :id GROUP BY 1, 2, 3, 4 HAVING count(*) > 1",
            id=run_id,
        )
        assert doubled == []

    def assert_all_answered(self, run_id: uuid.UUID) -> None:
        """Fail unless every trial was measured, once, and the run is sound."""
        assert all(self.has_answer(trial) for trial in self.trials(run_id)), self.describe(run_id)
        self.assert_sound(run_id)

    def assert_sound(self, run_id: uuid.UUID) -> None:
        """Fail unless the run ended with a sentence, everything is counted once and nothing is left."""
        row = self.run_row(run_id)
        assert row.state in ENDED
        assert row.reason
        self.assert_each_counted_once(run_id)
        self.assert_clean()
