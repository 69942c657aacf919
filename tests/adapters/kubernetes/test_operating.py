"""Operations in a cluster: a mesh that stays until it is removed, one that was cut off, and a cluster cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import stand_in_charts
from fake_api import FakeCluster
from puppet import Puppet, living_cluster

from adapters.contract import Check, Endpoint, Environment
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.traces.ledger import ledgers
from adapters.kubernetes.traces.sweep import sweep
from adapters.operating import OperationOrder, carry_out
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import ConfigurationError, MeshgaugeError
from meshgauge.matrix import EnvironmentKey
from meshgauge.operations import OperationRequest

SITE = "kubernetes.test"


class Heard:
    """Implements ``Report``; keeps what it was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.lines: list[str] = []
        self.results: list[ConformanceResult] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def conformance(self, result: ConformanceResult) -> None:
        self.results.append(result)


def look_only(environment: Environment, entry: Endpoint, key: EnvironmentKey) -> Sequence[Check]:
    """Implement ``Drive`` where no process runs: look, and send nothing."""
    return [*environment.verify_before(), *environment.verify_after(0)]


class Operator:
    """Carries out operations one after the other, each under the next epoch, with a sweep between, as workers do."""

    def __init__(self, cluster: FakeCluster, charts: Path, folder: Path) -> None:
        self.cluster, self.charts, self.folder = cluster, charts, folder
        self.epoch = 1
        self.heard = Heard()

    def do(self, action: str, adapter: str | None = "linkerd", **fields: Any) -> Mapping[str, Any]:
        """Carry out one operation; return its result."""
        self.epoch += 2
        self.heard = Heard()
        directory = self.folder / str(self.epoch)
        directory.mkdir()
        where = {"context": self.cluster.name, "charts": str(self.charts)}
        request = OperationRequest(action=action, adapter=adapter, cluster=where, **fields)  # type: ignore[arg-type]
        order = OperationOrder(
            f"operation-{self.epoch}", request, "kubernetes", SITE, self.epoch, directory, self.folder, "meshgauge:1"
        )
        return carry_out(order, self.heard, look_only)

    def sweep(self) -> list[str]:
        """Remove what is left, as the cleaning after each operation does."""
        cluster = connect(self.cluster.name)
        try:
            return sweep(cluster, backend(), SITE, self.epoch + 1)
        finally:
            cluster.close()

    def standing(self) -> list[tuple[str, str]]:
        """Return (mesh, version) of all that was installed to stay."""
        cluster = connect(self.cluster.name)
        try:
            found = [ledger for ledger in ledgers(cluster, SITE) if ledger.stays]
            return [(ledger.undertaking.mesh, ledger.undertaking.version) for ledger in found]
        finally:
            cluster.close()


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of charts of our own making."""
    return stand_in_charts.write(tmp_path_factory.mktemp("charts"))


@pytest.fixture
def alive() -> Iterator[tuple[FakeCluster, Puppet]]:
    """A cluster where pods seem to run."""
    with living_cluster() as both:
        yield both


@pytest.fixture
def operator(
    alive: tuple[FakeCluster, Puppet], stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    """Somebody who works on that cluster."""
    monkeypatch.setenv("KUBECONFIG", str(alive[0].kubeconfig))
    return Operator(alive[0], stand_ins, tmp_path)


def test_a_mesh_stays_until_it_is_uninstalled(operator: Operator) -> None:
    made = operator.do("install", version="previous", profile="mtls")
    assert operator.heard.phases == ["preflight", "install", "configure"]
    assert operator.sweep() == []
    assert operator.standing() == [("linkerd", made["version"])]
    verified = operator.do("verify", profile="mtls")
    assert set(verified["checks"]) == {"releases", "control_plane", "configuration"}
    assert "failed" not in verified
    upgraded = operator.do("upgrade", version="latest", profile="mtls")
    assert upgraded["from"] == made["version"] != upgraded["version"]
    assert operator.standing() == [("linkerd", upgraded["version"])]
    assert "failed" not in operator.do("verify", profile="mtls")
    operator.do("configure", profile="mtls-observed")
    operator.do("uninstall")
    assert operator.standing() == []
    assert operator.sweep() == []
    assert operator.do("clean", None, dry_run=True) == {"found": []}


def test_a_second_installation_is_refused_and_the_first_stays(operator: Operator) -> None:
    operator.do("install", profile="mtls")
    with pytest.raises(ConfigurationError, match="linkerd"):
        operator.do("install", profile="mtls")
    operator.sweep()
    assert len(operator.standing()) == 1


def test_what_was_not_installed_cannot_be_changed(operator: Operator) -> None:
    for action in ("configure", "verify", "upgrade", "uninstall"):
        with pytest.raises(ConfigurationError, match="meshgauge mesh install linkerd"):
            operator.do(action)


def test_an_installation_that_fails_is_swept_away(
    operator: Operator, alive: tuple[FakeCluster, Puppet], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive[1].hold("linkerd/*", "ImagePullBackOff")
    monkeypatch.setattr("adapters.kubernetes.lifecycle._READY_S", 5.0)
    with pytest.raises(MeshgaugeError, match="linkerd"):
        operator.do("install", profile="mtls")
    assert operator.standing() == []
    assert operator.sweep() != []
    alive[1].release("linkerd/*")
    assert operator.sweep() == []
    assert operator.do("clean", None, dry_run=True) == {"found": []}


def test_clean_lists_first_and_then_removes_even_what_was_meant_to_stay(operator: Operator) -> None:
    operator.do("install", profile="mtls")
    listed = operator.do("clean", None, dry_run=True)["found"]
    assert any("meant to stay" in line for line in listed)
    assert len(operator.standing()) == 1
    assert operator.do("clean", None)["removed"]
    assert operator.standing() == []
    assert operator.do("clean", None) == {"removed": []}


def test_the_contract_suite_believes_nothing_that_no_process_proves(operator: Operator) -> None:
    told = operator.do("conformance")
    (result,) = operator.heard.results
    outcomes = {check.name: check.outcome for check in result.checks}
    assert result.infrastructure == "kubernetes 1.34.1"
    for name in ("versions", "features", "mtls: up", "mtls: down", "upgrade in place", "nothing left"):
        assert outcomes[name] == "pass", name
    assert outcomes["plain: up"] == "not applicable"  # Linkerd encrypts whatever passes between two of its proxies
    # Pods only seem to run here: no proxy counts, and plaintext is let in.
    for name in ("mtls: counters", "mtls: mutual TLS", "mtls: plaintext refused"):
        assert outcomes[name] == "fail", name
    assert not result.passed
    assert "mtls: mutual TLS" in told["failed"]
    assert operator.sweep() == []
