"""Every shipped plan resolves with the real adapters; their versions come from a list made for the test."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from adapters import registry
from adapters.contract import Provider
from coordinator.plan_check import VERDICT_BLOCKS, check_plan
from coordinator.planner import Planner
from meshgauge.derived import unmeasured
from meshgauge.document import load_plan
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import MeshArm
from meshgauge.plan import Profile
from meshgauge.settings import Settings
from reports.thresholds.selection import held_in

PLANS = Path(__file__).parents[2] / "plans"
FILES = sorted(PLANS.glob("*.yaml"))


class RealAdaptersWithoutIndex:
    """The local provider, but for the package index."""

    name = "local"

    def __init__(self, cache_dir: Path) -> None:
        self._real = registry.provider("local", cache_dir)

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:
        registry.local_proxy(adapter)  # raises for an adapter nobody knows
        return [f"1.{minor}.0" for minor in range(40, 30, -1)]

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        return self._real.unsupported(mesh, profile, infrastructure)

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        return self._real.features(mesh, profile)


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    provider = cast(Provider, RealAdaptersWithoutIndex(tmp_path))
    return Planner(Settings(data_dir=tmp_path), lambda _name: provider)


def test_there_are_plans() -> None:
    assert {file.name for file in FILES} >= {"quickstart.yaml", "data-planes.yaml", "envoy-releases.yaml"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_plan_resolves_and_can_give_verdicts(file: Path, planner: Planner) -> None:
    resolved = planner.resolve(file.read_text(), may_run_programs=True)
    assert resolved.matrix.skipped == ()
    assert resolved.plan.blocks >= VERDICT_BLOCKS
    assert resolved.plan.name == file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_windows_of_a_shipped_plan_are_long_enough_for_its_p99(file: Path, planner: Planner) -> None:
    resolved = planner.resolve(file.read_text(), may_run_programs=True)
    for load in resolved.plan.loads:
        assert load.rate_rps is not None
        assert load.rate_rps * load.window_s >= 10_000


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_readme_names_every_plan(file: Path) -> None:
    assert f"`{file.name}`" in (PLANS / "README.md").read_text()


def test_every_threshold_of_the_release_gate_is_held_against_something(planner: Planner) -> None:
    resolved = planner.resolve((PLANS / "release-gate.yaml").read_text(), may_run_programs=False)
    held = held_in(unmeasured(resolved))
    assert {h.index for h in held} == set(range(len(resolved.plan.thresholds)))
    assert {h.cell.environment.mesh.label for h in held} == {"envoy-1.40.0", "envoy-1.39.0"}


def test_the_quickstart_fits_into_a_demo(planner: Planner) -> None:
    resolved = planner.resolve((PLANS / "quickstart.yaml").read_text(), may_run_programs=False)
    check = check_plan(resolved, planner.settings, cores=2)
    assert [label for label, _ in check.meshes] == [
        "none",
        "envoy-1.40.0",
        "envoy-1.36.0",
        "nginx-1.40.0",
        "haproxy-1.40.0",
    ]
    assert check.trials == 30
    assert check.estimate_s <= 7 * 60  # with the first install (about 2.5 min) below 10 min


def applications() -> list[tuple[str, ...]]:
    plan = load_plan((PLANS / "application-versions.yaml").read_text())
    return [version.command for version in plan.workloads[0].commands]


@pytest.mark.parametrize("command", applications(), ids=["1.0", "2.0"])
def test_the_applications_of_the_example_answer_as_their_plan_says(command: tuple[str, ...], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program, *words = (word.replace("{port}", str(port)).replace("{reply_bytes}", "1024") for word in command)
    assert program == "python3"
    with subprocess.Popen([sys.executable, *words], cwd=tmp_path) as process:
        try:
            connection = _connected(port)
            for _ in range(2):  # the connection is kept
                connection.request("GET", "/hello")
                response = connection.getresponse()
                assert response.status == 200
                assert len(response.read()) == 1024
            connection.close()
        finally:
            process.kill()


def _connected(port: int) -> http.client.HTTPConnection:
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.connect()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return connection
    raise AssertionError("the application does not listen")
