"""Environments in a cluster whose network is Cilium: attached to, measured through, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stand_in_charts
from live_processes import eventually
from living_place import MASTER, Place, failed, up

from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.environments.environment import KubernetesEnvironment
from adapters.kubernetes.environments.load_jobs import POD
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource
from adapters.kubernetes.traces.inventory import difference, take
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Hop, MeshArm

VERSION = "1.20.0"
CONFIG = ObjectRef(Kind("v1", "ConfigMap"), "kube-system", "cilium-config")
GATEWAY_CLASS = ObjectRef(Kind("gateway.networking.k8s.io/v1", "GatewayClass"), "", "cilium")


@pytest.fixture
def cluster(place: Place) -> Iterator[Cluster]:
    """A cluster whose owner brought Cilium and the Gateway API."""
    found = place.connect()
    for crd in stand_in_charts.gateway_api():
        found.apply(crd)
    backend().install(
        found, ChartRelease("cilium", "kube-system", ChartSource("cilium", str(place.charts)), VERSION), 60.0
    )
    eventually(lambda: "'Accepted'" in str(found.get(GATEWAY_CLASS)), 60.0)
    yield found
    found.close()


def node_of(pod: Manifest) -> str:
    return str(pod["spec"]["nodeName"])


def attached(place: Place) -> KubernetesEnvironment:
    return place.environment(MeshArm(f"cilium-{VERSION}", "node", (Hop("node", "cilium", VERSION),)))


def test_a_cluster_is_measured_through_its_own_cilium_which_is_left_as_it_was(place: Place, cluster: Cluster) -> None:
    before, settings = take(cluster), cluster.get(CONFIG)
    environment, passed = attached(place), 40
    try:
        endpoint, _ = up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        (load,) = cluster.list(POD, labels=f"{LABEL_COMPONENT}=load")
        (envoy,) = [pod for pod in cluster.list(POD, labels="k8s-app=cilium-envoy") if node_of(pod) == node_of(load)]
        name = f"kube-system/cilium-gateway/{load['metadata']['namespace']}:app:{endpoint.port}"
        counter = f'envoy_cluster_upstream_rq_total{{envoy_cluster_name="{name}"}}'
        place.answers("*/pods/cilium-envoy-*:9964/proxy/metrics", f"{counter} 0\n")
        place.answers(f"*/pods/{envoy['metadata']['name']}:9964/proxy/metrics", lambda _: f"{counter} {passed}\n")
        held = {check.name: check for check in environment.verify_before()}
        assert not failed(held.values())
        assert {"control_plane", "configuration"} <= held.keys()
        assert "releases" not in held  # there is none to look at
        passed += 10_000
        checks = environment.verify_after(10_000)
        assert not failed(checks)
        assert "data_plane/node: requests" in {check.name for check in checks}
        assert environment.provenance()["charts"] == {}
    finally:
        environment.down()
    assert not difference(before, take(cluster))
    assert cluster.get(CONFIG) == settings


def test_requests_that_go_past_the_nodes_envoy_are_no_proof(place: Place, cluster: Cluster) -> None:
    environment = attached(place)
    try:
        up(environment)
        place.answers("*/pods/cilium-envoy-*:9964/proxy/metrics", "envoy_server_uptime 7\n")
        environment.start_load_workers("trial", MASTER, 1)
        environment.verify_before()
        assert "data_plane/node: requests" in {check.name for check in failed(environment.verify_after(10_000))}
    finally:
        environment.down()


def test_settings_that_would_not_be_fair_are_refused_with_what_its_owner_can_run(
    place: Place, cluster: Cluster
) -> None:
    cluster.patch(CONFIG, {"data": {"proxy-cluster-max-requests": "1024"}})
    before = take(cluster)
    environment = attached(place)
    with pytest.raises(ConfigurationError, match=r"max-requests.* .1024., not .999999.: ask its owner to run"):
        environment.up(lambda _: None)
    environment.down()
    assert not difference(before, take(cluster))
