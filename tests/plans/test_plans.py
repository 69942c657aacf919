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
from adapters.contract import FEATURES, Provider
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
    """A provider, but for the index of packages or charts."""

    def __init__(self, name: str, cache_dir: Path) -> None:
        self.name = name
        self._real = registry.provider(name, cache_dir)
        self._find = registry.local_proxy if name == "local" else registry.kubernetes_mesh

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:
        self._find(adapter)  # raises for an adapter nobody knows
        return [f"1.{minor}.0" for minor in range(40, 30, -1)]

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        return self._real.unsupported(mesh, profile, infrastructure)

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        return self._real.features(mesh, profile)


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    return Planner(Settings(data_dir=tmp_path), lambda name: cast(Provider, RealAdaptersWithoutIndex(name, tmp_path)))


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


def test_six_meshes_of_a_cluster_are_planned_without_one(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    resolved = planner.resolve((PLANS / "cluster-meshes.yaml").read_text(), may_run_programs=False)
    check = check_plan(resolved, planner.settings, cores=2)
    meshes = {hop.adapter for _, hops in check.meshes for hop in hops}
    assert meshes == {"istio", "istio-ambient", "linkerd", "consul", "kuma", "cilium"}
    with_proxies = [key for key in check.features if not key.startswith("none")]
    assert len(with_proxies) == len(meshes)
    for key in with_proxies:
        for told in check.features[key].values():
            assert all(told.get(feature) for feature in FEATURES), key
    assert not [warning for warning in check.warnings if "cores" in warning]  # those of this host say nothing
    assert check.estimate_s > check.trials * (150 + 15)
