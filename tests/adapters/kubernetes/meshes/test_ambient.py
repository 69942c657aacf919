"""Istio in ambient mode: ztunnel alone, or with a waypoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adapters.kubernetes.mesh import Condition, MeshOrder, Rollout
from adapters.kubernetes.meshes import ambient
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

OrderFor = Callable[..., MeshOrder]

MESH = ambient.MESH
MTLS = BUILT_IN_PROFILES["mtls"]
PERMISSIVE = Profile(name="permissive", mtls=True, permissive=True)


def values_of(order: MeshOrder, release: str) -> Any:
    return next(each.values for each in MESH.releases(order) if each.name == release)


def opened(reporter: str, policy: str, count: int, service: str = "app", workload: str = "app") -> str:
    """Return a line as ztunnel writes it. Source of the labels: istio/ztunnel, src/proxy/metrics.rs."""
    return (
        f'istio_tcp_connections_opened_total{{reporter="{reporter}",source_workload="load",'
        'source_workload_namespace="bench",source_principal="spiffe://cluster.local/ns/bench/sa/default",'
        f'destination_service="{service}.bench.svc.cluster.local",destination_service_namespace="bench",'
        f'destination_service_name="{service}",destination_workload="{workload}",'
        'destination_workload_namespace="bench",request_protocol="tcp",response_flags="-",'
        f'connection_security_policy="{policy}"}} {count}'
    )


def page(*lines: str) -> str:
    return "\n".join(['istio_build{component="ztunnel",tag="1.30.3"} 1', *lines, "# EOF"])


# -- what is installed


def test_charts_come_in_the_order_of_the_documentation(order_for: OrderFor) -> None:
    for version in ("1.29.6", "1.30.3"):
        names = [release.name for release in MESH.releases(order_for(MESH, version, placement="node"))]
        assert names == ["istio-base", "istiod", "istio-cni", "ztunnel"]


def test_every_chart_is_told_that_it_is_ambient(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3", placement="node")
    assert {values_of(order, name)["profile"] for name in ("istiod", "istio-cni", "ztunnel")} == {"ambient"}


def test_ztunnel_has_the_profiles_threads_and_limits(order_for: OrderFor) -> None:
    profile = Profile(name="p", mtls=True, proxy_threads=4, proxy_cpu_cores=2, proxy_memory_bytes=1 << 30)
    values = values_of(order_for(MESH, "1.30.3", profile, "node"), "ztunnel")
    assert values["env"] == {"ZTUNNEL_WORKER_THREADS": "4", "CLUSTER_DOMAIN": "cluster.local"}
    assert values["resources"]["limits"] == {"cpu": "2000m", "memory": str(1 << 30)}
    assert "access=off" in values["logLevel"]


def test_the_waypoint_has_the_profiles_threads_and_limits_and_stays_beside_the_application(order_for: OrderFor) -> None:
    profile = Profile(name="p", mtls=True, proxy_threads=4, proxy_cpu_cores=2)
    values = values_of(order_for(MESH, "1.30.3", profile, "server"), "istiod")
    assert values["meshConfig"]["defaultConfig"]["concurrency"] == 4
    waypoint = values["global"]["waypoint"]
    assert waypoint["resources"]["limits"] == {"cpu": "2000m"}
    assert "preferredDuringSchedulingIgnoredDuringExecution" in waypoint["affinity"]["podAffinity"]
    assert values["gateways"] == {"seccompProfile": {"type": "RuntimeDefault"}}, "policy restricted refuses it else"


def test_all_images_come_from_another_registry(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3", placement="node", images="reg.example")
    assert values_of(order, "ztunnel")["hub"] == "reg.example/release"
    assert values_of(order, "istio-cni")["global"]["hub"] == "reg.example/release"
    assert values_of(order, "istiod")["global"]["hub"] == "reg.example/release"


def test_it_waits_for_the_agents_of_every_node(order_for: OrderFor) -> None:
    awaited = MESH.readiness(order_for(MESH, "1.30.3", placement="node"))
    assert {each.name for each in awaited if isinstance(each, Rollout) and each.kind == "DaemonSet"} == {
        "ztunnel",
        "istio-cni-node",
    }


# -- profiles


@pytest.mark.parametrize("placement", ["node", "server"])
def test_plaintext_between_two_ambient_pods_cannot_be_had(placement: Placement) -> None:
    assert "always encrypts" in (MESH.unsupported(BUILT_IN_PROFILES["plain"], placement) or "")


def test_what_takes_a_look_at_requests_takes_a_waypoint() -> None:
    observed = BUILT_IN_PROFILES["mtls-observed"]
    reason = MESH.unsupported(observed, "node") or ""
    assert "access_log, metrics" in reason
    assert "waypoint" in reason
    assert MESH.unsupported(observed, "server") is None
    assert MESH.unsupported(MTLS, "node") is None


@pytest.mark.parametrize(("profile", "mode"), [(MTLS, "STRICT"), (PERMISSIVE, "PERMISSIVE")])
def test_servers_demand_what_the_profile_says(order_for: OrderFor, profile: Profile, mode: str) -> None:
    objects = MESH.configuration(order_for(MESH, "1.30.3", profile, "node"))
    assert [each["kind"] for each in objects] == ["PeerAuthentication"], "ztunnel reads nothing else"
    assert objects[0]["spec"] == {"mtls": {"mode": mode}}


def test_a_waypoint_comes_with_its_route_and_telemetry(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3", MTLS, "server")
    objects = {each["kind"]: each for each in MESH.configuration(order)}
    gateway = objects["Gateway"]
    assert gateway["spec"]["gatewayClassName"] == "istio-waypoint"
    assert gateway["metadata"]["labels"]["istio.io/waypoint-for"] == "service"
    target = objects["Telemetry"]["spec"]["targetRefs"]
    assert target == [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway["metadata"]["name"]}]
    assert "tls" not in objects["DestinationRule"]["spec"]["trafficPolicy"], "ztunnel encrypts, not Envoy"
    assert MESH.enrolment(order).namespace_labels["istio.io/use-waypoint"] == gateway["metadata"]["name"]
    assert [str(ref) for ref in MESH.removal(order)] == ["Gateway waypoint in namespace bench"]


def test_a_waypoint_reports_a_share_of_requests_and_ztunnel_cannot(order_for: OrderFor) -> None:
    traced = Profile(name="traced", mtls=True, request_id=True, tracing_ratio=0.01)
    assert ambient.MESH.unsupported(traced, "server") is None
    assert (ambient.MESH.unsupported(traced, "node") or "").startswith("request_id, tracing_ratio: ztunnel sees conn")
    assert "request_id: true" in (
        ambient.MESH.unsupported(Profile(name="t", mtls=True, tracing_ratio=0.01), "server") or ""
    )
    order = order_for(ambient.MESH, "1.30.3", traced, "server")
    (telemetry,) = [one for one in ambient.MESH.configuration(order) if one["kind"] == "Telemetry"]
    assert telemetry["spec"]["targetRefs"][0]["name"] == "waypoint"
    assert telemetry["spec"]["tracing"] == [{"providers": [{"name": "meshgauge"}], "randomSamplingPercentage": 1.0}]
    (provider,) = values_of(order, "istiod")["meshConfig"]["extensionProviders"]
    assert provider["zipkin"]["service"] == "trace-collector.bench.svc.cluster.local"


def test_the_collector_is_reached_past_ztunnel_and_waypoint(order_for: OrderFor) -> None:
    outside = ambient.MESH.enrolment(order_for(ambient.MESH, "1.30.3", placement="server")).outsider_labels
    assert outside == {"istio.io/dataplane-mode": "none", "istio.io/use-waypoint": "none"}


def test_a_waypoint_is_waited_for(order_for: OrderFor) -> None:
    awaited = MESH.configured(order_for(MESH, "1.30.3", MTLS, "server"))
    conditions = {each.ref.kind.name: each.type for each in awaited if isinstance(each, Condition)}
    assert conditions == {"Gateway": "Programmed", "HTTPRoute": "Accepted"}
    assert Rollout("Deployment", "bench", "waypoint") in awaited
    assert not MESH.configured(order_for(MESH, "1.30.3", MTLS, "node"))


def test_both_sides_are_in_the_mesh_and_nobody_else_of_the_namespace(order_for: OrderFor) -> None:
    for placement in MESH.placements:
        enrolment = MESH.enrolment(order_for(MESH, "1.30.3", MTLS, placement))
        assert enrolment.app_labels == enrolment.load_labels == {"istio.io/dataplane-mode": "ambient"}
        assert "istio.io/dataplane-mode" not in enrolment.namespace_labels


def test_ztunnel_is_the_nodes_and_the_waypoint_the_servers(order_for: OrderFor) -> None:
    groups = MESH.containers(order_for(MESH, "1.30.3", MTLS, "server"))
    where = {group.role: (group.namespace, group.labels) for group in groups if group.role}
    assert where["node"] == ("istio-system", "app=ztunnel")
    assert where["server"] == (None, "gateway.networking.k8s.io/gateway-name=waypoint")


def test_the_report_says_that_ztunnel_knows_no_time_out() -> None:
    assert MESH.features(MTLS, "node")["timeout"].startswith("none")
    assert "15 s" in MESH.features(MTLS, "server")["timeout"]


# -- counters


def test_ztunnel_counts_connections_where_they_end(order_for: OrderFor) -> None:
    text = page(
        opened("source", "mutual_tls", 16),
        opened("destination", "mutual_tls", 15),
        opened("destination", "unknown", 1),
        opened("destination", "mutual_tls", 99, service="other", workload="other"),
    )
    passage = MESH.passage(text, "node", order_for(MESH, "1.30.3", placement="node"))
    assert (passage.requests, passage.connections, passage.encrypted) == (None, 16, 15)


def test_where_the_service_is_unknown_the_workload_tells(order_for: OrderFor) -> None:
    text = page(opened("destination", "mutual_tls", 5, service="unknown"))
    assert MESH.passage(text, "node", order_for(MESH, "1.30.3", placement="node")).connections == 5


def test_ztunnel_of_a_node_the_application_is_not_on_has_counted_none(order_for: OrderFor) -> None:
    text = page(opened("source", "mutual_tls", 16))
    passage = MESH.passage(text, "node", order_for(MESH, "1.30.3", placement="node"))
    assert (passage.connections, passage.encrypted) == (0, 0)


def test_a_waypoint_counts_requests(order_for: OrderFor) -> None:
    text = "\n".join(
        [
            'istio_build{component="proxy",tag="1.30.3"} 1',
            'istio_requests_total{reporter="waypoint",destination_service_name="app",'
            'destination_service_namespace="bench",connection_security_policy="mutual_tls"} 40',
            'envoy_cluster_upstream_rq_retry{cluster_name="inbound-vip|8080|http|app.bench.svc.cluster.local"} 2',
            'envoy_cluster_upstream_rq_retry{cluster_name="inbound-vip|8080|http|other.bench.svc.cluster.local"} 9',
        ]
    )
    passage = MESH.passage(text, "server", order_for(MESH, "1.30.3", placement="server"))
    assert (passage.requests, passage.encrypted, passage.retries) == (40, 40, 2)


def test_the_cni_agent_is_told_where_the_nodes_keep_their_plugins(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3", placement="node", platform="k3d")
    assert {values_of(order, name)["global"]["platform"] for name in ("istiod", "istio-cni", "ztunnel")} == {"k3d"}
    usual = order_for(MESH, "1.30.3", placement="node")
    assert "platform" not in values_of(usual, "istio-cni")["global"]
