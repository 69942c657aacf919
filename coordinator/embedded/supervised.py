"""One service in the supervisor's care: started, watched, restarted with growing pauses, stopped step by step."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coordinator.embedded.logfiles import last_lines, size_bytes
from coordinator.embedded.processes import ProcessId, identify
from coordinator.embedded.service import Service
from coordinator.embedded.spawn import start
from coordinator.embedded.state import ServicePhase, ServiceState
from meshgauge.errors import MeshgaugeError

PROBE_EVERY_S = 30.0
"""Time between probes of a service that is up: rare, so that they do not disturb a measurement."""

ALIVE_IS_UP_S = 1.0
"""A service without a probe counts as up once it has lived this long."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all services share: base environment, log folder, working directory."""

    env: Mapping[str, str]
    logs: Path
    cwd: Path


class Supervised:
    """The running side of one line of the table. Times are of the monotonic clock, in seconds."""

    def __init__(self, service: Service, surroundings: Surroundings) -> None:
        self.service = service
        self.phase: ServicePhase = "waiting"
        self.note = ""
        self.deaths = 0
        """Deaths in a row, without a quiet time between them."""
        self.restarts = -1
        self.log = surroundings.logs / f"{service.name}.log"
        self._surroundings = surroundings
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: ProcessId | None = None
        self._since = ""
        self._started_s = 0.0
        self._next_start_s = 0.0
        self._probed_s = 0.0
        self._log_start = 0
        self._stop_step = 0
        self._stop_deadline_s = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether what depends on this service may start."""
        return self.phase in {"up", "unhealthy", "done"}

    @property
    def is_alive(self) -> bool:
        """Whether its main process runs (as of the last look)."""
        return self._process is not None

    def state(self) -> ServiceState:
        """Return what the state file says about it."""
        restarts = max(0, self.restarts)
        return ServiceState(
            self.service.name, self.phase, str(self.log), self._identity, restarts, self._since, self.note
        )

    def advance(self, now_s: float) -> None:
        """Look at the service once: start it when due, notice its death, probe it."""
        if self._process is None:
            if self.phase in {"waiting", "restarting"} and now_s >= self._next_start_s:
                self._start(now_s)
        elif (code := self.reap()) is not None:
            self._ended(code, now_s)
        elif self.phase != "up" or now_s - self._probed_s >= PROBE_EVERY_S:
            self._probe(now_s)

    def _start(self, now_s: float) -> None:
        self._log_start = size_bytes(self.log)
        self._started_s = now_s
        self._probed_s = now_s
        self.restarts += 1
        try:
            env = {**self._surroundings.env, **self.service.env, **self.service.prepare()}
            self._process = start(self.service.argv, env, self.log, self._surroundings.cwd, self.service.parent_death)
        except MeshgaugeError as error:
            self._died(str(error), now_s)
        except (OSError, subprocess.SubprocessError) as error:
            self._died(f"{self.service.argv[0]} cannot be started ({error})", now_s)
        else:
            self._identity = identify(self._process.pid)
            self._enter("starting")

    def _probe(self, now_s: float) -> None:
        self._probed_s = now_s
        alive_s = now_s - self._started_s
        if self.service.kind == "task":
            return
        missing = self._missing(alive_s)
        if missing is None:
            self._enter("up")
        elif self.phase in {"up", "unhealthy"}:
            self._enter("unhealthy", missing)
        else:
            self.note = missing

    def _missing(self, alive_s: float) -> str | None:
        if self.service.ready is None:
            return None if alive_s >= ALIVE_IS_UP_S else "just started"
        try:
            return self.service.ready()
        except (OSError, subprocess.SubprocessError) as error:
            return f"its probe failed ({error})"

    def overdue(self, now_s: float) -> str | None:
        """Return a phrase when the service lives but is not ready in its time, else None."""
        limit_s = self.service.ready_within_s
        if self.phase != "starting" or limit_s is None or now_s - self._started_s < limit_s:
            return None
        return f"was not ready within {limit_s:.0f} s: {self.note or 'it does not end'}"

    def reap(self) -> int | None:
        """Return the exit code of the main process if it ended, after ending the rest of its group."""
        if self._process is None:
            return None
        # Look without reaping: while the leader is a zombie its group id cannot be given to another.
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._process = self._identity = None
        return code

    def _ended(self, code: int, now_s: float) -> None:
        if code == 0 and self.service.kind == "task":
            self._enter("done")
            return
        lines = last_lines(self.log, 1, self._log_start)
        last = f"; its last line: {lines[0][:300]}" if lines else ""
        self._died(f"{exit_phrase(code)}{last}", now_s)

    def _died(self, reason: str, now_s: float) -> None:
        if now_s - self._started_s >= self.service.restart.quiet_s:
            self.deaths = 0
        self.deaths += 1
        self._next_start_s = now_s + self.service.restart.pause_s(self.deaths)
        self._enter("restarting", reason)

    def _enter(self, phase: ServicePhase, note: str = "") -> None:
        if phase != self.phase:
            self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self.phase, self.note = phase, note

    def begin_stop(self, now_s: float) -> None:
        """Send the first stop signal, or mark a service stopped that does not run."""
        if self._process is None:
            self._enter("done" if self.phase == "done" else "stopped", self.note)
            return
        self._stop_step = 0
        self._send_stop(now_s)

    def continue_stop(self, now_s: float, *, hurry: bool) -> bool:
        """Go on stopping; return whether it has ended. ``hurry`` cuts every grace short."""
        if self._process is None:
            return True
        if self.reap() is not None:
            self._enter("stopped")
            return True
        if hurry or now_s >= self._stop_deadline_s:
            self._stop_step += 1
            self._send_stop(now_s)
        return False

    def _send_stop(self, now_s: float) -> None:
        assert self._process is not None  # noqa: S101 - callers looked
        if self._stop_step < len(self.service.stop):
            step = self.service.stop[self._stop_step]
            self._process.send_signal(step.signal)
            self._stop_deadline_s = now_s + step.grace_s
        else:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._stop_deadline_s = now_s + 1.0


def exit_phrase(code: int) -> str:
    """Return "exited with 3" or "was ended by SIGKILL" for a return code of subprocess."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def now() -> float:
    """Return the monotonic clock, in seconds."""
    return time.monotonic()
