"""Real embedded servers in data directories of their own, and proof that nothing of them is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.embedded.bootstrap import down, up
from coordinator.embedded.processes import kill_all, processes_of
from coordinator.embedded.state import State, read_state
from meshgauge.settings import Settings

Start = Callable[..., State]
Eventually = Callable[..., None]

SERVERS_ONLY = "coordinator.embedded.services:servers_only"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own MESHGAUGE_* variables must not reach these instances."""
    for name in [name for name in os.environ if name.startswith("MESHGAUGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with an empty data directory, everything else by default."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """A function that brings an instance up and collects what it reports; it is ended after the test."""

    def call(table: str = SERVERS_ONLY, chosen: Settings = settings, said: list[str] | None = None) -> State:
        return up(chosen, (said if said is not None else []).append, table)

    yield call
    down(settings, lambda _sentence: None)
    if (state := read_state(settings.data_dir)) is not None:
        homes = [Path(home) for home in state.server_dirs]
        left = processes_of(state.instance, homes)
        kill_all(lambda: processes_of(state.instance, homes), 5.0)
        assert left == []


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that mounts a disk of so many MiB; skips where that is not permitted."""
    disk = tmp_path / "disk"

    def mount(size_mib: int) -> Path:
        disk.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(disk)]
        if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(argv, check=False).returncode != 0:
            pytest.skip("mounting a tmpfs is not permitted here")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def eventually() -> Eventually:
    """A function that waits until a condition holds, and fails with its name when it never does."""

    def wait(condition: Callable[[], object], within_s: float = 20.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {condition}"
            time.sleep(0.02)

    return wait


@pytest.fixture
def table_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A function that makes a table of services from Python source, for the supervisor process to import."""

    def make(body: str) -> str:
        source = (
            "import signal, sys\n"
            "from coordinator.embedded.service import Restart, Service, StopStep\n"
            "from coordinator.embedded.services import servers_only\n"
            "def python(code):\n"
            "    return (sys.executable, '-c', code)\n"
            f"def table(settings, instance):\n{body}\n"
        )
        (tmp_path / "own_table.py").write_text(source, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "own_table:table"

    return make


@pytest.fixture
def python_argv() -> Callable[[str], tuple[str, ...]]:
    """A function that gives the argv of a small Python program."""
    return lambda code: (sys.executable, "-c", code)
