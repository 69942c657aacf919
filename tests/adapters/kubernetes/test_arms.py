"""What a plan's arm means in a cluster, decided without one."""

from __future__ import annotations

from typing import Any

import pytest

from adapters import registry
from adapters.kubernetes.arms import adapter_of, why_unsupported
from meshgauge.infrastructures import Cluster, Infrastructure
from meshgauge.matrix import Hop, MeshArm, Role
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

MTLS = BUILT_IN_PROFILES["mtls"]
PLAIN = BUILT_IN_PROFILES["plain"]


def arm(placement: Placement, *roles: Role, adapter: str = "istio", **hop: Any) -> MeshArm:
    return MeshArm(adapter, placement, tuple(Hop(role, adapter, "1.30.3", **hop) for role in roles))


def reason(one: MeshArm, profile: Profile = PLAIN, **cluster: Any) -> str | None:
    infrastructure = Infrastructure(name="k", provider="kubernetes", cluster=Cluster(**cluster))
    return why_unsupported(one, profile, infrastructure, registry.kubernetes_mesh)


def test_a_pair_of_one_mesh_and_the_baseline_can_run() -> None:
    assert reason(arm("pair", "client", "server"), MTLS) is None
    assert reason(MeshArm("none", "pair", ()), load_from="workers") is None
    assert adapter_of(arm("pair", "client", "server")) == ("istio", "1.30.3")
    assert adapter_of(MeshArm("none", "pair", ())) == ("", "")


def test_two_meshes_do_not_share_a_request() -> None:
    mixed = MeshArm("mixed", "pair", (Hop("client", "istio", "1"), Hop("server", "linkerd", "2")))
    assert "one mesh stands on both sides" in (reason(mixed) or "")


def test_a_binary_is_for_hosts() -> None:
    assert "runs its own images" in (reason(arm("pair", "client", "server", binary="/bin/envoy")) or "")


@pytest.mark.parametrize(
    ("one", "profile", "sentence"),
    [
        (arm("pair", "client", "server"), PLAIN, "needs a proxy beside the load"),
        (arm("client", "client"), PLAIN, "needs a proxy beside the load"),
        (arm("node", "node", adapter="istio-ambient"), MTLS, "strict mtls refuses"),
        (arm("server", "server"), PLAIN, None),
        (arm("node", "node", adapter="cilium"), PLAIN, None),
    ],
)
def test_load_from_celery_workers_comes_from_outside_the_mesh(
    one: MeshArm, profile: Profile, sentence: str | None
) -> None:
    found = reason(one, profile, load_from="workers")
    assert found is None if sentence is None else sentence in (found or "")


def test_what_the_mesh_refuses_is_told_with_its_name() -> None:
    assert (reason(arm("node", "node", adapter="cilium"), MTLS) or "").startswith("cilium: mtls")
