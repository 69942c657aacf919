"""Brings one program of an environment to the point where it serves: ports, start, readiness, retry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapters.contract import Endpoint
from adapters.local import procfs
from adapters.local.cookie import Cookie
from adapters.local.ports import held_ports, is_port_conflict
from adapters.local.processes import Command, Guarded, start, wait_until
from meshgauge.errors import EnvironmentUpError

PORT_TRIES = 4

MakeCommand = Callable[[Path, tuple[Endpoint, ...]], Command]


@dataclass(frozen=True, slots=True)
class Launched:
    """A program that serves on its endpoints; the first is the one for traffic."""

    program: Guarded
    endpoints: tuple[Endpoint, ...]
    directory: Path


def launch(
    *,
    name: str,
    ports: int,
    make_command: MakeCommand,
    is_ready: Callable[[tuple[Endpoint, ...]], bool],
    directory: Path,
    cookie: Cookie,
    ready_within_s: float,
) -> Launched:
    """Start a program on free ports and return once it serves.

    Args:
        make_command: writes what the program needs into the given, existing folder and returns the command.
        is_ready: one quick look.

    Raises:
        EnvironmentUpError: it ended, or was not ready in time, or found its ports taken every time.
    """
    for attempt in range(PORT_TRIES):
        folder = directory if attempt == 0 else directory.with_name(f"{directory.name}-{attempt + 1}")
        folder.mkdir(mode=0o700, parents=True)
        with held_ports(ports) as (endpoints, holders):
            command = make_command(folder, endpoints)
            holders.close()
            program = start(command, cookie)
        problem = _problem(program, partial(is_ready, endpoints), endpoints[0], ready_within_s)
        if problem is None:
            return Launched(program, endpoints, folder)
        conflict = is_port_conflict(problem) or is_port_conflict(program.log_tail())
        program.stop()
        if not conflict:
            raise EnvironmentUpError(problem)
    raise EnvironmentUpError(f"{name} found its ports taken {PORT_TRIES} times in a row: {problem}")


def _problem(program: Guarded, is_ready: Callable[[], bool], serving: Endpoint, within_s: float) -> str | None:
    """Wait for readiness; return what stands in the way, or None when the program serves."""
    wait_until(lambda: program.exit_code() is not None or is_ready(), within_s)
    if program.exit_code() is not None:
        return program.describe_end()
    name = program.command.name
    if not is_ready():
        log = program.log_tail() or "(empty)"
        return f"{name} was not ready on {serving} within {within_s:g} s; end of its log: {log}"
    strangers = set(procfs.listeners(serving)) - set(procfs.socket_inodes(procfs.tree(program.guard_pid)))
    if strangers:
        return f"{name}: address already in use: another process listens on {serving} too"
    return None
