"""The life of every mesh in a cluster: what was there before is there after, and nothing else."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_oracle import everything
from ground import Ground

from adapters import registry
from adapters.kubernetes.api import Cluster
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.charts import ChartStore
from adapters.kubernetes.lifecycle import LifeOrder, MeshLife
from adapters.kubernetes.mesh import KubernetesMesh
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.traces.ledger import Owner
from meshgauge.infrastructures import Cluster as ClusterPlan
from meshgauge.infrastructures import Infrastructure
from meshgauge.plan import BUILT_IN_PROFILES, Profile

# Cilium is the network of a cluster and has to be there: nothing is installed.
INSTALLED = sorted(registry.kubernetes_meshes().keys() - {"cilium"})
MAINTAINED = [name for name in INSTALLED if registry.kubernetes_mesh(name).upkeep == "maintained"]

# The longer lives take a minute each where machines are slow: of the fakes, `make test` lives two of them.
SHORT_FORM = ("istio", "linkerd")
LONGER = [pytest.param(name, marks=() if name in SHORT_FORM else pytest.mark.slow, id=name) for name in MAINTAINED]


@pytest.fixture
def cluster(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Return the product's own connection to the ground."""
    monkeypatch.setenv("KUBECONFIG", str(ground.kubeconfig))
    if ground.has_puppet:  # what does not come up at once never will: say so soon
        monkeypatch.setattr("adapters.kubernetes.lifecycle._READY_S", 30.0)
    found = connect(ground.context)
    yield found
    found.close()


@pytest.fixture
def life_of(ground: Ground, cluster: Cluster, tmp_path: Path) -> Callable[[str, int], MeshLife]:
    """Return what makes the life of a mesh in its newest version, or one before that."""
    site = f"test-{secrets.token_hex(4)}"
    helm = backend()

    def make(name: str, back: int = 0) -> MeshLife:
        mesh = registry.kubernetes_mesh(name)
        version = releases(mesh, ChartStore(helm, tmp_path, ground.charts))[back]
        order = LifeOrder(
            owner=Owner(site, 1, "life"),
            mesh=mesh,
            version=version,
            profile=profile_of(mesh),
            placement=mesh.placements[0],
            infrastructure=Infrastructure(
                name="there", provider="kubernetes", cluster=ClusterPlan(context=ground.context, charts=ground.charts)
            ),
            namespace=ground.namespace,
        )
        return MeshLife(cluster, helm, order, tmp_path, print)

    return make


def releases(mesh: KubernetesMesh, charts: ChartStore) -> list[str]:
    """Return the versions there are, newest first, without those that are not out yet."""
    return [
        version for version in charts.versions(mesh) if not any(word in version for word in ("rc", "alpha", "beta"))
    ]


def profile_of(mesh: KubernetesMesh) -> Profile:
    """Return the profile that asks most, of those the mesh can do."""
    most = Profile(name="most", mtls=True, access_log=True, metrics=True, request_id=True, tracing_ratio=0.01)
    wanted = (most, *(BUILT_IN_PROFILES[name] for name in ("mtls-observed", "mtls", "observed", "plain")))
    return next(profile for profile in wanted if not mesh.unsupported(profile, mesh.placements[0]))


def bring_application(ground: Ground, life: MeshLife) -> None:
    """Put a Service and a pod behind it into the enrolled namespace, as an environment does."""
    labels, enrolment = {"app": "app"}, life.enrolment
    ports = [{"name": "http", "port": 8080, "appProtocol": enrolment.app_service_protocol}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}}
    root = f"namespaces/{ground.namespace}"
    assert ground.client.post(f"/api/v1/{root}/services", {**service, "spec": {"selector": labels, "ports": ports}})
    container = {"name": "app", "image": "example.invalid/app:1"}
    metadata = {"labels": {**enrolment.app_labels, **labels}, "annotations": dict(enrolment.app_annotations)}
    template = {"metadata": metadata, "spec": {"containers": [container]}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    assert ground.client.post(f"/apis/apps/v1/{root}/deployments", {**deployment, "spec": spec})


Make = Callable[..., MeshLife]


@pytest.mark.parametrize("name", INSTALLED)
def test_a_mesh_is_installed_configured_verified_and_leaves_nothing(ground: Ground, life_of: Make, name: str) -> None:
    before = everything(ground.client)
    life = life_of(name)
    try:
        life.preflight()
        life.install()
        life.configure()
        bring_application(ground, life)
        life.settle()
        assert len(everything(ground.client)) > len(before) + 5, "something was installed"
        assert [check for check in life.verify() if not check.passed] == []
    finally:
        life.uninstall()
    assert everything(ground.client) == before


@pytest.mark.parametrize("name", LONGER)
def test_a_mesh_is_upgraded_in_place_and_leaves_nothing(ground: Ground, life_of: Make, name: str) -> None:
    before = everything(ground.client)
    life, newer = life_of(name, 1), life_of(name, 0)
    try:
        life.install()
        life.configure()
        bring_application(ground, life)
        life.settle()
        life.upgrade(newer.mesh_order.version)
        assert [check for check in life.verify() if not check.passed] == []
        assert life.provenance()["mesh"]["version"] == newer.mesh_order.version
    finally:
        life.uninstall()
    assert everything(ground.client) == before


@pytest.mark.parametrize("name", LONGER)
def test_a_mesh_leaves_what_a_neighbour_had_there_before(ground: Ground, life_of: Make, name: str) -> None:
    space = f"{ground.namespace}-neighbour"
    ground.client.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": space}}
    ground.client.post(f"/api/v1/namespaces/{space}/configmaps", theirs)
    eventually(lambda: ground.client.get(f"/api/v1/namespaces/{space}/configmaps/kube-root-ca.crt"))
    before = everything(ground.client)
    life = life_of(name)
    try:
        life.install()
        life.configure()
    finally:
        life.uninstall()
    after = everything(ground.client)
    ground.client.delete(f"/api/v1/namespaces/{space}")
    eventually(lambda: not ground.client.get(f"/api/v1/namespaces/{space}"))  # the next test must not see it go
    assert after == before


def eventually(true: Callable[[], object], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.1)
