"""One whole instance for the session, and the main job done on it once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_instance import LiveInstance, plan


@pytest.fixture(scope="session")
def shared_instance(tmp_path_factory: pytest.TempPathFactory, wheel_cache: Path) -> Iterator[LiveInstance]:
    """An instance that measures for real, on a site of its own."""
    live = LiveInstance(LiveInstance.settings_in(tmp_path_factory.mktemp("main-job"), wheel_cache))
    yield live
    live.close()


@pytest.fixture
def instance(shared_instance: LiveInstance) -> Iterator[LiveInstance]:
    """The session's instance; what a failed test left is cancelled before the next."""
    yield shared_instance
    shared_instance.cancel_everything()


@pytest.fixture(scope="session")
def finished_run(shared_instance: LiveInstance) -> uuid.UUID:
    """A run of no mesh against NGINX with mutual TLS, submitted over HTTP and over."""
    run_id = shared_instance.submit(plan(window_s=2))
    shared_instance.finish(run_id)
    return run_id
