"""Targets with known behaviour, and engines driven against them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workers.load.engine.choice import open_engine
from workers.load.engine.contract import Counts, Engine, EngineName, Schedule, SecondTally, Target, WindowTally
from workers.load.engine.library import OVERRIDE
from workers.load.order import LoadOrder

REQUEST = b"GET / HTTP/1.1\r\nHost: target\r\n\r\n"
ROOT = Path(__file__).resolve().parents[3]


def _load_compiler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("engine_compiler", ROOT / "_build" / "engine_compiler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def engine_compiler() -> ModuleType:
    """The build's compiler module."""
    return _load_compiler()


@pytest.fixture(scope="session", autouse=True)
def _engine_of_this_source(engine_compiler: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Test the C source as it is now, warnings being errors; where no compiler is, what was installed."""
    import os  # noqa: PLC0415

    command = engine_compiler.compiler(os.environ)
    if os.environ.get(OVERRIDE) or command is None:
        yield
        return
    library = tmp_path_factory.mktemp("engine") / "libmgengine.so"
    sources = sorted(str(path) for path in (ROOT / "workers/load/engine").glob("*.c"))
    subprocess.run([*command, *engine_compiler.FLAGS, "-Werror", "-o", str(library), *sources, "-lm"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OVERRIDE, str(library))
        yield


@dataclass
class RunningTarget:
    """A target process."""

    port: int
    process: subprocess.Popen[str]

    def counts(self) -> dict[str, Any]:
        """What it has seen so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        return report

    def end(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start_target() -> Iterator[Callable[..., RunningTarget]]:
    """Start targets; keyword arguments are fields of target_server.Behaviour."""
    running: list[RunningTarget] = []

    def start(**behaviour: Any) -> RunningTarget:
        script = Path(__file__).with_name("target_server.py")
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(behaviour)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        running.append(RunningTarget(int(process.stdout.readline()), process))
        return running[-1]

    yield start
    for target in running:
        target.end()


@pytest.fixture(params=["native", "python"])
def engine_name(request: pytest.FixtureRequest) -> EngineName:
    """Both engines, one behaviour."""
    name: EngineName = request.param
    return name


@dataclass(frozen=True)
class Drive:
    """A finished run of one engine."""

    counts: Counts
    window: WindowTally
    seconds: list[SecondTally]

    def p(self, clock: Any, p: float, outcome: Any = "ok") -> float:
        """A quantile in ms."""
        value_ns = self.window.histograms[(outcome, clock)].quantile_ns(p)
        assert value_ns is not None
        return value_ns / 1e6


def await_end(engine: Engine, timeout_s: float = 30.0) -> list[SecondTally]:
    """Wait until the engine is done; return its seconds."""
    seconds, deadline = [], time.monotonic() + timeout_s
    while engine.counts().state not in ("finished", "failed", "stopped"):
        assert time.monotonic() < deadline, engine.counts()
        seconds += engine.finished_seconds()
        time.sleep(0.02)
    return seconds + engine.finished_seconds()


def await_open(engine: Engine, connections: int) -> None:
    """Wait until connections are up or have failed."""
    deadline = time.monotonic() + 10
    while (counts := engine.counts()).connections_open < connections and not counts.connect_failures:
        assert time.monotonic() < deadline, counts
        time.sleep(0.005)


@pytest.fixture
def drive(engine_name: EngineName) -> Callable[..., Drive]:
    """Drive an engine through one schedule against a port."""

    def run(
        port: int,
        *,
        rate_rps: float | None = 500.0,
        kind: Any = "uniform",
        window_s: float = 0.5,
        warm_up_s: float = 0.0,
        cool_down_s: float = 0.0,
        connections: int = 8,
        request: bytes = REQUEST,
        expected_status: int = 200,
        expected_body_bytes: int | None = 1024,
        timeout_s: float = 5.0,
        engine: Engine | None = None,
        **more: Any,
    ) -> Drive:
        target = Target(
            "127.0.0.1",
            port,
            request,
            request.startswith(b"HEAD"),
            connections,
            expected_status,
            expected_body_bytes,
            timeout_s,
            more.pop("requests_per_connection", None),
        )
        engine = engine or open_engine(engine_name, target)
        try:
            engine.set_connections(connections)
            await_open(engine, connections)
            start_ns = time.monotonic_ns() + 5_000_000
            engine.begin(schedule(start_ns, rate_rps, kind, window_s, warm_up_s, cool_down_s, **more))
            seconds = await_end(engine)
            return Drive(engine.counts(), engine.window(), seconds)
        finally:
            engine.close()

    return run


def schedule(
    start_ns: int,
    rate_rps: float | None,
    kind: Any,
    window_s: float,
    warm_up_s: float = 0.0,
    cool_down_s: float = 0.0,
    **more: Any,
) -> Schedule:
    """A schedule from lengths."""
    window_start_ns = start_ns + round(warm_up_s * 1e9)
    window_end_ns = window_start_ns + round(window_s * 1e9)
    end_ns = window_end_ns + round(cool_down_s * 1e9)
    return Schedule(kind, rate_rps, more.pop("seed", 1), start_ns, window_start_ns, window_end_ns, end_ns, **more)


@pytest.fixture
def make_schedule() -> Callable[..., Schedule]:
    """Build schedules from lengths."""
    return schedule


@pytest.fixture
def open_connections() -> Callable[[Engine, int], None]:
    """Ask an engine for connections and wait for them."""

    def ask(engine: Engine, connections: int) -> None:
        engine.set_connections(connections)
        await_open(engine, connections)

    return ask


@pytest.fixture
def make_order() -> Callable[..., LoadOrder]:
    """Build orders; keyword arguments replace fields."""

    def make(port: int, **fields: Any) -> LoadOrder:
        plain: dict[str, Any] = {
            "trial_id": "t",
            "target_host": "127.0.0.1",
            "target_port": port,
            "method": "GET",
            "path": "/",
            "host_header": "target",
            "headers": {},
            "body_bytes": 0,
            "expected_status": 200,
            "expected_body_bytes": 1024,
            "rate_rps": 400.0,
            "connections": 8,
            "arrival": "poisson",
            "burst_requests": 10,
            "ramp_from_rps": None,
            "warm_up_s": 0.5,
            "window_s": 1.2,
            "cool_down_s": 0.2,
            "timeout_s": 2.0,
            "requests_per_connection": None,
            "seed": 7,
        }
        return LoadOrder(**{**plain, **fields})

    return make
