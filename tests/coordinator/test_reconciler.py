"""The reconciler's loops: they outlive servers that are away, and none is left alone by the other's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.embedded.state import State
from coordinator.notices import tell
from coordinator.reconciler import repeat
from meshgauge.errors import ServiceUnavailableError
from meshgauge.store import channels, notices
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


def test_the_process_sends_notices_and_ends_when_asked(
    servers: State, database_url: str, engine: sa.Engine, hook: str, tmp_path: Path
) -> None:
    with transaction(engine) as connection:
        channels.add(connection, "ci", "webhook", hook, "s", ["gate_failed"])
        tell(connection, "gate_failed", "gate 1", {"subject": "nightly", "answer": "p99 is too high."})
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}
    environment |= {
        "MESHGAUGE_DATABASE_URL": database_url,
        "MESHGAUGE_BROKER_URL": servers.broker_url,
        "MESHGAUGE_DATA_DIR": str(tmp_path),
        "MESHGAUGE_TICK_S": "0.1",
        "MESHGAUGE_NOTIFY_NETWORKS": "127.0.0.0/8",
    }
    argv = [sys.executable, "-m", "coordinator.reconciler"]
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline_s = time.monotonic() + 60
        state = "pending"
        while state == "pending" and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.05)
            with transaction(engine) as connection:
                state = notices.newest(connection, 1)[0].state
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert state == "sent", said
    assert process.returncode == 0
    assert "notice_sent" in said
    assert "of-the-team" not in said
