"""Before anything is made, everything that stands in the way is told at once, with what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fake_api import FakeCluster
from fake_rights import Rule

from adapters.kubernetes.api import Cluster, Manifest, Permission
from adapters.kubernetes.gateway_api import Found
from adapters.kubernetes.mesh import KubernetesMesh, MeshOrder
from adapters.kubernetes.meshes import ambient, cilium, consul, istio, linkerd
from adapters.kubernetes.preflight.capacity import Room
from adapters.kubernetes.preflight.judgement import Ask, Facts, judge, preflight
from adapters.kubernetes.preflight.permissions import OPTIONAL, PROVIDER
from adapters.kubernetes.traces.inventory import Inventory
from adapters.kubernetes.traces.ledger import Ledger, Owner, Undertaking, begin
from meshgauge.infrastructures import Cluster as ClusterPlan
from meshgauge.infrastructures import Infrastructure, Size
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

_OWNER = Owner("site.1", 4, "env-1")
_ROOMS = [Room("n1", {"role": "app"}, 4.0, 2**34, 100), Room("n2", {"role": "load"}, 4.0, 2**34, 100)]
_FINE = Facts("1.34.1", (), rooms=_ROOMS)


def _ask(mesh: KubernetesMesh | None = istio.MESH, version: str = "1.30.3", load_workers: int = 0, **plan: Any) -> Ask:
    size = Size(**plan.pop("size", {}))
    infrastructure = Infrastructure(name="k", provider="kubernetes", size=size, cluster=ClusterPlan(**plan))
    charts = dict.fromkeys(("base", "istiod", "cni", "ztunnel", "consul", "cilium", "linkerd-control-plane"), version)
    order = MeshOrder(version, charts, BUILT_IN_PROFILES["mtls"], "pair", "bench", {})
    return Ask(_OWNER, infrastructure, mesh, order if mesh else None, load_workers)


def _problem(facts: Facts, ask: Ask) -> str:
    (problem,) = judge(facts, ask).problems
    return problem


def _life(cluster: Cluster, owner: Owner, *, stays: bool) -> Ledger:
    return Ledger(cluster, owner, Undertaking("istio", "1.30.3"), Inventory({}), stays=stays)


def _pod(name: str, namespace: str, **labels: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_a_cluster_that_fits_has_no_problems() -> None:
    assert not judge(_FINE, _ask(load_workers=2)).problems
    assert not judge(_FINE, _ask(None)).problems


def test_missing_rights_are_all_named_in_one_sentence() -> None:
    lacking = (Permission("", "pods", ("create", "list")), Permission("apps", "deployments", ("patch",)))
    problem = _problem(Facts("1.34.1", lacking), _ask())
    assert "create, list pods; patch deployments.apps" in problem
    assert "meshgauge adapters rbac" in problem


def test_optional_rights_are_notes_that_say_what_goes_missing() -> None:
    verdict = judge(replace(_FINE, lacking_optional=tuple(OPTIONAL)), _ask())
    assert not verdict.problems
    assert len(verdict.notes) == len(OPTIONAL)
    assert any("nodes/proxy" in note and "metrics.k8s.io" in note for note in verdict.notes)


@pytest.mark.parametrize("version", ["1.20.4", "1.20.4-gke.100", "1.20.4+k3s1"])
def test_an_old_cluster_is_refused_with_what_the_mesh_needs(version: str) -> None:
    problem = _problem(replace(_FINE, version=version), _ask())
    assert version in problem
    assert istio.MESH.needs("1.30.3").kube in problem


def test_a_vendors_suffix_is_no_other_version() -> None:
    assert not judge(replace(_FINE, version="1.34.1-eks-113cf36"), _ask()).problems


def test_a_mesh_somebody_else_installed_is_refused_by_name(cluster: Cluster) -> None:
    facts = replace(_FINE, control_planes=(("istio-system", "istiod-7"),), releases=(("istiod", "istio-system"),))
    problem = _problem(facts, _ask())
    assert "not by Meshgauge (pod istiod-7 in namespace istio-system, Helm release istiod" in problem


def test_crds_somebody_else_left_are_refused_as_charts_would_fail_on_them() -> None:
    problem = _problem(replace(_FINE, crds=("sidecars.networking.istio.io",)), _ask())
    assert "1 CRDs of Istio" in problem


def test_a_mirror_without_the_gateway_api_is_in_the_way_of_meshes_that_read_it() -> None:
    assert _problem(replace(_FINE, no_bundle="it is not there"), _ask()) == "it is not there"


def test_a_mesh_that_has_to_be_there_is_missed(cluster: Cluster) -> None:
    ask = _ask(cilium.MESH, "1.20.0")
    assert "is not in this cluster" in _problem(_FINE, ask)
    assert not judge(replace(_FINE, control_planes=(("kube-system", "cilium-operator-1"),)), ask).problems


def test_a_mesh_that_was_installed_to_stay_has_to_be_uninstalled_first(cluster: Cluster) -> None:
    life = _life(cluster, Owner("site.1", 2, "op-7"), stays=True)
    problem = _problem(replace(_FINE, lives=(life,), control_planes=(("istio-system", "istiod-7"),)), _ask())
    assert "istio 1.30.3 of op-7" in problem
    assert "meshgauge mesh uninstall" in problem


def test_another_life_that_has_not_ended_is_in_the_way(cluster: Cluster) -> None:
    life = _life(cluster, Owner("site.9", 2, "env-9"), stays=False)
    assert "'meshgauge clean'" in _problem(replace(_FINE, lives=(life,)), _ask())
    assert "'meshgauge clean --context bench'" in _problem(replace(_FINE, lives=(life,)), _ask(context="bench"))


def test_a_volume_needs_a_default_storage_class() -> None:
    facts = replace(_FINE, has_default_storage=False)
    assert "no default StorageClass" in _problem(facts, _ask(consul.MESH, "2.0.3"))


def test_a_gateway_api_nobody_may_install_is_asked_for() -> None:
    ask = _ask(ambient.MESH)
    assert not judge(_FINE, ask).problems
    assert "Gateway API" in _problem(_FINE, _ask(ambient.MESH, install_gateway_api=False))
    assert "0.8.0" in _problem(replace(_FINE, gateway=Found(("0.8.0",), "standard", is_ours=False)), ask)


def test_room_is_needed_for_application_and_load() -> None:
    plan: dict[str, Any] = {"app_nodes": {"role": "app"}, "load_nodes": {"role": "load"}, "load_cpu_cores": 2.0}
    size: dict[str, Any] = {"replicas": 4, "app_cpu_cores": 1.0}
    assert not judge(_FINE, _ask(None, load_workers=2, size=size, **plan)).problems
    problems = judge(_FINE, _ask(None, load_workers=3, size=size | {"replicas": 5}, **plan)).problems
    assert [problem.split(" of ")[0] for problem in problems] == ["5 copies", "3 load workers"]


def test_sidecars_take_room_beside_application_and_load() -> None:
    """Four pods of one core fill a node of four; with a sidecar of 0.1 in each they do not fit."""
    plan: dict[str, Any] = {"app_nodes": {"role": "app"}, "load_nodes": {"role": "load"}, "load_cpu_cores": 1.0}
    size: dict[str, Any] = {"replicas": 4, "app_cpu_cores": 1.0}
    rooms = [*_ROOMS, Room("n3", {}, 4.0, 2**34, 100)]  # for the control plane
    assert not judge(replace(_FINE, rooms=rooms), _ask(None, load_workers=4, size=size, **plan)).problems
    app, load = judge(replace(_FINE, rooms=rooms), _ask(load_workers=4, size=size, **plan)).problems
    assert "4 copies of the application with sidecars of 1.1 cores and 128 MiB each do not fit" in app
    assert "4 load workers with sidecars of 1.1 cores and 384 MiB each do not fit" in load


def test_a_cluster_too_small_for_the_mesh_itself_is_told_before_anything_is_installed() -> None:
    def problems(cores: float, ask: Ask) -> str:
        return "; ".join(judge(replace(_FINE, rooms=[Room("n1", {}, cores, 2**34, 100)]), ask).problems)

    assert problems(0.15, _ask(None)) == ""
    assert problems(0.2, _ask()) == ""  # a sidecar and istiod ask for 0.1 each
    assert "1 pods of the mesh (app=istiod) of 0.1 cores and 256 MiB each do not fit" in problems(0.15, _ask())
    assert "3 pods of the mesh (linkerd.io/control-plane-ns=linkerd)" in problems(0.3, _ask(linkerd.MESH, "26.8.3"))
    again = replace(_FINE, rooms=[Room("n1", {}, 0.15, 2**34, 100)], is_ours=True)
    assert not judge(again, _ask()).problems  # it runs already


def test_agents_of_a_mesh_need_room_on_every_node_and_a_waypoint_on_one() -> None:
    def problems(least_cores: float, placement: Placement) -> Sequence[str]:
        ask = _ask(ambient.MESH)
        assert ask.order is not None
        rooms = [Room("n1", {}, 4.0, 2**34, 100), Room("n2", {}, least_cores, 2**34, 100)]
        return judge(replace(_FINE, rooms=rooms), replace(ask, order=replace(ask.order, placement=placement))).problems

    assert not problems(0.2, "node")
    (agents,) = problems(0.1, "node")
    assert "do not fit on n2: free nodes, or add some" in agents
    assert "(app=ztunnel)" in agents or "(k8s-app=istio-cni-node)" in agents
    tight = [Room("n1", {}, 0.3, 2**34, 100)]  # two agents and the control plane
    ask = _ask(ambient.MESH)
    assert ask.order is not None
    waypoint = replace(ask, order=replace(ask.order, placement="server"))
    assert not judge(replace(_FINE, rooms=tight), replace(ask, order=replace(ask.order, placement="node"))).problems
    assert judge(replace(_FINE, rooms=tight), waypoint).problems
    assert not judge(replace(_FINE, rooms=tight), replace(waypoint, has_workload=False)).problems


def test_room_is_needed_for_what_takes_spans() -> None:
    ask = _ask()
    assert ask.order is not None
    traced = Profile(name="traced", mtls=True, request_id=True, tracing_ratio=0.01)
    wanting = replace(ask, order=replace(ask.order, profile=traced))
    full = replace(_FINE, is_ours=True, rooms=[Room("n1", {}, 0.15, 2**34, 10)])  # one sidecar asks for 0.1
    assert "1 trace collectors of 0.1 cores and 128 MiB each do not fit" in _problem(full, wanting)
    assert not judge(full, ask).problems
    assert not judge(full, replace(wanting, has_workload=False)).problems


def test_a_mesh_without_application_wants_room_for_itself_alone() -> None:
    small = Facts("1.34.1", lacking=(), rooms=[Room("n1", {}, 0.5, 1e9, 10)])
    big = Infrastructure(name="k", provider="kubernetes", size=Size(replicas=3, app_cpu_cores=4))
    ask = Ask(_OWNER, big, has_workload=False)
    assert judge(small, ask).problems == ()
    assert "copies of the application" in judge(small, replace(ask, has_workload=True)).problems[0]
    assert judge(replace(small, rooms=[]), ask).problems == (
        "no node takes pods: pods of the mesh have nowhere to run",
    )


def test_nodes_for_application_and_load_have_to_differ() -> None:
    shared = [Room("n1", {"role": "app", "pool": "big"}, 4.0, 2**34, 100)]
    ask = _ask(app_nodes={"role": "app"}, load_nodes={"pool": "big"})
    assert "both select n1" in _problem(replace(_FINE, rooms=shared), ask)


@pytest.fixture
def _one_node(add_node: Callable[..., None]) -> None:
    add_node("n1")


@pytest.mark.usefixtures("_one_node")
def test_an_empty_cluster_passes_and_is_not_changed(fake: FakeCluster, cluster: Cluster) -> None:
    already = len(fake.requests)
    assert preflight(cluster, _ask(load_workers=1)).problems == ()
    assert {method for method, path in fake.requests[already:] if "selfsubject" not in path} == {"GET"}


def test_a_user_without_rights_is_told_all_of_them_and_nothing_else_is_read(
    fake: FakeCluster, connected: Callable[..., Cluster]
) -> None:
    poor = connected(fake.kubeconfig_of("poor", Rule("", "pods", ("get", "list"))))
    (problem,) = preflight(poor, _ask()).problems
    assert "watch pods" in problem
    assert "validatingwebhookconfigurations.admissionregistration.k8s.io" in problem
    assert not [path for method, path in fake.requests if method == "GET" and path.endswith("/nodes")]


@pytest.mark.usefixtures("_one_node")
def test_exactly_the_rights_that_are_asked_for_are_enough(fake: FakeCluster, connected: Callable[..., Cluster]) -> None:
    granted = [*PROVIDER, *OPTIONAL, *istio.MESH.permissions()]
    rules = [Rule(permission.group, permission.resource, tuple(permission.verbs)) for permission in granted]
    assert preflight(connected(fake.kubeconfig_of("just-right", *rules)), _ask()).problems == ()


@pytest.mark.usefixtures("_one_node")
def test_an_istio_that_is_there_already_is_found_wherever_it_is(fake: FakeCluster, cluster: Cluster) -> None:
    fake.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    fake.store.put(_pod("istiod-7", "istio-system", app="istiod", istio="pilot"))
    (problem,) = preflight(cluster, _ask()).problems
    assert "pod istiod-7 in namespace istio-system" in problem


@pytest.mark.usefixtures("_one_node")
def test_what_this_very_owner_brought_is_no_obstacle_to_bringing_it_again(fake: FakeCluster, cluster: Cluster) -> None:
    begin(cluster, _OWNER, Undertaking("istio", "1.30.3"))
    fake.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})
    fake.store.put(_pod("istiod-7", "istio-system", app="istiod", istio="pilot"))
    assert preflight(cluster, _ask()).problems == ()
    (problem,) = preflight(cluster, replace(_ask(), owner=Owner("site.1", 5, "env-2"))).problems
    assert "env-1" in problem
