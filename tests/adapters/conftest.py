"""Real environments for the tests of the local provider: a persistent cache of binaries, plans, and a small client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters import registry
from adapters.contract import Check, Endpoint, EnvironmentOrder, Provider
from adapters.local import procfs
from adapters.local.cookie import cookie_of
from adapters.local.environment import LocalEnvironment
from meshgauge.infrastructures import Infrastructure, Size
from meshgauge.matrix import EnvironmentKey, Hop, MeshArm, Workload
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile
from meshgauge.workloads import CommandVersion
from meshgauge.workloads import Workload as WorkloadSpec

# Sends N requests over K kept-alive connections, says how many it sent, and holds them until stdin closes.
_CLIENT = """
import http.client, sys
host, port, connections, requests, method, body = sys.argv[1:]
pool = [http.client.HTTPConnection(host, int(port), timeout=20) for _ in range(int(connections))]
for number in range(int(requests)):
    connection = pool[number % len(pool)]
    connection.request(method, "/some/path", body=b"x" * int(body) or None)
    reply = connection.getresponse()
    content = reply.read()
    assert reply.status == 200, (reply.status, content[:200])
print(requests, len(content), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The folder where binaries stay between test runs; wheels are up to 40 MB."""
    folder = Path(os.environ.get("MESHGAUGE_TEST_CACHE", Path.home() / ".cache" / "meshgauge-tests"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def provider(cache_dir: Path) -> Provider:
    """The local provider with all adapters of the registry."""
    return registry.provider("local", cache_dir)


@dataclass
class Client:
    """A load generator of a few requests, in a process of its own."""

    process: subprocess.Popen[str]
    requests: int = 0
    reply_bytes: int = 0

    def close(self) -> None:
        """Close its connections and end it."""
        self.process.communicate(timeout=20)


@pytest.fixture
def send() -> Iterator[Callable[..., Client]]:
    """Send requests from a process of its own; it keeps its connections open until it is closed."""
    clients: list[Client] = []

    def start(
        endpoint: Endpoint, requests: int = 120, connections: int = 4, method: str = "GET", body_bytes: int = 0
    ) -> Client:
        argv = [sys.executable, "-I", "-c", _CLIENT, endpoint.host, endpoint.port, connections, requests, method]
        process = subprocess.Popen(
            [*map(str, argv), str(body_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        client = Client(process)
        clients.append(client)
        assert process.stdout is not None
        line = process.stdout.readline().split()
        assert len(line) == 2, process.communicate()[1]
        client.requests, client.reply_bytes = map(int, line)
        return client

    yield start
    for client in clients:
        if client.process.poll() is None:
            client.process.kill()
        client.process.communicate(timeout=20)


@dataclass
class Orders:
    """Makes environments for the test and takes down what it left up."""

    directory: Path
    cache_dir: Path
    provider: Provider
    opened: list[LocalEnvironment] = field(default_factory=list)

    def key(
        self,
        mesh: MeshArm,
        profile: str | Profile = "plain",
        command: CommandVersion | None = None,
        app_threads: int = 1,
        **workload: Any,
    ) -> EnvironmentKey:
        """Return the key of an environment with our own application, unless a command is given."""
        given: dict[str, Any] = {"name": "w", "reply_bytes": 1024, "health_timeout_s": 10.0} | workload
        given |= {"commands": (command,)} if command else {"app": "fixed-reply"}
        chosen = BUILT_IN_PROFILES[profile] if isinstance(profile, str) else profile
        infrastructure = Infrastructure(size=Size(app_threads=app_threads))
        return EnvironmentKey(mesh, chosen, Workload("w", WorkloadSpec(**given), command), infrastructure)

    def open(self, key: EnvironmentKey, **changes: Any) -> LocalEnvironment:
        """Return an environment, not yet up, in a folder of its own."""
        name = uuid.uuid4().hex[:12]
        folder = self.directory / name
        folder.mkdir()
        given: dict[str, Any] = {"site": f"test-{name}", "epoch": 5, "connections": 16, "quiet_host": False}
        given |= {"directory": folder} | changes
        order = EnvironmentOrder(environment_id=name, key=key, cache_dir=self.cache_dir, **given)
        environment = self.provider.open(order)
        assert isinstance(environment, LocalEnvironment)
        self.opened.append(environment)
        return environment


@pytest.fixture
def orders(tmp_path: Path, cache_dir: Path, provider: Provider) -> Iterator[Orders]:
    """Environments of this test; what is still up at its end is taken down."""
    made = Orders(tmp_path, cache_dir, provider)
    yield made
    for environment in made.opened:
        environment.down()


@pytest.fixture(scope="session")
def arm(provider: Provider) -> Callable[..., MeshArm]:
    """Make a mesh arm: one adapter in all places, or two for a mixed pair; no adapter: the baseline."""

    def make(
        *adapters: str, placement: Placement = "pair", version: str | None = None, binary: str | None = None
    ) -> MeshArm:
        roles: tuple[Any, ...] = ("client", "server") if placement == "pair" else (placement,)
        names = adapters * len(roles) if len(adapters) == 1 else adapters
        hops = tuple(
            Hop(
                role,
                name,
                version or (provider.versions(name, Infrastructure())[0] if binary is None else "own"),
                binary,
            )
            for role, name in zip(roles, names, strict=False)
        )
        return MeshArm("-".join(adapters) or "none", placement, hops)

    return make


@pytest.fixture
def failed() -> Callable[..., list[str]]:
    """Return a line for each check that did not pass."""

    def lines(checks: list[Check]) -> list[str]:
        return [f"{check.name}: expected {check.expected}, seen {check.seen}" for check in checks if not check.passed]

    return lines


@pytest.fixture
def processes_of() -> Callable[[str], list[int]]:
    """Return the living processes that carry an environment's cookie."""

    def find(environment_id: str) -> list[int]:
        return [
            pid
            for pid in procfs.all_pids()
            if (cookie := cookie_of(pid)) and cookie.environment_id == environment_id and procfs.is_alive(pid)
        ]

    return find


@pytest.fixture
def within() -> Callable[..., bool]:
    """Wait until something holds, at most so many seconds; return whether it did."""

    def wait(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    return wait
