"""Programs to guard, and looking at what is left of them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.embedded.state import State
from meshgauge.claim import Claim
from meshgauge.document import load_plan
from meshgauge.matrix import expand
from meshgauge.resolved import ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.settings import Settings
from meshgauge.store import leases, runs
from meshgauge.store.database import connect, transaction
from meshgauge.trial import MeasuredTrial

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def cookie() -> str:
    """A value no other process carries in its environment."""
    return f"test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def carriers(cookie: str) -> Iterator[Callable[[], list[int]]]:
    """A function that lists the processes that carry the cookie; whatever is left is killed after the test."""

    def listed() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environment = (entry / "environ").read_bytes()
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
                if cookie.encode() in environment:
                    found.append(int(entry.name))
        return found

    yield listed
    for pid in listed():
        os.kill(pid, 9)


@pytest.fixture
def eventually() -> Eventually:
    """A function that waits until a condition holds, and fails when it never does."""

    def wait(condition: Callable[[], object], within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    """The argv of a program with every kind of child that likes to escape; it says ``up`` and stays."""
    source = tmp_path / "family.py"
    source.write_text(
        "import os, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "subprocess.Popen(sleep)\n"
        "subprocess.Popen(sleep, start_new_session=True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.execv(sleep[0], sleep)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    return [sys.executable, str(source)]


PLAN = """
name: tiny
meshes: [none]
workloads: {name: small, app: fixed-reply, reply_bytes: 10}
loads: {rate_rps: 100, window_s: 1, warm_up_s: 0.5}
blocks: 2
seed: 1
"""


@pytest.fixture
def site_claim(engine: sa.Engine) -> Claim:
    """A claimed environment with one trial, of a run of two, on site ``here``."""
    plan = load_plan(PLAN)
    arms = resolve_arms(plan, {"none": ()}.__getitem__)
    resolved = ResolvedPlan(PLAN, plan, arms, expand(plan, arms, lambda *_: None), 1, {})
    with transaction(engine) as connection:
        submission = runs.Submission(resolved, "key", "tester", 1.0, {})
        runs.submit(connection, submission, lambda _infrastructure: "here")
        connection.execute(sa.text("UPDATE site SET state = 'free'"))
        claim = leases.claim_next(connection, "here", "worker-1", "host", 60.0)
    assert claim is not None
    return claim


@pytest.fixture
def trial_id(engine: sa.Engine, site_claim: Claim) -> uuid.UUID:
    """The only trial of the claimed environment."""
    with transaction(engine) as connection:
        query = sa.text("SELECT id FROM trial WHERE environment_id = :id")
        found: uuid.UUID = connection.execute(query, {"id": site_claim.environment_id}).scalar_one()
    return found


@pytest.fixture
def failed_trial(trial_id: uuid.UUID) -> MeasuredTrial:
    """The answer of a trial that gave no numbers."""
    check = {"name": "reply", "passed": False, "expected": "200", "seen": "503"}
    return MeasuredTrial(str(trial_id), "invalid", "the proxy died", None, (), (), (), (check,))


@pytest.fixture
def postgres_away(servers: State, engine: sa.Engine) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A function whose result, used as a context, keeps everybody out of the test's database."""

    @contextlib.contextmanager
    def away() -> Iterator[None]:
        admin = connect(servers.database_url, pool_size=1)
        name = engine.url.database

        def admit(admitted: bool) -> None:
            with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {admitted}'))
                connection.execute(
                    sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                    {"name": name},
                )

        admit(False)
        try:
            yield
        finally:
            admit(True)
            admin.dispose()

    return away


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with short leases and a data directory of the test's own."""
    return Settings(data_dir=tmp_path / "data", site="here", lease_s=2.0, heartbeat_s=0.2)
