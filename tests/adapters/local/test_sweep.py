"""Cleaning finds what earlier epochs left on a site, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.local import procfs
from adapters.local.cookie import Cookie
from adapters.local.processes import Command, start, stop_all
from adapters.local.sweep import sweep, sweep_environment

Started = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def site(tmp_path: Path) -> str:
    """A site of this test's own: other tests run on this host too."""
    return f"sweep-{tmp_path.parent.name}-{tmp_path.name}"


@pytest.fixture
def sleeper() -> Iterator[Started]:
    """Start a process with the given variables; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(**variables: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["/bin/sleep", "600"], env=variables, start_new_session=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_older_epochs_are_ended_and_named(site: str, sleeper: Started) -> None:
    old = sleeper(MESHGAUGE_SITE=site, MESHGAUGE_EPOCH="4")
    lines = sweep(site, 5)
    assert [line for line in lines if f" {old.pid}:" in line]
    assert "sleep 600" in lines[0]
    assert old.wait(5) != 0
    assert sweep(site, 5) == []


def test_the_current_epoch_another_site_and_a_bare_setting_are_left_alone(site: str, sleeper: Started) -> None:
    kept = [
        sleeper(MESHGAUGE_SITE=site, MESHGAUGE_EPOCH="5"),
        sleeper(MESHGAUGE_SITE=site, MESHGAUGE_EPOCH="6"),
        sleeper(MESHGAUGE_SITE=site + "-other", MESHGAUGE_EPOCH="1"),
        sleeper(MESHGAUGE_SITE=site),  # a worker's own setting
        sleeper(MESHGAUGE_SITE=site, MESHGAUGE_EPOCH="what"),
    ]
    assert sweep(site, 5) == []
    assert [process.poll() for process in kept] == [None] * 5


def test_the_sweeper_and_its_ancestors_are_spared(site: str) -> None:
    program = "from adapters.local.sweep import sweep; import sys; print(sweep(sys.argv[1], 9))"
    variables = os.environ | {"MESHGAUGE_SITE": site, "MESHGAUGE_EPOCH": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = ["/bin/sh", "-c", '"$0" -c "$1" "$2"; echo alive', sys.executable, program, site]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["[]", "alive"]


def test_what_outlived_its_guard_is_swept(site: str, tmp_path: Path, within: Any) -> None:
    family = (
        "import subprocess, time; subprocess.Popen(['/bin/sleep', '600']); print('ready', flush=True); time.sleep(600)"
    )
    command = Command("family", (sys.executable, "-I", "-S", "-c", family), tmp_path)
    program = start(command, Cookie(site, 1, tmp_path.name))
    assert within(lambda: "ready" in program.log_tail())
    *_, child = program.process_ids()
    os.kill(program.guard_pid, 9)
    assert program.wait(5)
    assert procfs.is_alive(child)
    assert sweep(site, 2)
    assert not procfs.is_alive(child)
    program.stop()


def test_one_environment_can_be_swept_alone(site: str, tmp_path: Path) -> None:
    programs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        programs.append(start(Command(name, ("/bin/sleep", "600"), tmp_path / name), Cookie(site, 1, name)))
    assert len(sweep_environment(site, "one")) == 2  # the guard and its program
    assert [program.wait(1.0) for program in programs] == [True, False]
    stop_all(programs)


def test_a_process_that_wrote_over_its_variables_is_found_by_its_input(site: str, tmp_path: Path, within: Any) -> None:
    """NGINX puts its title where its variables were; here the variables are simply empty."""
    family = "import time; from subprocess import Popen; Popen(['/bin/sleep', '600'], env={}); "
    family += "print('ready', flush=True); time.sleep(600)"
    command = Command("family", (sys.executable, "-I", "-S", "-c", family), tmp_path)
    program = start(command, Cookie(site, 1, tmp_path.name))
    assert within(lambda: "ready" in program.log_tail())
    _, child = program.process_ids()
    assert procfs.environment(child) == {}
    os.kill(program.guard_pid, 9)
    assert program.wait(5)
    assert procfs.is_alive(child)
    assert any(f" {child}:" in line for line in sweep(site, 2))
    assert not procfs.is_alive(child)
    program.stop()
