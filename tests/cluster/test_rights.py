"""The ClusterRole that Meshgauge prints for a mesh is all it takes to bring the mesh in and to leave nothing of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cluster_oracle import everything
from ground import Ground
from plain_client import PlainClient

from adapters import registry
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.charts import ChartStore
from adapters.kubernetes.lifecycle import LifeOrder, MeshLife
from adapters.kubernetes.preflight.roles import cluster_role
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.traces.ledger import Owner
from meshgauge.infrastructures import Cluster as ClusterPlan
from meshgauge.infrastructures import Infrastructure
from meshgauge.plan import BUILT_IN_PROFILES
from meshgauge.selectors import resolve_selector

# Only a real API server weighs one role against another (escalation): the fake is not asked.
pytestmark = pytest.mark.parametrize("ground", [pytest.param("real", marks=pytest.mark.cluster)], indirect=True)

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
MAINTAINED = ("consul", "istio", "istio-ambient", "kuma", "linkerd")

Grant = Callable[[str], None]


@pytest.fixture
def grant(ground: Ground) -> Iterator[Grant]:
    """Return what gives somebody poor the role printed for a mesh, and nothing else; taken back at the end."""
    name = f"meshgauge-test-{secrets.token_hex(4)}"
    poor = PlainClient(ground.poor, ground.context)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    asked = poor.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    poor.close()
    assert asked is not None
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": asked["status"]["userInfo"]["username"]}

    def give(mesh: str) -> None:
        ground.client.post(
            f"{_RBAC}/clusterroles", yaml.safe_load(cluster_role(name, [registry.kubernetes_mesh(mesh)]))
        )
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
        ground.client.post(f"{_RBAC}/clusterrolebindings", {**kind, **binding})

    yield give
    for kind in ("clusterrolebindings", "clusterroles"):
        ground.client.delete(f"{_RBAC}/{kind}/{name}")


@pytest.mark.parametrize("name", MAINTAINED)
def test_who_holds_the_printed_role_installs_upgrades_and_removes(
    ground: Ground, grant: Grant, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(name)
    before = everything(ground.client)
    monkeypatch.setenv("KUBECONFIG", str(ground.poor))
    cluster, helm, mesh = connect(ground.context), backend(), registry.kubernetes_mesh(name)
    versions = ChartStore(helm, tmp_path, ground.charts).versions(mesh)
    owner = Owner(f"test-{secrets.token_hex(4)}", 1, "life")
    there = ClusterPlan(context=ground.context, charts=ground.charts)
    order = LifeOrder(
        owner=owner,
        mesh=mesh,
        version=resolve_selector("previous", versions),
        profile=BUILT_IN_PROFILES["mtls"],
        placement=mesh.placements[0],
        infrastructure=Infrastructure(name="there", provider="kubernetes", cluster=there),
        namespace=ground.namespace,
        has_workload=False,
    )
    life = MeshLife(cluster, helm, order, tmp_path, print)
    try:
        life.preflight()
        life.install()
        life.configure()
        life.upgrade(resolve_selector("latest", versions))
    finally:
        life.uninstall()
        cluster.close()
    assert everything(ground.client) == before
