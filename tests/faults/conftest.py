"""One whole instance for all faults of a session; after each fault it has to be whole again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_instance import LiveInstance


@pytest.fixture(scope="session")
def shared_instance(tmp_path_factory: pytest.TempPathFactory, wheel_cache: Path) -> Iterator[LiveInstance]:
    """An instance with short leases."""
    live = LiveInstance(LiveInstance.settings_in(tmp_path_factory.mktemp("faults"), wheel_cache))
    yield live
    live.close()


@pytest.fixture
def instance(shared_instance: LiveInstance) -> Iterator[LiveInstance]:
    """The session's instance, with nothing to do; what a failed test left is cancelled before the next."""
    yield shared_instance
    shared_instance.wait_up()
    shared_instance.cancel_everything()


@pytest.fixture
def watched(instance: LiveInstance) -> Iterator[LiveInstance]:
    """The instance under a watch that fails the test when two environments lived on its site at once."""
    with instance.watched():
        yield instance
