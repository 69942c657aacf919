"""Processes of an environment: started under a guard, watched, and ended with everything below them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.local import guard, procfs
from adapters.local.cookie import Cookie
from meshgauge.errors import EnvironmentUpError

_GUARD_ANSWERS_WITHIN_S = 20.0
_LOG_TAIL_BYTES = 2000
# All a program needs to find its files and speak one language; nothing of ours leaks into it.
_PASSED_ON = ("PATH", "HOME", "TZ", "USER")


@dataclass(frozen=True, slots=True)
class Command:
    """One program to start.

    Attributes:
        name: of the component, for messages.
        env: added to the few variables passed on and to the cookie.
        directory: where its log goes, and its working directory unless ``working_directory`` says otherwise.
        cpus: cores it may use; empty: all.
        grace_s: time between SIGTERM and SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: Path | None = None
    cpus: tuple[int, ...] = ()
    grace_s: float = 1.0

    @property
    def log_path(self) -> Path:
        """Everything the program writes to stdout and stderr."""
        return self.directory / "output.log"


class Guarded:
    """A running program and the guard above it."""

    def __init__(self, command: Command, guard_process: subprocess.Popen[bytes], pid: int) -> None:
        self.command = command
        self.pid = pid
        self._guard = guard_process
        self._lock = threading.Lock()

    @property
    def guard_pid(self) -> int:
        """The guard's process id: all processes of the program, daemons included, are below it."""
        return self._guard.pid

    def process_ids(self) -> list[int]:
        """Return the living processes of the program, itself included."""
        return [pid for pid in procfs.tree(self._guard.pid)[1:] if procfs.is_alive(pid)]

    def exit_code(self) -> int | None:
        """Return the exit code (256 - n after signal n), or None while it runs."""
        return self._guard.poll()

    def log_tail(self) -> str:
        """Return the end of what the program wrote."""
        return tail(self.command.log_path)

    def describe_end(self) -> str:
        """Return a sentence about how the program ended."""
        code = self.exit_code()
        how = f"was killed by signal {256 - code}" if code is not None and code >= 256 - 64 else f"exited with {code}"
        return f"{self.command.name} {how}; end of {self.command.log_path.name}: {self.log_tail() or '(empty)'}"

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the program; return whether it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout_s)
        return self._guard.poll() is not None

    def ask_to_stop(self) -> None:
        """Send SIGTERM through the guard, which kills what has not gone within its grace."""
        if self._guard.poll() is None:
            self._guard.terminate()

    def stop(self) -> None:
        """End the program and everything below it. Idempotent.

        Raises:
            EnvironmentUpError: it could not be ended.
        """
        with self._lock:
            self.ask_to_stop()
            if not self.wait(self.command.grace_s + 4.0):
                self._close_life_line()
                if not self.wait(5.0):
                    raise EnvironmentUpError(f"{self.command.name} (pid {self.pid}) cannot be ended even by SIGKILL")
            self._close_life_line()

    def _close_life_line(self) -> None:
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()


def start(command: Command, cookie: Cookie) -> Guarded:
    """Start ``command`` under a guard of its own and return once its program runs.

    Raises:
        EnvironmentUpError: the program cannot be executed; says why.
    """
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    env |= {"LC_ALL": "C.UTF-8", "TMPDIR": str(command.directory)} | cookie.variables() | dict(command.env)
    order = {
        "argv": list(command.argv),
        "env": env,
        "cwd": str(command.working_directory or command.directory),
        "log": str(command.log_path),
        "stdin_name": cookie.stdin_name(),
        "cpus": list(command.cpus),
        "grace_s": command.grace_s,
    }
    with command.log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    return Guarded(command, process, _give_order(process, order, command))


def _give_order(process: subprocess.Popen[bytes], order: Mapping[str, object], command: Command) -> int:
    """Hand the order to the guard and return the pid it answers with."""
    assert process.stdin is not None  # noqa: S101 - both were made with PIPE
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # the guard died at once; reading its answer below says so
    readable, _, _ = select.select([process.stdout], [], [], _GUARD_ANSWERS_WITHIN_S)
    line = process.stdout.readline() if readable else b""
    answer = json.loads(line) if line else {"error": f"its guard gave no answer: {tail(command.log_path)}"}
    if "pid" in answer:
        return int(answer["pid"])
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    raise EnvironmentUpError(f"{command.name} cannot be started ({command.argv[0]}): {answer['error']}")


def stop_all(programs: Sequence[Guarded]) -> None:
    """End several programs at the same time.

    Raises:
        EnvironmentUpError: at least one could not be ended; names them all.
    """
    for program in programs:
        program.ask_to_stop()
    failures = []
    for program in programs:
        try:
            program.stop()
        except EnvironmentUpError as error:
            failures.append(str(error))
    if failures:
        raise EnvironmentUpError("; ".join(failures))


def tail(path: Path, limit_bytes: int = _LOG_TAIL_BYTES) -> str:
    """Return the last ``limit_bytes`` of a log as text, on one line per line; empty when there is no such file."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - limit_bytes))
            return log.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def wait_until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.02) -> bool:
    """Poll ``condition`` until it holds; return whether it did within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step_s)
    return True
