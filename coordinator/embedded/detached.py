"""Starting the supervisor in the background: a child that outlives the command, and never slips through Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.embedded.logfiles import open_log
from coordinator.embedded.services import variables
from meshgauge.settings import Settings

_POLL_S = 0.1
_REQUESTS_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DetachedSupervisor:
    """A supervisor this process may leave running when it ends (subprocess.Popen would warn about that)."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.exit_code: int | None = None

    def start(self, settings: Settings, table: str, log: Path) -> None:
        """Start it in a session of its own, its output in ``log``.

        A request to end this process waits until the pid is known: else nobody could end what was just started.
        """
        with _requests_to_end_held_back():
            self.pid = _spawn(settings, table, log)

    def is_alive(self) -> bool:
        """Return whether it was started and has not ended."""
        if self.pid is not None and self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.exit_code = os.waitstatus_to_exitcode(status) if pid else None
        return self.pid is not None and self.exit_code is None

    def end(self, limit_s: float) -> None:
        """Ask it to stop all it started, and wait for that."""
        if self.pid is not None and self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + limit_s
        while self.is_alive() and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)


def _spawn(settings: Settings, table: str, log: Path) -> int:
    descriptor = open_log(log)
    argv = [sys.executable, "-m", "coordinator.embedded.supervisor", "--table", table]
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            {**_foreign_environment(), **variables(settings)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, descriptor, 1),
                (os.POSIX_SPAWN_DUP2, descriptor, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(descriptor)


def _foreign_environment() -> dict[str, str]:
    """Return our environment without settings: what the caller decided goes in their place."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MESHGAUGE_")}


@contextmanager
def _requests_to_end_held_back() -> Iterator[None]:
    """Let Ctrl-C and its like take effect only at the end of the block.

    By handlers, not by a signal mask: with a mask here, any other thread (a spinner's) would take the signal, and
    Python would run the handler in this thread all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # no handler runs here, so none can interrupt
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda got, _frame: held.append(got)) for number in _REQUESTS_TO_END}
    try:
        yield
    finally:
        for request, handler in before.items():
            signal.signal(request, handler)
        if held:
            signal.raise_signal(held[0])
