"""`meshgauge doctor`: what of this host is fit to measure on, what is not, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coordinator.embedded.places import choose_port, make_run_dir, remove_run_dir
from coordinator.embedded.postgres import find_bin_dir
from coordinator.embedded.redis import find_server
from coordinator.embedded.state import MIN_FREE_BYTES, running_state
from coordinator.embedded.unprivileged import choose_launch
from meshgauge.errors import MeshgaugeError
from meshgauge.settings import Settings

Status = Literal["ok", "warn", "fail"]

MIN_PYTHON = (3, 11)
QUIET_CORES = 4
"""Below this, generator, proxies and app share cores and results are indicative. Source: measurement.md 6."""

COMFORTABLE_FREE_BYTES = 2 * 1024**3
"""Room for the database, a few releases of five proxies (30-150 MB each) and their rendered artefacts."""

ENGINE_DOCTOR = "workers.load.doctor"
_ENGINE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. sentence: what is so and, unless all is well, what to do."""

    name: str
    status: Status
    sentence: str


def examine(settings: Settings) -> tuple[Check, ...]:
    """Return all checks for this host and these settings, in the order a reader wants them. Changes nothing."""
    questions: Sequence[tuple[str, Callable[[], Check]]] = (
        ("python", lambda: python_check(sys.version_info[:3])),
        ("data directory", lambda: data_dir_check(settings.data_dir)),
        ("disk", lambda: disk_check(settings.data_dir)),
        ("postgres", lambda: postgres_check(settings)),
        ("redis", lambda: redis_check(settings)),
        ("sockets", sockets_check),
        ("port", lambda: port_check(settings)),
        ("load engine", lambda: engine_check(settings)),
        ("cores", lambda: cores_check(len(os.sched_getaffinity(0)))),
        ("real-time scheduling", lambda: realtime_check(may_schedule_fifo())),
        ("instance", lambda: instance_check(settings.data_dir)),
    )
    return tuple(_answer(name, ask) for name, ask in questions)


def worst(checks: Sequence[Check]) -> Status:
    """Return the gravest status among checks: what the command's exit code should say."""
    order: tuple[Status, ...] = ("fail", "warn", "ok")
    return next(status for status in order if status == "ok" or any(check.status == status for check in checks))


def _answer(name: str, ask: Callable[[], Check]) -> Check:
    """Turn an error into the finding it is: its message already says what to do."""
    try:
        return ask()
    except MeshgaugeError as error:
        return Check(name, "fail", str(error))


def python_check(version: tuple[int, ...]) -> Check:
    """Judge the interpreter."""
    shown = ".".join(map(str, version))
    if version < MIN_PYTHON:
        return Check("python", "fail", f"Python {shown} is too old; install 3.11 or newer and make the venv anew")
    return Check("python", "ok", f"Python {shown}")


def data_dir_check(data_dir: Path) -> Check:
    """Judge whether the data directory can be used, without making it."""
    nearest = _nearest_existing(data_dir)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        advice = "set MESHGAUGE_DATA_DIR to a folder of your own"
        return Check("data directory", "fail", f"{data_dir} cannot be written (see {nearest}); {advice}")
    if data_dir.exists() and data_dir.stat().st_uid != os.geteuid():
        sentence = f"{data_dir} belongs to another user; set MESHGAUGE_DATA_DIR to a folder of your own"
        return Check("data directory", "fail", sentence)
    return Check("data directory", "ok", str(data_dir))


def disk_check(data_dir: Path) -> Check:
    """Judge the free space under the data directory."""
    return judge_free_space(shutil.disk_usage(_nearest_existing(data_dir)).free, data_dir)


def judge_free_space(free_bytes: int, data_dir: Path) -> Check:
    """Judge an amount of free space, in bytes."""
    shown = f"{free_bytes / 1e9:.1f} GB free under {data_dir}"
    advice = "free some, or set MESHGAUGE_DATA_DIR to a larger disk"
    if free_bytes < MIN_FREE_BYTES:
        return Check("disk", "fail", f"{shown}, a start needs {MIN_FREE_BYTES / 1e9:.1f} GB; {advice}")
    if free_bytes < COMFORTABLE_FREE_BYTES:
        return Check("disk", "warn", f"{shown}, little for proxies and results; {advice}")
    return Check("disk", "ok", shown)


def _nearest_existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.absolute().parents) if candidate.exists())


def postgres_check(settings: Settings) -> Check:
    """Say which Postgres would be used and how it would be started.

    Raises:
        ConfigurationError: none could be.
    """
    if settings.database_url is not None:
        return Check("postgres", "ok", "the one of MESHGAUGE_DATABASE_URL")
    bin_dir = find_bin_dir(settings.postgres_bin_dir)
    launch = choose_launch(bin_dir / "initdb", settings.data_dir)
    way = f" (root starts it through: {launch.way})" if os.geteuid() == 0 else ""
    return Check("postgres", "ok", f"embedded, programs in {bin_dir}{way}")


def redis_check(settings: Settings) -> Check:
    """Say which Redis-protocol server would be used.

    Raises:
        ConfigurationError: none could be.
    """
    if settings.broker_url is not None:
        return Check("redis", "ok", "the one of MESHGAUGE_BROKER_URL")
    return Check("redis", "ok", f"embedded, program {find_server(settings.redis_server)}")


def sockets_check() -> Check:
    """See that there is a short, private place for sockets.

    Raises:
        ConfigurationError: there is none.
    """
    place = make_run_dir()
    remove_run_dir(place)
    return Check("sockets", "ok", f"private folders under {place.parent}")


def port_check(settings: Settings) -> Check:
    """See that the coordinator's port is free, unless our own coordinator has it.

    Raises:
        ConfigurationError: it is taken, or the address is not one of this host.
    """
    state = running_state(settings.data_dir)
    if state is not None:
        return Check("port", "ok", f"our coordinator answers on {state.coordinator_url}")
    choose_port(settings.listen_host, settings.listen_port)
    wanted = f"{settings.listen_port} is free" if settings.listen_port else "a free port is chosen at the start"
    return Check("port", "ok", f"{settings.listen_host}: {wanted}")


def engine_check(settings: Settings) -> Check:
    """Ask the load room, in a process of its own, which engine works here and why."""
    argv = [sys.executable, "-m", ENGINE_DOCTOR]
    environment = {**os.environ, "MESHGAUGE_LOAD_ENGINE": settings.load_engine}
    try:
        result = subprocess.run(
            argv, capture_output=True, text=True, timeout=_ENGINE_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return Check("load engine", "warn", f"{ENGINE_DOCTOR} gave no answer within {_ENGINE_TIMEOUT_S:.0f} s; run it")
    return judge_engine(result.returncode, result.stdout, result.stderr)


def judge_engine(code: int, output: str, errors: str) -> Check:
    """Judge the load room's answer: one JSON object with ``engine`` ("native" or "python") and ``reason``."""
    try:
        answer = json.loads(output)
        engine, reason = str(answer["engine"]), str(answer["reason"])
    except (ValueError, KeyError, TypeError):
        if f"No module named {ENGINE_DOCTOR}" in errors:
            sentence = "not asked: this installation has no doctor for it; every result names the engine it used"
            return Check("load engine", "warn", sentence)
        last = (errors.strip().splitlines() or output.strip().splitlines() or [f"exit code {code}"])[-1]
        return Check("load engine", "fail", f"no load engine can be used ({last}); install Meshgauge again")
    if engine == "native":
        return Check("load engine", "ok", f"native: {reason}")
    advice = "install gcc (or the ziglang wheel) and Meshgauge again for the native one"
    return Check("load engine", "warn", f"{engine}, slower and less exact: {reason}; {advice}")


def cores_check(cores: int) -> Check:
    """Judge the number of cores this process may use."""
    if cores < QUIET_CORES:
        sentence = f"{cores} cores: generator, proxies and app share them, results are indicative; use {QUIET_CORES}"
        return Check("cores", "warn", f"{sentence} or more for results to quote")
    return Check("cores", "ok", f"{cores} cores: generator, proxies and app get cores of their own")


def may_schedule_fifo() -> bool:
    """Try, in a child that ends at once, whether a real-time priority is permitted."""
    code = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=False, timeout=30)
    return result.returncode == 0


def realtime_check(permitted: bool) -> Check:
    """Judge whether the engine's thread can run before everything else."""
    if permitted:
        return Check("real-time scheduling", "ok", "permitted: the engine's thread is not kept waiting by others")
    advice = "run as root, grant CAP_SYS_NICE, or raise 'ulimit -r'; send lag is measured either way"
    return Check("real-time scheduling", "warn", f"not permitted: other programs can delay the engine; {advice}")


def instance_check(data_dir: Path) -> Check:
    """Say whether an instance runs here and how its services are.

    Raises:
        ConfigurationError: its state file cannot be read.
    """
    state = running_state(data_dir)
    if state is None:
        return Check("instance", "ok", "none runs; start one with: meshgauge up")
    where = f"runs at {state.coordinator_url} (supervisor pid {state.supervisor.pid})"
    if sick := state.unhealthy():
        names = "; ".join(f"{s.name} is {s.phase}{f' ({s.note})' if s.note else ''}, log {s.log}" for s in sick)
        return Check("instance", "warn", f"{where}, but {names}")
    return Check("instance", "ok", where)
