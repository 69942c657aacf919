"""The contract suite over a provider of the test's own: what fails is told, and what cannot be asked is no result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from adapters import conformance, registry
from adapters.contract import FEATURES, Artefact, Check, Endpoint, EnvironmentOrder, Provider
from adapters.operating import OperationOrder
from meshgauge.conformance import CheckOutcome, ConformanceResult
from meshgauge.errors import EnvironmentUpError, ServiceUnavailableError, UnsupportedError
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import MeshArm
from meshgauge.operations import OperationRequest
from meshgauge.plan import Profile


class Heard:
    """Implements ``Report``."""

    def __init__(self) -> None:
        self.results: list[ConformanceResult] = []

    def phase(self, name: str) -> None:
        """Take it."""

    def line(self, text: str) -> None:
        """Take it."""

    def conformance(self, result: ConformanceResult) -> None:
        """Keep it."""
        self.results.append(result)


class Mesh:
    """A provider and its only environment, right in everything until a test spoils something."""

    name = "local"

    def __init__(self) -> None:
        self.known = ["2.0.0", "1.9.0"]
        self.left: list[str] = []
        self.up_fails: Exception | None = None
        self.refuses_plaintext = True
        self.content = b"listen 1"
        self.profile = ""
        self.downs = 0

    # The provider.

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:
        return self.known

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        if mesh.placement == "pair":
            return "no metrics" if profile.metrics else None
        return None if profile.name == "plain" else "mtls needs a pair"

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        return {hop.role: dict.fromkeys(FEATURES, "off") for hop in mesh.hops}

    def open(self, order: EnvironmentOrder) -> Any:
        self.profile = order.key.profile.name
        return self

    def sweep(self, place: str, site: str, epoch: int) -> Sequence[str]:
        return self.left

    # The environment.

    def up(self, on_phase: Callable[[str], None]) -> Endpoint:
        if self.up_fails is not None and self.profile == "mtls":
            raise self.up_fails
        return Endpoint("127.0.0.1", 1)

    def verify_before(self) -> Sequence[Check]:
        own = [Check("mtls_handshakes", True, "1", "1"), Check("plaintext", self.refuses_plaintext, "refused", "200")]
        return [Check("reply", True, "200", "200"), *(own if self.profile == "mtls" else [])]

    def verify_after(self, requests_sent: int) -> Sequence[Check]:
        return [Check("requests", True, str(requests_sent), str(requests_sent))]

    def lost_components(self) -> Sequence[str]:
        return []

    def artefacts(self) -> Sequence[Artefact]:
        return [Artefact("proxy.conf", "text/plain", self.content)]

    def provenance(self) -> Mapping[str, Any]:
        return {"binary": "2.0.0"}

    def down(self) -> None:
        self.downs += 1


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """A mesh that keeps its contract."""
    made = Mesh()
    monkeypatch.setattr(registry, "provider", lambda *_: cast(Provider, made))
    monkeypatch.setattr(conformance, "_send", lambda _entry, requests: requests)
    return made


@pytest.fixture
def check(mesh: Mesh, tmp_path: Path) -> Callable[..., tuple[Mapping[str, Any], dict[str, CheckOutcome]]]:
    """A function that runs the suite; returns its summary and the outcome of each check."""

    def run(**fields: Any) -> tuple[Mapping[str, Any], dict[str, CheckOutcome]]:
        request = OperationRequest(action="conformance", adapter="mine", provider="local", **fields)
        heard = Heard()
        order = OperationOrder("op", request, "here", "here.1", 7, tmp_path, tmp_path)
        short = conformance.check_adapter(order, heard)
        return short, {one.name: one.outcome for result in heard.results for one in result.checks}

    return run


Check_ = Callable[..., tuple[Mapping[str, Any], dict[str, CheckOutcome]]]


def test_a_mesh_that_keeps_its_contract_passes_in_the_placement_that_can_the_most(check: Check_, mesh: Mesh) -> None:
    short, outcomes = check()
    assert set(outcomes.values()) == {"pass", "not applicable"}
    assert (outcomes["mtls: mutual TLS"], outcomes["observed: up"]) == ("pass", "not applicable")
    assert short == {"version": "2.0.0", "passed": list(outcomes.values()).count("pass"), "checks": len(outcomes)}
    assert mesh.downs == 4  # two environments, twice each


@pytest.mark.parametrize(
    ("spoilt", "failed"),
    [
        ({"refuses_plaintext": False}, "mtls: plaintext refused"),
        ({"left": ["ended process 7"]}, "nothing left"),
        ({"content": b"-----BEGIN PRIVATE KEY-----"}, "plain: configuration kept"),
        ({"up_fails": EnvironmentUpError("the proxy died")}, "mtls: up"),
    ],
)
def test_what_breaks_the_contract_is_named(check: Check_, mesh: Mesh, spoilt: dict[str, Any], failed: str) -> None:
    for name, value in spoilt.items():
        setattr(mesh, name, value)
    short, outcomes = check()
    assert outcomes[failed] == "fail"
    assert failed in short["failed"]


def test_a_service_that_is_away_is_no_result(check: Check_, mesh: Mesh) -> None:
    mesh.up_fails = ServiceUnavailableError("the index of versions cannot be reached")
    with pytest.raises(ServiceUnavailableError):
        check()
    assert mesh.downs == 4


def test_a_previous_release_line_that_does_not_exist_is_skipped(check: Check_, mesh: Mesh) -> None:
    mesh.known = ["2.0.0"]
    short, outcomes = check(version="previous")
    assert "2.0.0" in short["skipped"]
    assert outcomes == {}


def test_an_adapter_that_can_do_nothing_here_is_unsupported(check: Check_, mesh: Mesh) -> None:
    mesh.unsupported = lambda *_: "not on this host"  # type: ignore[method-assign]
    with pytest.raises(UnsupportedError, match="not on this host"):
        check()
