"""The reconciler's loops: they outlive servers that are away, and none is left alone by the other's death."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.embedded.state import State
from coordinator.notices import tell
from coordinator.reconciler import repeat
from meshgauge.errors import ServiceUnavailableError
from meshgauge.store import channels, notices, schema_tracking
from meshgauge.store.database import transaction


def test_a_loop_outlives_a_server_that_is_away() -> None:
    stopped = threading.Event()
    calls = 0

    def do() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            stopped.set()
        raise ServiceUnavailableError("Postgres is away")

    repeat(stopped, 0.001, "tick", do)
    assert calls == 3


def test_a_defect_stops_the_other_loop_too() -> None:
    stopped = threading.Event()

    def do() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        repeat(stopped, 60.0, "tick", do)
    assert stopped.is_set()


@pytest.fixture
def start(servers: State, database_url: str, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Return a function that starts a reconciler in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}
    environment |= {
        "MESHGAUGE_DATABASE_URL": database_url,
        "MESHGAUGE_BROKER_URL": servers.broker_url,
        "MESHGAUGE_DATA_DIR": str(tmp_path),
        "MESHGAUGE_TICK_S": "0.1",
        "MESHGAUGE_NOTIFY_NETWORKS": "127.0.0.0/8",
    }
    argv = [sys.executable, "-m", "coordinator.reconciler"]
    return lambda: subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)


def told(engine: sa.Engine, url: str) -> None:
    with transaction(engine) as connection:
        channels.add(connection, "ci", "webhook", url, "s", ["gate_failed"])
        tell(connection, "gate_failed", "gate 1", {"subject": "nightly", "answer": "p99 is too high."})


def until(process: subprocess.Popen[str], is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def state_of_notice(engine: sa.Engine) -> str:
    with transaction(engine) as connection:
        return notices.newest(connection, 1)[0].state


def test_the_process_sends_notices_and_ends_when_asked(
    start: Callable[[], subprocess.Popen[str]], engine: sa.Engine, hook: str
) -> None:
    told(engine, hook)
    with start() as process:
        until(process, lambda: state_of_notice(engine) == "sent")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "notice_sent" in said
    assert "of-the-team" not in said


def test_killed_while_a_receiver_thinks_it_sends_again_under_the_same_delivery(
    start: Callable[[], subprocess.Popen[str]], engine: sa.Engine
) -> None:
    deliveries: list[str] = []

    class Slow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            deliveries.append(str(self.headers["X-Meshgauge-Delivery"]))
            with contextlib.suppress(OSError):  # whoever asked was killed
                if len(deliveries) == 1:
                    time.sleep(1.0)
                self.send_response(204)
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        told(engine, f"http://127.0.0.1:{server.server_address[1]}/")
        with start() as process:
            until(process, lambda: len(deliveries) == 1)
            process.kill()
        assert state_of_notice(engine) == "pending"
        with transaction(engine) as connection:  # let the claim run out
            connection.execute(sa.update(schema_tracking.notice).values(not_before=sa.func.now()))
        with start() as process:
            until(process, lambda: state_of_notice(engine) == "sent")
            process.terminate()
        server.shutdown()
        serving.join()
    assert len(deliveries) == 2
    assert len(set(deliveries)) == 1
