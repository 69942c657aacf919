"""The real table, every service of it: up, answering, and gone when its supervisor is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx

from coordinator.embedded.processes import processes_of
from coordinator.embedded.state import State
from coordinator.embedded.supervisor import DEFAULT_TABLE


def test_everything_comes_up_answers_and_dies_with_its_supervisor(
    start: Callable[..., State], eventually: Callable[..., None]
) -> None:
    state = start(DEFAULT_TABLE)
    assert {service.name: service.phase for service in state.services} == {
        "postgres": "up",
        "redis": "up",
        "migrations": "done",
        "coordinator": "up",
        "reconciler": "up",
        "worker-control": "up",
        "worker-lifecycle-1": "up",
        "worker-lifecycle-2": "up",
        "worker-load-1": "up",
        "worker-load-2": "up",
    }
    assert state.unhealthy() == ()
    assert httpx.get(f"{state.coordinator_url}/readyz", timeout=10).status_code == 200

    def left() -> list[object]:
        return [*processes_of(state.instance, [Path(home) for home in state.server_dirs])]

    assert len(left()) > 15  # each worker and the coordinator have a child, Postgres several
    os.kill(state.supervisor.pid, signal.SIGKILL)
    eventually(lambda: left() == [], within_s=5.0)
