"""The guard: whatever happens to the owner, nothing of the work stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers import guard

Carriers = Callable[[], list[int]]
Eventually = Callable[..., None]
MEMBERS = 5  # the guard, the program, its child, its session leader, its daemon


@pytest.fixture
def guarded(
    family: list[str], cookie: str, carriers: Carriers, eventually: Eventually, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A guarded family that is up, all of it."""
    with (tmp_path / "log").open("wb") as log:
        process = guard.start_guarded(family, time.monotonic() + 60, {**os.environ, "COOKIE": cookie}, log)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        eventually(lambda: len(carriers()) == MEMBERS)  # each starts the next
        yield process
    finally:
        guard.stop(process)
        process.stdout.close()


def test_a_closed_pipe_ends_the_whole_family(guarded: subprocess.Popen[bytes], carriers: Carriers) -> None:
    guard.stop(guarded)
    assert carriers() == []


def test_an_owner_that_stops_renewing_loses_its_work(
    guarded: subprocess.Popen[bytes], carriers: Carriers, eventually: Eventually
) -> None:
    guard.extend(guarded, time.monotonic() + 0.3)
    eventually(lambda: carriers() == [])
    assert guarded.wait() != 0
    guard.extend(guarded, time.monotonic() + 60)  # too late, and no error


def test_a_terminated_guard_takes_its_family_along(
    guarded: subprocess.Popen[bytes], carriers: Carriers, eventually: Eventually
) -> None:
    guarded.terminate()
    eventually(lambda: carriers() == [])
    guarded.wait()


def test_a_killed_guard_takes_the_program_along(
    guarded: subprocess.Popen[bytes], carriers: Carriers, eventually: Eventually
) -> None:
    before = carriers()
    guarded.kill()
    guarded.wait()
    # The program dies by PR_SET_PDEATHSIG; its stray children are the site sweep's business.
    eventually(lambda: len(carriers()) == len(before) - 2)


def test_an_owner_killed_with_9_leaves_nothing_within_five_seconds(
    family: list[str], cookie: str, carriers: Carriers, eventually: Eventually, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    source = (
        "import os, sys, time\nfrom workers import guard\n"
        f"process = guard.start_guarded({family!r}, time.monotonic() + 60, os.environ, open({log!r}, 'wb'))\n"
        "print(process.stdout.readline().decode(), flush=True)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "COOKIE": cookie}
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"up\n"
            eventually(lambda: len(carriers()) == MEMBERS + 1)
        finally:
            os.kill(owner.pid, signal.SIGKILL)
    eventually(lambda: carriers() == [], within_s=5.0)


def test_the_exit_code_of_the_work_is_the_guards(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        for code in (0, 3):
            argv = [sys.executable, "-c", f"raise SystemExit({code})"]
            process = guard.start_guarded(argv, time.monotonic() + 60, os.environ, log)
            assert process.wait(20) == code
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.stdout.close()


def test_a_program_with_a_handler_for_sigterm_gets_time_to_tidy_up(tmp_path: Path) -> None:
    tidied = tmp_path / "tidied"
    source = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(tidied)!r}).touch(), sys.exit(0)))\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    )
    with (tmp_path / "log").open("wb") as log:
        process = guard.start_guarded([sys.executable, "-c", source], time.monotonic() + 60, os.environ, log)
    assert process.stdout is not None
    process.stdout.readline()
    guard.stop(process)
    process.stdout.close()
    assert tidied.exists()
