"""Programs to guard, and looking at what is left of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def cookie() -> str:
    """A value no other process carries in its environment."""
    return f"test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def carriers(cookie: str) -> Iterator[Callable[[], list[int]]]:
    """A function that lists the processes that carry the cookie; whatever is left is killed after the test."""

    def listed() -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environment = (entry / "environ").read_bytes()
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
                if cookie.encode() in environment:
                    found.append(int(entry.name))
        return found

    yield listed
    for pid in listed():
        os.kill(pid, 9)


@pytest.fixture
def eventually() -> Eventually:
    """A function that waits until a condition holds, and fails when it never does."""

    def wait(condition: Callable[[], object], within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    """The argv of a program with every kind of child that likes to escape; it says ``up`` and stays."""
    source = tmp_path / "family.py"
    source.write_text(
        "import os, subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "subprocess.Popen(sleep)\n"
        "subprocess.Popen(sleep, start_new_session=True)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.execv(sleep[0], sleep)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    return [sys.executable, str(source)]
