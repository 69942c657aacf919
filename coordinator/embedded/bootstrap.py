"""`meshgauge up` and `meshgauge down`: starting, finding and ending the supervisor of a data directory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.embedded.detached import DetachedSupervisor
from coordinator.embedded.logfiles import bound_log, last_lines, size_bytes
from coordinator.embedded.places import remove_run_dir
from coordinator.embedded.processes import ProcessId, describe, kill_all, processes_of, send, wait_until_gone
from coordinator.embedded.state import (
    ServicePhase,
    ServiceState,
    State,
    ended,
    log_dir,
    prepare_data_dir,
    read_state,
    running_state,
    write_state,
)
from coordinator.embedded.supervisor import DEFAULT_TABLE, EXIT_LOCKED, exclusive, load_table, supervise
from meshgauge.errors import ConfigurationError, ServiceUnavailableError
from meshgauge.settings import Settings

Report = Callable[[str], None]
"""Called with a short sentence whenever there is something new to show."""

DOWN_LIMIT_S = 120.0
"""Longest a stop may take before it is forced: the services' graces added up stay below it."""

_POLL_S = 0.1
_REMIND_EVERY_S = 5.0
_SWEEP_LIMIT_S = 10.0
_SENTINEL_LIMIT_S = 25.0


@dataclass(frozen=True, slots=True)
class Down:
    """What `down` did. was_running: there was an instance. killed: what did not end by itself."""

    was_running: bool
    killed: tuple[str, ...] = ()


def up(settings: Settings, report: Report, table: str = DEFAULT_TABLE) -> State:
    """Start an instance in the background and wait until it is up; attach when one runs already.

    Returns:
        The state, phase ``up``; ``State.coordinator_url`` is where it answers.

    Raises:
        ConfigurationError: the host or a setting stands in the way.
        ServiceUnavailableError: a service did not come up. Everything started is ended again.
    """
    deadline_s = time.monotonic() + DOWN_LIMIT_S
    while time.monotonic() < deadline_s:
        state = running_state(settings.data_dir)
        if state is not None and state.phase == "stopping":
            report(f"waiting for the last instance to end (supervisor pid {state.supervisor.pid})")
            wait_until_gone([state.supervisor], DOWN_LIMIT_S)
        elif state is not None:
            report(f"an instance runs already (supervisor pid {state.supervisor.pid}); using it")
            return _wait(settings.data_dir, report, state.supervisor.is_alive, lambda: _last_problem(settings.data_dir))
        elif (started := _launch(settings, report, table)) is not None:
            return started
        time.sleep(_POLL_S)
    raise ServiceUnavailableError(
        f"another process holds {settings.data_dir / 'lock'} and starts no instance; "
        f"see who does with fuser, end it, and start again"
    )


def foreground(settings: Settings, table: str = DEFAULT_TABLE) -> int:
    """Run the supervisor in this process until SIGINT or SIGTERM; return its exit code.

    Call it from the main thread of a process that has no other threads (see `spawn`).

    Raises:
        ConfigurationError: the host or a setting stands in the way, or an instance runs already.
    """
    code = supervise(settings, load_table(table))
    if code == EXIT_LOCKED:
        raise ConfigurationError(f"an instance runs already on {settings.data_dir}; end it with: meshgauge down")
    return code


def _launch(settings: Settings, report: Report, table: str) -> State | None:
    """Start a supervisor and wait for its instance; None when another supervisor has the lock."""
    prepare_data_dir(settings.data_dir)
    log = log_dir(settings.data_dir) / "supervisor.log"
    bound_log(log)
    log_start = size_bytes(log)
    earlier = read_state(settings.data_dir)
    report(f"starting Meshgauge on {settings.data_dir}")
    child = DetachedSupervisor()

    def problem() -> str:
        state = read_state(settings.data_dir)
        if state is not None and state.problem and (earlier is None or state.instance != earlier.instance):
            return state.problem
        lines = last_lines(log, 1, log_start)
        return lines[0] if lines else f"the supervisor ended at once; see {log}"

    try:
        child.start(settings, table, log)
        return _wait(settings.data_dir, report, child.is_alive, problem, child.pid)
    except ServiceUnavailableError:
        if child.exit_code == EXIT_LOCKED:
            return None
        raise
    except KeyboardInterrupt:
        child.end(DOWN_LIMIT_S)  # it may have written no state yet by which `down` would find it
        raise


def _wait(
    data_dir: Path, report: Report, is_alive: Callable[[], bool], problem: Callable[[], str], pid: int | None = None
) -> State:
    """Wait until the instance is up, reporting each service as it comes. Recovery may take its time."""
    narrator = _Narrator(report)
    while True:
        lives = is_alive()
        state = running_state(data_dir)
        if state is not None and (pid is None or state.supervisor.pid == pid):
            for service in state.services:
                narrator.tell(service, time.monotonic())
            if state.phase == "up":
                return state
        if not lives:
            raise ServiceUnavailableError(f"Meshgauge did not start: {problem()}")
        time.sleep(_POLL_S)


class _Narrator:
    """Says every change of a service, and now and then what a slow one waits for."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._said: dict[str, tuple[ServicePhase, float]] = {}

    def tell(self, service: ServiceState, now_s: float) -> None:
        phase, said_s = self._said.get(service.name, ("waiting", 0.0))
        is_new = service.phase != phase
        if is_new or (service.phase == "starting" and service.note and now_s - said_s >= _REMIND_EVERY_S):
            self._said[service.name] = (service.phase, now_s)
            with_note = service.note and not (is_new and service.phase == "starting")
            self._report(f"{service.name}: {service.phase}{f' ({service.note})' if with_note else ''}")


def _last_problem(data_dir: Path) -> str:
    state = read_state(data_dir)
    return state.problem if state is not None else ""


def down(settings: Settings, report: Report) -> Down:
    """End the instance of the data directory and see that nothing of it is left.

    Raises:
        ServiceUnavailableError: processes are left that cannot be killed.
    """
    data_dir = settings.data_dir
    state = read_state(data_dir)
    if state is None:
        return Down(was_running=False)
    was_running = state.is_running()
    if was_running:
        report(f"stopping the supervisor (pid {state.supervisor.pid}) and its services")
        _end_supervisor(data_dir, state, report)
    if state.sentinel is not None:
        wait_until_gone([state.sentinel], _SENTINEL_LIMIT_S)
    with exclusive(data_dir) as held:
        if not held:  # a new instance has begun: what works in the data directory now is its own
            return Down(was_running)
        killed = _sweep(state)
        remove_run_dir(Path(state.run_dir))
        write_state(data_dir, ended(read_state(data_dir) or state))
    return Down(was_running or bool(killed), tuple(killed))


def _end_supervisor(data_dir: Path, state: State, report: Report) -> None:
    send(state.supervisor, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_LIMIT_S
    shown: set[str] = set()
    while state.supervisor.is_alive() and time.monotonic() < deadline_s:
        now_state = read_state(data_dir)
        for service in now_state.services if now_state else ():
            if service.phase == "stopped" and service.name not in shown:
                shown.add(service.name)
                report(f"{service.name}: stopped")
        wait_until_gone([state.supervisor], _POLL_S)
    _reap(state.supervisor.pid)
    if state.supervisor.is_alive():
        report(f"it did not end within {DOWN_LIMIT_S:.0f} s; killing it")
        send(state.supervisor, signal.SIGKILL)
        wait_until_gone([state.supervisor], _SWEEP_LIMIT_S)


def _reap(pid: int) -> None:
    """Take the exit code of a supervisor this very process started, so that no zombie stays."""
    with contextlib.suppress(ChildProcessError):  # somebody else's child
        os.waitpid(pid, os.WNOHANG)


def _sweep(state: State) -> list[str]:
    homes = [Path(home) for home in state.server_dirs]

    def find() -> list[ProcessId]:
        return processes_of(state.instance, homes)

    killed = [describe(process) for process in find()]
    if left := kill_all(find, _SWEEP_LIMIT_S):
        names = ", ".join(describe(process) for process in left)
        raise ServiceUnavailableError(f"these processes of Meshgauge could not be ended: {names}; end them by hand")
    return killed
