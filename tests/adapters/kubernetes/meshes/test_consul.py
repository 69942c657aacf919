"""Consul: charts of its versions, entries of each profile, what Envoy counts under Consul's names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from adapters.kubernetes.api import LABEL_MESH, Manifest, ObjectRef
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import Condition, MeshOrder, Rollout
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.meshes.consul import CHART, GROUP, MESH, NAMESPACE
from meshgauge.errors import ConfigurationError
from meshgauge.plan import BUILT_IN_PROFILES, Profile
from meshgauge.selectors import resolve_selector

OrderFor = Callable[..., MeshOrder]

PLAIN, MTLS = BUILT_IN_PROFILES["plain"], BUILT_IN_PROFILES["mtls"]
PERMISSIVE = Profile(name="permissive", mtls=True, permissive=True)
OLD_TLS = Profile(name="tls-1-2", mtls=True, tls_version="1.2")
OBSERVED = Profile(
    name="observed", mtls=True, access_log=True, proxy_threads=3, request_timeout_s=7.25,
    proxy_cpu_cores=1.5, proxy_memory_bytes=256 << 20,
)  # fmt: skip

INDEX = [
    ChartVersion(chart, consul)
    for chart, consul in (
        ("2.0.3", "2.0.3"), ("2.0.0", "2.0.0"), ("2.0.0-rc1", "2.0.0-rc1"), ("1.9.11", "1.22.7"), ("1.9.10", "1.22.7"),
        ("1.8.16", "1.21.5"), ("1.8.2", "1.21-dev"), ("1.7.13", "1.21.5"), ("1.7.4", "1.21.4"), ("1.6.10", "1.20.6"),
    )
]  # fmt: skip
CHARTS = {"2.0.3": "2.0.3", "1.22.7": "1.9.11", "1.21.5": "1.8.16"}


@pytest.fixture
def order(order_for: OrderFor) -> Callable[..., MeshOrder]:
    def make(profile: Profile = MTLS, version: str = "2.0.3", **more: Any) -> MeshOrder:
        return order_for(MESH, version, profile, "pair", chart_versions={CHART: CHARTS[version]}, **more)

    return make


def values(order: MeshOrder) -> Any:
    (release,) = MESH.releases(order)
    return release.values


def entries(order: MeshOrder) -> dict[tuple[str, str], Any]:
    def key(entry: Manifest) -> tuple[str, str]:
        return entry["kind"], entry["metadata"]["name"]

    return {key(entry): entry["spec"] for entry in MESH.configuration(order)}


# -- versions


def test_each_consul_has_its_newest_chart_and_unreleased_ones_have_none() -> None:
    known = MESH.versions_of(INDEX)
    assert known == {
        "2.0.3": "2.0.3",
        "2.0.0": "2.0.0",
        "2.0.0-rc1": "2.0.0-rc1",
        "1.22.7": "1.9.11",
        "1.21.5": "1.8.16",
    }, "older charts want experimental kinds of the Gateway API, or have no native sidecars"
    assert "1.21.5" not in MESH.versions_of([one for one in INDEX if one.version != "1.8.16"])


@pytest.mark.parametrize(
    ("selector", "version"),
    [("latest", "2.0.3"), ("previous", "1.22.7"), ("latest-2", "1.21.5"), (">=1.21,<2", "1.22.7")],
)
def test_selectors_count_the_minors_of_consul_not_of_its_charts(selector: str, version: str) -> None:
    assert resolve_selector(selector, list(MESH.versions_of(INDEX))) == version


def test_a_version_without_chart_is_refused_in_words() -> None:
    with pytest.raises(ConfigurationError, match=r"consul 1\.20\.6: no chart consul installs it"):
        MESH.chart_versions("1.20.6", {CHART: INDEX})


# -- what it cannot, what it needs


def test_plain_is_not_possible_and_one_proxy_alone_neither() -> None:
    assert "no switch" in (MESH.unsupported(PLAIN, "pair") or "")
    assert "stands as pair" in (MESH.unsupported(PLAIN, "server") or "")
    assert MESH.unsupported(PERMISSIVE, "pair") is None


def test_controllers_that_insist_on_tcp_routes_need_an_older_gateway_api() -> None:
    assert MESH.needs("2.0.3").gateway_api == MESH.needs("1.21.5").gateway_api == ">=1.0"
    assert MESH.needs("1.22.7").gateway_api == ">=1.0,<1.5"
    assert MESH.needs("2.0.3").storage_class


# -- values


def test_no_kind_of_the_gateway_api_is_the_charts_but_the_one_nobody_else_has(order: Callable[..., MeshOrder]) -> None:
    for version, own_tcp_route in (("2.0.3", False), ("1.22.7", True), ("1.21.5", False)):
        given = values(order(version=version))
        assert given["global"]["installK8sNetworkingCRDs"] is False
        assert given["global"]["crds"]["enableTcpRoute"] is False
        assert given["connectInject"]["apiGateway"]["manageExternalCRDs"] is False
        assert given["connectInject"]["apiGateway"]["manageNonStandardCRDs"] is own_tcp_route


def test_the_servers_volume_goes_with_it(order: Callable[..., MeshOrder]) -> None:
    server = values(order())["server"]
    assert server["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    assert server["replicas"] == 1
    assert server["affinity"] is None, "one node is enough"
    assert json.loads(server["extraConfig"]) == {"disable_update_check": True}


def test_the_injector_fails_closed_and_asks_for_our_namespaces_alone(order: Callable[..., MeshOrder]) -> None:
    inject = values(order())["connectInject"]
    assert inject["failurePolicy"] == "Fail"
    selector = yaml.safe_load(inject["namespaceSelector"])
    assert selector == {"matchLabels": dict(MESH.enrolment(order()).namespace_labels)}
    assert LABEL_MESH in selector["matchLabels"]


def test_images_of_another_registry_have_the_tags_of_the_chart(order: Callable[..., MeshOrder]) -> None:
    images = values(order(version="1.22.7", images="mirror.example/x"))["global"]
    assert images["image"] == "mirror.example/x/hashicorp/consul:1.22.7"
    assert images["imageK8S"] == "mirror.example/x/hashicorp/consul-k8s-control-plane:1.9.11"
    assert images["imageConsulDataplane"] == "mirror.example/x/hashicorp/consul-dataplane:1.9.11"


# -- pods


def test_pods_carry_threads_limits_and_open_metrics(order: Callable[..., MeshOrder]) -> None:
    enrolment = MESH.enrolment(order(OBSERVED))
    assert enrolment.app_annotations == enrolment.load_annotations
    own = {key.removeprefix(f"{GROUP}/"): text for key, text in enrolment.app_annotations.items()}
    assert own["connect-inject"] == "true"
    assert own["consul-envoy-proxy-concurrency"] == "3"
    assert own["enable-consul-dataplane-as-sidecar"] == "true", "a Job with another sidecar would never end"
    assert own["enable-metrics"] == "true"
    assert own["sidecar-proxy-cpu-limit"] == own["sidecar-proxy-cpu-request"] == "1500m"
    assert own["sidecar-proxy-memory-limit"] == str(256 << 20)
    endpoint = MESH.metrics("server")
    assert endpoint is not None
    assert (own["prometheus-scrape-port"], own["prometheus-scrape-path"]) == (str(endpoint.port), endpoint.path)


def test_without_limits_in_the_profile_there_are_none(order: Callable[..., MeshOrder]) -> None:
    assert not [key for key in MESH.enrolment(order()).app_annotations if key.endswith("-limit")]


# -- entries


def test_permissive_is_allowed_mesh_wide_before_a_proxy_may_use_it(order: Callable[..., MeshOrder]) -> None:
    strict, permissive = entries(order()), entries(order(PERMISSIVE))
    assert next(iter(permissive)) == ("Mesh", "mesh")
    assert permissive["Mesh", "mesh"]["allowEnablingPermissiveMutualTLS"] is True
    assert permissive["ProxyDefaults", "global"]["mutualTLSMode"] == "permissive"
    assert strict["Mesh", "mesh"]["allowEnablingPermissiveMutualTLS"] is False
    assert strict["ProxyDefaults", "global"]["mutualTLSMode"] == "strict"


def test_one_version_of_tls_is_spoken_in_and_out(order: Callable[..., MeshOrder]) -> None:
    newer, older = entries(order())["Mesh", "mesh"]["tls"], entries(order(OLD_TLS))["Mesh", "mesh"]["tls"]
    assert newer["incoming"] == newer["outgoing"] == {"tlsMinVersion": "TLSv1_3", "tlsMaxVersion": "TLSv1_3"}
    assert older["incoming"]["tlsMinVersion"] == older["incoming"]["tlsMaxVersion"] == "TLSv1_2"
    assert older["incoming"]["cipherSuites"] == ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]


def test_http_is_read_as_http_with_the_profiles_time_out_and_without_retries(order: Callable[..., MeshOrder]) -> None:
    own = entries(order(OBSERVED))
    assert own["ProxyDefaults", "global"]["config"] == {"protocol": "http"}
    (route,) = own["ServiceRouter", "app"]["routes"]
    assert route["destination"] == {"requestTimeout": "7s250ms"}, "no retries are named, so there are none"
    app = own["ServiceDefaults", "app"]
    assert (app["localRequestTimeoutMs"], app["localConnectTimeoutMs"]) == (7250, 7250)


def test_limits_of_connections_are_out_of_reach_on_both_sides(order: Callable[..., MeshOrder]) -> None:
    own = entries(order())
    assert own["ServiceDefaults", "app"]["maxInboundConnections"] == parity.NO_LIMIT
    limits = own["ServiceDefaults", "load"]["upstreamConfig"]["defaults"]["limits"]
    assert set(limits.values()) == {parity.NO_LIMIT}


def test_requests_are_logged_where_the_profile_says(order: Callable[..., MeshOrder]) -> None:
    assert entries(order(OBSERVED))["ProxyDefaults", "global"]["accessLogs"]["enabled"] is True
    assert entries(order())["ProxyDefaults", "global"]["accessLogs"] == {"enabled": False}


def test_the_load_may_speak_to_the_application(order: Callable[..., MeshOrder]) -> None:
    intentions = entries(order())["ServiceIntentions", "app"]
    assert intentions["sources"] == [{"name": "load", "action": "allow"}]


def test_every_entry_is_waited_for_until_consul_took_it(order: Callable[..., MeshOrder]) -> None:
    conditions = [one for one in MESH.configured(order()) if isinstance(one, Condition)]
    assert [one.ref for one in conditions] == [ObjectRef.of(entry) for entry in MESH.configuration(order())]
    assert {one.type for one in conditions} == {"Synced"}


def test_features_name_what_consul_has_no_setting_for() -> None:
    client, server = MESH.features(MTLS, "client"), MESH.features(MTLS, "server")
    assert client["circuit_breaker"] == "none"
    assert "1,024" in server["circuit_breaker"]
    assert "no switch" in server["request_id"]
    assert "plaintext refused" in server["tls"]
    assert "as bytes" in MESH.features(PERMISSIVE, "server")["tls"]


# -- what Envoy counts

OF_PROXY = 'local_cluster="app",consul_source_service="app",consul_source_namespace="default"'
SERVER_PAGE = f"""\
# TYPE envoy_http_downstream_rq_total counter
envoy_http_downstream_rq_total{{{OF_PROXY},envoy_http_conn_manager_prefix="public_listener"}} 1000
envoy_http_downstream_rq_total{{{OF_PROXY},envoy_http_conn_manager_prefix="exposed_path_filter_health_20400"}} 12
envoy_http_downstream_rq_total{{{OF_PROXY},envoy_http_conn_manager_prefix="envoy_prometheus_metrics"}} 9
envoy_http_downstream_cx_total{{{OF_PROXY},envoy_http_conn_manager_prefix="public_listener"}} 16
envoy_http_downstream_cx_ssl_total{{{OF_PROXY},envoy_http_conn_manager_prefix="public_listener"}} 16
envoy_cluster_upstream_rq_retry{{{OF_PROXY},envoy_cluster_name="local_app"}} 0
envoy_cluster_upstream_rq_total{{{OF_PROXY},envoy_cluster_name="local_app"}} 1000
envoy_control_plane_connected_state{{{OF_PROXY}}} 1
envoy_cluster_manager_cds_update_rejected{{{OF_PROXY}}} 0
envoy_cluster_manager_warming_clusters{{{OF_PROXY}}} 0
envoy_listener_manager_lds_update_rejected{{{OF_PROXY}}} 0
envoy_listener_manager_total_listeners_warming{{{OF_PROXY}}} 0
"""
TO_APP = 'local_cluster="load",consul_destination_service="app",consul_destination_namespace="default"'
CLIENT_PAGE = f"""\
envoy_cluster_upstream_rq_total{{{TO_APP}}} 1000
envoy_cluster_upstream_rq_total{{local_cluster="load",consul_destination_service="other"}} 7
envoy_cluster_upstream_rq_total{{local_cluster="load",envoy_cluster_name="original-destination"}} 8
envoy_cluster_upstream_cx_total{{{TO_APP}}} 17
envoy_cluster_upstream_cx_connect_fail{{{TO_APP}}} 1
envoy_cluster_ssl_handshake{{{TO_APP}}} 16
envoy_cluster_upstream_rq_retry{{{TO_APP}}} 2
"""


def test_the_public_listener_counts_what_came_from_proxies(order: Callable[..., MeshOrder]) -> None:
    passage = MESH.passage(SERVER_PAGE, "server", order())
    assert (passage.requests, passage.connections, passage.encrypted, passage.retries) == (1000, 16, 1000, 0)
    assert passage.in_sync is True


def test_a_client_counts_what_it_sent_to_the_application(order: Callable[..., MeshOrder]) -> None:
    passage = MESH.passage(CLIENT_PAGE, "client", order())
    assert (passage.requests, passage.connections, passage.encrypted, passage.retries) == (1000, 16, 1000, 2)


def test_requests_outside_the_tls_listener_are_not_called_encrypted(order: Callable[..., MeshOrder]) -> None:
    page = SERVER_PAGE.replace(
        "cx_ssl_total{" + OF_PROXY + ',envoy_http_conn_manager_prefix="public_listener"} 16',
        "cx_ssl_total{" + OF_PROXY + ',envoy_http_conn_manager_prefix="public_listener"} 0',
    )
    assert MESH.passage(page, "server", order()).encrypted == 0


# -- its life


def test_the_server_is_a_stateful_set_and_all_three_parts_are_waited_for(order: Callable[..., MeshOrder]) -> None:
    rollouts = [(one.kind, one.name) for one in MESH.readiness(order()) if isinstance(one, Rollout)]
    assert ("StatefulSet", "consul-server") in rollouts
    assert ("Deployment", "consul-webhook-cert-manager") in rollouts, "before it is up no webhook has a certificate"


def test_what_has_finalizers_goes_while_the_controllers_run_last_made_first(order: Callable[..., MeshOrder]) -> None:
    removed = list(MESH.removal(order()))
    made = [ObjectRef.of(entry) for entry in MESH.configuration(order())]
    assert removed[: len(made)] == made[::-1]
    assert [ref.kind.name for ref in removed[len(made) :]] == ["GatewayClass", "GatewayClassConfig"]


def test_what_is_left_is_consuls_alone() -> None:
    residue = MESH.residue()
    assert residue.namespaces == (NAMESPACE,)
    assert residue.claims == "app=consul,component=server"
    assert not any("gateway.networking" in group for group in (*residue.groups, *residue.finalizers))
    assert [name for _, name in residue.kinds] == ["consul"]


# -- traces


def test_a_share_of_requests_goes_to_the_collector_of_the_namespace(order: Callable[..., MeshOrder]) -> None:
    traced = Profile(name="traced", mtls=True, tracing_ratio=0.025)
    config = entries(order(traced))["ProxyDefaults", "global"]["config"]
    assert config["protocol"] == "http"
    cluster, listener = (
        json.loads(config[key]) for key in ("envoy_extra_static_clusters_json", "envoy_listener_tracing_json")
    )
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": "trace-collector.bench.svc", "port_value": 9411}
    assert listener["@type"].endswith("HttpConnectionManager.Tracing"), "Consul reads it as a protobuf Any"
    assert listener["random_sampling"] == {"value": 2.5}
    assert listener["provider"]["typed_config"]["collector_cluster"] == cluster["name"]
    assert entries(order())["ProxyDefaults", "global"]["config"] == {"protocol": "http"}


def test_no_proxy_starts_before_consul_has_what_it_starts_with(order: Callable[..., MeshOrder]) -> None:
    (awaited,) = MESH.enrolment(order()).read_once
    assert isinstance(awaited, Condition)
    assert awaited.type == "Synced"
    assert awaited in MESH.configured(order())
    assert (awaited.ref.kind.name, awaited.ref.name) == ("ProxyDefaults", "global")
