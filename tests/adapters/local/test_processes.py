"""Processes of an environment start, are watched, and never outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.local import procfs
from adapters.local.cookie import Cookie
from adapters.local.processes import Command, Guarded, start, stop_all
from meshgauge.errors import EnvironmentUpError

PYTHON = (sys.executable, "-I", "-S", "-c")

# A program that makes a child, a child in a session of its own, a daemon (double fork) and one with an empty
# environment: the five kinds of reference/operations.md 4.
FAMILY = """
import os, subprocess, time
sleep = ["/bin/sleep", "600"]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)
subprocess.Popen(sleep, env={})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sleep[0], sleep)
    os._exit(0)
os.wait()
print("ready", flush=True)
time.sleep(600)
"""

# An owner as a worker would be one: starts the program given on its command line, says so, and waits to be killed.
OWNER = """
import sys, threading, time
from pathlib import Path
from adapters.local.cookie import Cookie
from adapters.local.processes import Command, start
directory, environment, *argv = sys.argv[1:]
started = []
def begin():
    started.append(start(Command("family", tuple(argv), Path(directory)), Cookie("owner-test", 3, environment)))
thread = threading.Thread(target=begin)  # the forking thread ends at once; that alone must kill nothing
thread.start()
thread.join()
print(started[0].guard_pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def cookie(tmp_path: Path) -> Cookie:
    """A cookie nobody else carries."""
    return Cookie("process-test", 3, f"{tmp_path.parent.name}-{tmp_path.name}")


@pytest.fixture
def run(tmp_path: Path, cookie: Cookie) -> Iterator[Callable[..., Guarded]]:
    """Start a guarded program; it is ended with the test."""
    started: list[Guarded] = []

    def begin(*argv: str, **options: Any) -> Guarded:
        directory = tmp_path / f"program-{len(started)}"
        directory.mkdir()
        started.append(start(Command("program", argv, directory, **options), cookie))
        return started[-1]

    yield begin
    stop_all(started)


def test_output_exit_code_and_end_are_told(run: Any) -> None:
    program = run(*PYTHON, "import sys; print('hello'); print('trouble', file=sys.stderr); sys.exit(7)")
    assert program.wait(10)
    assert program.exit_code() == 7
    assert program.log_tail() == "hello\ntrouble" or program.log_tail() == "trouble\nhello"
    assert "exited with 7" in program.describe_end()
    assert "trouble" in program.describe_end()


def test_a_signal_is_named_in_the_end(run: Any) -> None:
    program = run("/bin/sleep", "600")
    os.kill(program.pid, signal.SIGKILL)
    assert program.wait(10)
    assert "killed by signal 9" in program.describe_end()


def test_a_program_that_cannot_be_executed_is_a_clear_error(tmp_path: Path, cookie: Cookie) -> None:
    for argv, reason in (((str(tmp_path / "absent"),), "No such file"), ((str(tmp_path),), "Permission denied")):
        with pytest.raises(EnvironmentUpError, match=reason) as caught:
            start(Command("proxy", argv, tmp_path), cookie)
        assert argv[0] in str(caught.value)


def test_the_environment_is_explicit_and_carries_the_cookie(
    run: Any, cookie: Cookie, monkeypatch: pytest.MonkeyPatch, within: Any
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "x")
    program = run("/bin/sleep", "600", env={"GIVEN": "yes"})
    variables = procfs.environment(program.pid)
    assert "SECRET_OF_THE_WORKER" not in variables
    assert variables["GIVEN"] == "yes"
    assert cookie.variables().items() <= variables.items()
    assert cookie.variables().items() <= procfs.environment(program.guard_pid).items()


def test_a_program_keeps_to_its_cores(run: Any) -> None:
    core = min(os.sched_getaffinity(0))
    program = run("/bin/sleep", "600", cpus=(core,))
    assert os.sched_getaffinity(program.pid) == {core}


def test_stopping_ends_everything_below_even_what_escaped(run: Any, cookie: Cookie, within: Any) -> None:
    program = run(*PYTHON, FAMILY)
    assert within(lambda: "ready" in program.log_tail())
    family = program.process_ids()
    assert len(family) == 5
    program.stop()
    program.stop()
    assert [pid for pid in family if procfs.is_alive(pid)] == []


def test_a_program_that_ignores_sigterm_is_ended_too(run: Any, within: Any) -> None:
    program = run(
        *PYTHON, "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    assert within(lambda: "deaf" in program.log_tail())
    program.stop()
    assert not procfs.is_alive(program.pid)


def test_when_the_program_ends_its_daemons_end_with_it(run: Any, within: Any) -> None:
    program = run(*PYTHON, FAMILY)
    assert within(lambda: "ready" in program.log_tail())
    family = program.process_ids()
    os.kill(program.pid, signal.SIGKILL)
    assert within(lambda: not any(map(procfs.is_alive, family)), 5.0)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that owns a guarded family; returns it and the guard's pid."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", OWNER, str(tmp_path), tmp_path.name, *PYTHON, FAMILY]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    guard_pid = int(process.stdout.readline())
    yield process, guard_pid
    process.kill()
    process.communicate()


def _family_of(guard_pid: int, directory: Path, within: Any) -> list[int]:
    assert within(lambda: "ready" in (directory / "output.log").read_text())
    family = procfs.tree(guard_pid)[1:]
    assert len(family) == 5
    return family


def test_kill_9_of_the_owner_leaves_nothing_within_5_s(owner: Any, tmp_path: Path, within: Any) -> None:
    process, guard_pid = owner
    family = _family_of(guard_pid, tmp_path, within)
    process.kill()
    assert within(lambda: not any(map(procfs.is_alive, [guard_pid, *family])), 5.0)


def test_the_end_of_the_thread_that_started_a_program_does_not_end_it(owner: Any, tmp_path: Path, within: Any) -> None:
    _, guard_pid = owner
    family = _family_of(guard_pid, tmp_path, within)
    assert all(map(procfs.is_alive, [guard_pid, *family]))


def test_kill_9_of_the_guard_ends_the_program_itself(owner: Any, tmp_path: Path, within: Any) -> None:
    process, guard_pid = owner
    family = _family_of(guard_pid, tmp_path, within)
    os.kill(guard_pid, signal.SIGKILL)
    assert within(lambda: not procfs.is_alive(family[0]), 5.0)
    for pid in family:  # what escaped PDEATHSIG is the sweep's; see test_sweep
        if procfs.is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    assert process.poll() is None
