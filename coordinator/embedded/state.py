"""What runs, as the supervisor writes it to DATA/state.json, and the rules of the data directory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from coordinator.embedded.processes import ProcessId, boot_id
from meshgauge.errors import ConfigurationError

Phase = Literal["starting", "up", "stopping", "stopped", "failed"]
ServicePhase = Literal["waiting", "starting", "up", "unhealthy", "done", "restarting", "failed", "stopped"]

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Least free space for a start: a new Postgres cluster takes 40 MB, its first logs 16-64 MB (operations.md 6)."""

_FORMAT = 1
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as last seen.

    note: what it waits for, or why it died. since: UTC, ISO 8601, when the phase began.
    """

    name: str
    phase: ServicePhase
    log: str
    process: ProcessId | None = None
    restarts: int = 0
    since: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """One instance: its supervisor, where its services answer, how each is.

    server_dirs: data folders of embedded servers, by which a sweep knows their processes.
    database_url and broker_url hold passwords; the file is readable by its owner only.
    problem: one sentence (what, where, what to do) when the phase is ``failed``.
    """

    instance: str
    phase: Phase
    supervisor: ProcessId
    boot: str
    run_dir: str
    coordinator_url: str
    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    server_dirs: tuple[str, ...] = ()
    sentinel: ProcessId | None = None
    problem: str = ""
    services: tuple[ServiceState, ...] = ()

    def is_running(self) -> bool:
        """Return whether the supervisor that wrote this still lives."""
        return self.boot == boot_id() and self.supervisor.is_alive()

    def service(self, name: str) -> ServiceState | None:
        """Return one service's state, or None when the table has no such service."""
        return next((service for service in self.services if service.name == name), None)

    def unhealthy(self) -> tuple[ServiceState, ...]:
        """Return the services that should be up or done and are not."""
        return tuple(service for service in self.services if service.phase not in {"up", "done"})


def state_path(data_dir: Path) -> Path:
    """Return where the supervisor of a data directory writes its state."""
    return data_dir / "state.json"


def log_dir(data_dir: Path) -> Path:
    """Return where the services' output goes."""
    return data_dir / "logs"


def write_state(data_dir: Path, state: State) -> None:
    """Replace the state file in one step: a reader sees the old or the new, never half."""
    path = state_path(data_dir)
    text = json.dumps({"format": _FORMAT, **asdict(state)}, indent=1)
    temporary = path.with_suffix(".json.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    temporary.replace(path)


def read_state(data_dir: Path) -> State | None:
    """Return the last written state, or None when nothing was ever started here.

    Raises:
        ConfigurationError: the file is there and cannot be understood.
    """
    path = state_path(data_dir)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _state(document)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} cannot be read ({error}); if no Meshgauge runs on it, delete that file and start again"
        raise ConfigurationError(message) from error


def _state(document: dict[str, Any]) -> State:
    if document.pop("format") != _FORMAT:
        raise ValueError("it was written by another release")
    document["supervisor"] = ProcessId(**document["supervisor"])
    document["sentinel"] = _process(document["sentinel"])
    services = (ServiceState(**{**item, "process": _process(item["process"])}) for item in document["services"])
    homes = tuple(document["server_dirs"])
    return State(**{**document, "server_dirs": homes, "services": tuple(services)})


def _process(document: dict[str, int] | None) -> ProcessId | None:
    return None if document is None else ProcessId(**document)


def running_state(data_dir: Path) -> State | None:
    """Return the state of the instance that runs on this data directory now, or None."""
    state = read_state(data_dir)
    return state if state is not None and state.is_running() else None


def ended(state: State) -> State:
    """Return a state as it must read after everything in it has ended."""
    services = tuple(
        replace(service, phase="done" if service.phase == "done" else "stopped", process=None)
        for service in state.services
    )
    phase: Phase = "failed" if state.problem else "stopped"
    return replace(state, phase=phase, services=services)


def prepare_data_dir(data_dir: Path, min_free_bytes: int = MIN_FREE_BYTES) -> None:
    """Create the data directory and its folders, private to the user, and see that they can be used.

    Raises:
        ConfigurationError: not writable, somebody else's, or the disk is nearly full.
    """
    advice = "set MESHGAUGE_DATA_DIR to a folder of your own"
    try:
        for folder in (data_dir, log_dir(data_dir), data_dir / "secrets"):
            folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            if folder.stat().st_uid != os.geteuid():
                raise ConfigurationError(f"the data directory {folder} belongs to another user; {advice}")
            folder.chmod(_PRIVATE)
        with tempfile.TemporaryFile(dir=data_dir) as probe:
            probe.write(b"x")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigurationError(f"the data directory {data_dir} cannot be written ({reason}); {advice}") from error
    free_bytes = shutil.disk_usage(data_dir).free
    if free_bytes < min_free_bytes:
        raise ConfigurationError(
            f"the disk under {data_dir} has {free_bytes / 1e6:.0f} MB free and a start needs "
            f"{min_free_bytes / 1e6:.0f} MB; free some space, or {advice} on another disk"
        )
