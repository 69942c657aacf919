"""The state file and the rules of the data directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.embedded.processes import ProcessId, boot_id, identify
from coordinator.embedded.state import (
    MIN_FREE_BYTES,
    ServiceState,
    State,
    prepare_data_dir,
    read_state,
    running_state,
    state_path,
    write_state,
)
from meshgauge.errors import ConfigurationError


@pytest.fixture
def state() -> State:
    """A state whose supervisor is this test."""
    own = identify(os.getpid())
    assert own is not None
    services = (ServiceState("postgres", "up", "/x/postgres.log", own, 2, "2026-11-23T00:00:00+00:00", "note"),)
    return State(
        "abc", "up", own, boot_id(), "/run/x", "http://127.0.0.1:1", "postgresql://u:hush@/d", "redis://:hush@h",
        server_dirs=("/a", "/b"), sentinel=own, services=services,
    )  # fmt: skip


def test_what_is_written_is_read_back_whole_and_private(state: State, tmp_path: Path) -> None:
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert state_path(tmp_path).stat().st_mode & 0o777 == 0o600
    assert running_state(tmp_path) == state


def test_a_state_of_another_boot_or_of_a_reused_pid_does_not_run(state: State, tmp_path: Path) -> None:
    write_state(tmp_path, replace(state, boot="another"))
    assert running_state(tmp_path) is None
    reused = ProcessId(state.supervisor.pid, state.supervisor.start_ticks - 1)
    write_state(tmp_path, replace(state, supervisor=reused))
    assert running_state(tmp_path) is None


def test_passwords_do_not_show_when_a_state_is_printed(state: State) -> None:
    assert "hush" not in repr(state)


def test_no_state_is_none_and_a_broken_one_is_said(tmp_path: Path) -> None:
    assert read_state(tmp_path / "nothing") is None
    state_path(tmp_path).write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"state.json cannot be read .* delete that file"):
        read_state(tmp_path)


def test_unhealthy_names_the_services_that_should_be_up_and_are_not(state: State) -> None:
    sick = ServiceState("redis", "restarting", "/x/redis.log")
    done = ServiceState("migrations", "done", "/x/migrations.log")
    assert replace(state, services=(*state.services, sick, done)).unhealthy() == (sick,)


def test_the_data_directory_is_private_and_its_parents_are_left_as_they_are(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o755)
    data_dir = parent / "data"
    data_dir.mkdir(mode=0o755)
    prepare_data_dir(data_dir)
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert (data_dir / "logs").stat().st_mode & 0o777 == 0o700
    assert parent.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in data_dir.iterdir()) == ["logs", "secrets"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another user's folder")
def test_a_data_directory_of_another_user_is_not_taken(tmp_path: Path) -> None:
    data_dir = tmp_path / "theirs"
    data_dir.mkdir()
    os.chown(data_dir, 65534, 65534)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        prepare_data_dir(data_dir)


def test_a_nearly_full_disk_is_said_with_what_is_free_and_what_is_needed(disk_of: Callable[[int], Path]) -> None:
    small_disk = disk_of(1)
    with pytest.raises(ConfigurationError, match=r"has \d MB free and a start needs 268 MB; free some space"):
        prepare_data_dir(small_disk / "data")
    assert MIN_FREE_BYTES > 1024 * 1024


def test_a_full_disk_is_said_as_such(disk_of: Callable[[int], Path]) -> None:
    small_disk = disk_of(1)
    prepare_data_dir(small_disk / "data", min_free_bytes=0)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "data" / "filler").write_bytes(b"x" * 2_000_000)
    with pytest.raises(ConfigurationError, match=r"MB free and a start needs|No space left on device"):
        prepare_data_dir(small_disk / "data")
