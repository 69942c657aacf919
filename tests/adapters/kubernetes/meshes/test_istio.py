"""Istio's sidecars: values, objects of each profile, what a sidecar's metrics mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import Condition, MeshOrder
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.meshes import istio, istiod
from meshgauge.errors import ConfigurationError
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile
from meshgauge.selectors import resolve_selector

OrderFor = Callable[..., MeshOrder]

MESH = istio.MESH
PLAIN, MTLS = BUILT_IN_PROFILES["plain"], BUILT_IN_PROFILES["mtls"]
PERMISSIVE = Profile(name="permissive", mtls=True, permissive=True)


def by_kind(manifests: Any) -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for manifest in manifests}


def spec_of(order: MeshOrder, kind: str) -> Any:
    return by_kind(MESH.configuration(order))[kind]["spec"]


def istiod_values(order: MeshOrder) -> Any:
    return next(release.values for release in MESH.releases(order) if release.name == "istiod")


# A sidecar's page: what Istio's statistics and Envoy's counters look like, once asked for as istiod.py asks.
def page(
    reporter: str = "destination", policy: str = "mutual_tls", requests: int = 300, gauges: Mapping[str, int] = {}
) -> str:
    labels = (
        f'reporter="{reporter}",source_workload="load",source_principal="spiffe://cluster.local/ns/bench/sa/default",'
        'destination_workload="app",destination_workload_namespace="bench",'
        'destination_service="app.bench.svc.cluster.local",destination_service_name="app",'
        'destination_service_namespace="bench",request_protocol="http",response_code="{code}",response_flags="-",'
        f'connection_security_policy="{policy}"'
    )
    gauges = {"connected": 1, "taken": 3, "rejected": 0, "warming": 0, "retries": 0} | dict(gauges)
    return "\n".join(
        [
            "# TYPE istio_requests_total counter",
            f"istio_requests_total{{{labels.replace('{code}', '200')}}} {requests - 4}",
            f"istio_requests_total{{{labels.replace('{code}', '503')}}} 4",
            'istio_requests_total{reporter="destination",destination_service_name="other",'
            'destination_service_namespace="bench",connection_security_policy="mutual_tls"} 77',
            'istio_build{component="proxy",tag="1.30.3"} 1',
            'envoy_cluster_upstream_rq_retry{cluster_name="inbound|8080||"} 0',
            'envoy_cluster_upstream_rq_retry{cluster_name="outbound|8080||app.bench.svc.cluster.local"}'
            f" {gauges['retries']}",
            'envoy_cluster_upstream_rq_retry{cluster_name="outbound|9090||app.bench.svc.cluster.local"} 50',
            'envoy_cluster_upstream_rq_retry{cluster_name="xds-grpc"} 60',
            f"envoy_control_plane_connected_state{{}} {gauges['connected']}",
            f"envoy_cluster_manager_cds_update_success{{}} {gauges['taken']}",
            f"envoy_cluster_manager_cds_update_rejected{{}} {gauges['rejected']}",
            "envoy_cluster_manager_warming_clusters{} 0",
            "envoy_listener_manager_lds_update_success{} 2",
            "envoy_listener_manager_lds_update_rejected{} 0",
            f"envoy_listener_manager_total_listeners_warming{{}} {gauges['warming']}",
        ]
    )


# -- versions


def test_latest_is_the_newest_release_and_a_candidate_only_when_named() -> None:
    index = [ChartVersion(version, version) for version in ("1.31.0-rc.0", "1.30.3", "1.29.6", "1.30.2")]
    known = list(MESH.versions_of(index))
    assert resolve_selector("latest", known) == "1.30.3"
    assert resolve_selector("previous", known) == "1.29.6"
    assert resolve_selector("1.31.0-rc.0", known) == "1.31.0-rc.0"


def test_a_mirror_without_one_of_the_charts_is_named() -> None:
    indexes = {"istiod": [ChartVersion("1.30.3", "1.30.3")], "base": [ChartVersion("1.29.6", "1.29.6")]}
    with pytest.raises(
        ConfigurationError, match=r"Istio 1\.30\.3: chart base has no such version \(newest: 1\.29\.6\)"
    ):
        MESH.chart_versions("1.30.3", indexes)


@pytest.mark.parametrize(
    ("version", "kube"),
    [("1.29.6", ">=1.30"), ("1.30.3", ">=1.32"), ("1.31.0-rc.0", ">=1.32"), ("1.28.5", ">=1.29")],
)
def test_each_version_needs_the_kubernetes_its_makers_support(version: str, kube: str) -> None:
    assert MESH.needs(version).kube == kube


# -- what is installed


def test_kinds_come_before_the_control_plane(order_for: OrderFor) -> None:
    assert [release.name for release in MESH.releases(order_for(MESH, "1.30.3"))] == ["istio-base", "istiod"]


def test_the_control_plane_is_one_copy_that_stays_one(order_for: OrderFor) -> None:
    values = istiod_values(order_for(MESH, "1.30.3"))
    assert (values["autoscaleEnabled"], values["replicaCount"]) == (False, 1)
    assert values["global"]["defaultPodDisruptionBudget"] == {"enabled": False}


def test_hidden_defaults_are_set(order_for: OrderFor) -> None:
    mesh = istiod_values(order_for(MESH, "1.30.3", Profile(name="p", proxy_threads=3)))["meshConfig"]
    assert mesh["defaultHttpRetryPolicy"] == {"attempts": 0}
    assert mesh["defaultConfig"]["concurrency"] == 3
    assert mesh["accessLogFile"] == ""
    assert mesh["enableTracing"] is False
    assert mesh["meshMTLS"] == {"minProtocolVersion": "TLSV1_3"}


def test_what_the_treatment_check_reads_is_kept_in_every_profile(order_for: OrderFor) -> None:
    asked = [
        istiod_values(order_for(MESH, "1.30.3", profile))["meshConfig"]["defaultConfig"]["proxyStatsMatcher"]
        for profile in BUILT_IN_PROFILES.values()
    ]
    assert all(one == asked[0] for one in asked)
    assert "upstream_rq_retry" in asked[0]["inclusionRegexps"][0]
    assert asked[0]["inclusionPrefixes"] == ["control_plane"]


@pytest.mark.parametrize("wanted", [True, False])
def test_request_ids_are_added_only_when_asked_for(order_for: OrderFor, wanted: bool) -> None:
    values = istiod_values(order_for(MESH, "1.30.3", Profile(name="p", request_id=wanted)))
    assert values["meshConfig"]["defaultConfig"]["proxyHeaders"]["requestId"] == {"disabled": not wanted}


def test_without_limits_in_the_profile_the_charts_own_are_taken_away(order_for: OrderFor) -> None:
    resources = istiod_values(order_for(MESH, "1.30.3"))["global"]["proxy"]["resources"]
    assert resources == {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": None}


def test_limits_of_the_profile_are_requests_as_well(order_for: OrderFor) -> None:
    profile = Profile(name="p", proxy_cpu_cores=1.5, proxy_memory_bytes=256 << 20)
    resources = istiod_values(order_for(MESH, "1.30.3", profile))["global"]["proxy"]["resources"]
    assert resources["requests"] == resources["limits"] == {"cpu": "1500m", "memory": "268435456"}


@pytest.mark.parametrize(
    ("version", "hub"),
    [("1.29.6", "reg.example/mirror/istio"), ("1.30.3", "reg.example/mirror/release")],
)
def test_another_registry_keeps_the_path_of_the_images(order_for: OrderFor, version: str, hub: str) -> None:
    values = istiod_values(order_for(MESH, version, images="reg.example/mirror/"))
    assert values["global"]["hub"] == hub


def test_without_another_registry_the_charts_hub_stays(order_for: OrderFor) -> None:
    assert "hub" not in istiod_values(order_for(MESH, "1.30.3"))["global"]


# -- profiles


@pytest.mark.parametrize(
    ("profile", "demanded", "offered"),
    [(PLAIN, "DISABLE", "DISABLE"), (MTLS, "STRICT", "ISTIO_MUTUAL"), (PERMISSIVE, "PERMISSIVE", "ISTIO_MUTUAL")],
)
def test_mutual_tls_is_set_on_both_sides(order_for: OrderFor, profile: Profile, demanded: str, offered: str) -> None:
    order = order_for(MESH, "1.30.3", profile)
    assert spec_of(order, "PeerAuthentication") == {"mtls": {"mode": demanded}}
    assert spec_of(order, "DestinationRule")["trafficPolicy"]["tls"] == {"mode": offered}
    assert spec_of(order, "DestinationRule")["host"] == "*.bench.svc.cluster.local"


def test_one_route_holds_the_time_out_of_the_profile(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3", Profile(name="p", request_timeout_s=1.25))
    rule = spec_of(order, "HTTPRoute")["rules"][0]
    assert rule["timeouts"] == {"request": "1s250ms"}
    assert rule["backendRefs"] == [{"name": "app", "port": 8080}]
    assert spec_of(order, "DestinationRule")["trafficPolicy"]["connectionPool"]["tcp"] == {"connectTimeout": "1.25s"}


def test_idle_connections_are_kept_beyond_the_longest_window(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3")
    http = spec_of(order, "DestinationRule")["trafficPolicy"]["connectionPool"]["http"]
    assert http == {"h2UpgradePolicy": "DO_NOT_UPGRADE", "idleTimeout": f"{parity.IDLE_S}s"}


def test_the_access_log_is_as_the_profile_says(order_for: OrderFor) -> None:
    for profile in BUILT_IN_PROFILES.values():
        logging = spec_of(order_for(MESH, "1.30.3", profile), "Telemetry")["accessLogging"]
        assert logging == [{"providers": [{"name": "envoy"}], "disabled": not profile.access_log}]


def test_without_metrics_only_the_count_of_requests_is_left(order_for: OrderFor) -> None:
    metrics = spec_of(order_for(MESH, "1.30.3", PLAIN), "Telemetry")["metrics"][0]
    disabled = {override["match"]["metric"] for override in metrics["overrides"] if override["disabled"]}
    assert "REQUEST_DURATION" in disabled
    assert "REQUEST_COUNT" not in disabled
    observed = spec_of(order_for(MESH, "1.30.3", BUILT_IN_PROFILES["observed"]), "Telemetry")["metrics"][0]
    assert "overrides" not in observed


TRACED = Profile(name="traced", mtls=True, request_id=True, tracing_ratio=0.025)
COLLECTOR = "trace-collector.bench.svc.cluster.local"


def test_a_share_of_requests_goes_to_the_collector_of_the_namespace(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3", TRACED)
    assert istiod_values(order)["meshConfig"]["extensionProviders"] == [
        {"name": "meshgauge", "zipkin": {"service": COLLECTOR, "port": 9411}}
    ]
    telemetry = by_kind(MESH.configuration(order))["Telemetry"]
    assert telemetry["metadata"]["namespace"] == "bench"
    assert telemetry["spec"]["tracing"] == [{"providers": [{"name": "meshgauge"}], "randomSamplingPercentage": 2.5}]


def test_the_collector_is_spoken_to_in_plaintext_although_the_namespace_is_not(order_for: OrderFor) -> None:
    objects = MESH.configuration(order_for(MESH, "1.30.3", TRACED))
    rules = {one["spec"]["host"]: one for one in objects if one["kind"] == "DestinationRule"}
    assert rules["*.bench.svc.cluster.local"]["spec"]["trafficPolicy"]["tls"] == {"mode": "ISTIO_MUTUAL"}
    assert rules[COLLECTOR]["spec"]["trafficPolicy"] == {"tls": {"mode": "DISABLE"}}
    assert len({rule["metadata"]["name"] for rule in rules.values()}) == 2


def test_without_traces_nothing_is_reported_and_nobody_is_named(order_for: OrderFor) -> None:
    order = order_for(MESH, "1.30.3")
    assert "extensionProviders" not in istiod_values(order)["meshConfig"]
    off = [{"disableSpanReporting": True, "randomSamplingPercentage": 0}]
    assert by_kind(MESH.configuration(order))["Telemetry"]["spec"]["tracing"] == off
    assert len([one for one in MESH.configuration(order) if one["kind"] == "DestinationRule"]) == 1


def test_envoy_chooses_requests_by_their_id_so_traces_take_one() -> None:
    nameless = Profile(name="traced", mtls=True, tracing_ratio=0.025)
    assert "request_id: true" in (MESH.unsupported(nameless, "pair") or "")
    assert MESH.unsupported(TRACED, "pair") is None


def test_a_pod_beside_the_mesh_is_told_that_it_gets_no_sidecar(order_for: OrderFor) -> None:
    assert MESH.enrolment(order_for(MESH, "1.30.3")).outsider_labels == {"sidecar.istio.io/inject": "false"}


def test_inbound_retries_are_off_by_patch_until_the_mesh_configuration_can_say_so(order_for: OrderFor) -> None:
    old, new = order_for(MESH, "1.31.0-rc.0"), order_for(MESH, "1.32.0")
    patch = spec_of(old, "EnvoyFilter")["configPatches"][0]
    assert patch["match"] == {"context": "SIDECAR_INBOUND"}
    assert patch["patch"]["value"] == {"route": {"retry_policy": {"retry_on": "none"}}}
    assert "defaultInboundHttpRetryPolicy" not in istiod_values(old)["meshConfig"]
    assert "EnvoyFilter" not in by_kind(MESH.configuration(new))
    assert istiod_values(new)["meshConfig"]["defaultInboundHttpRetryPolicy"] == {}


def test_tls_1_2_cannot_be_had() -> None:
    assert "TLS" in (MESH.unsupported(Profile(name="p", mtls=True, tls_version="1.2"), "pair") or "").upper()
    assert MESH.unsupported(Profile(name="p", tls_version="1.2"), "pair") is None, "without TLS there is no version"


@pytest.mark.parametrize("placement", ["client", "server"])
def test_mutual_tls_takes_two_sidecars(placement: Placement) -> None:
    assert "placement pair" in (MESH.unsupported(MTLS, placement) or "")


# -- placements


@pytest.mark.parametrize(
    ("placement", "app", "load"), [("pair", "true", "true"), ("server", "true", "false"), ("client", "false", "true")]
)
def test_every_pod_is_told_whether_it_gets_a_sidecar(
    order_for: OrderFor, placement: Placement, app: str, load: str
) -> None:
    enrolment = MESH.enrolment(order_for(MESH, "1.30.3", PLAIN, placement))
    assert enrolment.app_labels == {"sidecar.istio.io/inject": app}
    assert enrolment.load_labels == {"sidecar.istio.io/inject": load}
    assert "istio-injection" not in enrolment.namespace_labels
    for inject, given in ((app, enrolment.app_annotations), (load, enrolment.load_annotations)):
        assert given.get("sidecar.istio.io/nativeSidecar", "false") == inject


def test_of_the_loads_connections_the_sidecar_takes_those_to_the_application(order_for: OrderFor) -> None:
    annotations = MESH.enrolment(order_for(MESH, "1.30.3", port=9090)).load_annotations
    assert annotations["traffic.sidecar.istio.io/includeOutboundIPRanges"] == ""
    assert annotations["traffic.sidecar.istio.io/includeOutboundPorts"] == "9090"


def test_a_route_is_of_use_to_a_client_alone(order_for: OrderFor) -> None:
    kinds = {
        placement: set(by_kind(MESH.configuration(order_for(MESH, "1.30.3", PLAIN, placement))))
        for placement in MESH.placements
    }
    assert "HTTPRoute" in kinds["client"]
    assert "HTTPRoute" in kinds["pair"]
    assert "HTTPRoute" not in kinds["server"]
    pair = order_for(MESH, "1.30.3")
    assert MESH.configured(pair) == [Condition(parity.http_route_ref(pair), "Accepted")]
    assert not MESH.configured(order_for(MESH, "1.30.3", PLAIN, "server"))


# -- counters


def test_the_servers_sidecar_counts_requests_and_how_they_came(order_for: OrderFor) -> None:
    passage = MESH.passage(page(), "server", order_for(MESH, "1.30.3"))
    assert (passage.requests, passage.encrypted, passage.retries) == (300, 300, 0)
    assert passage.in_sync is True


def test_plaintext_is_counted_and_not_as_encrypted(order_for: OrderFor) -> None:
    passage = MESH.passage(page(policy="none"), "server", order_for(MESH, "1.30.3", PERMISSIVE))
    assert (passage.requests, passage.encrypted) == (300, 0)


def test_the_clients_sidecar_does_not_know_of_encryption(order_for: OrderFor) -> None:
    passage = MESH.passage(page("source", "unknown", gauges={"retries": 7}), "client", order_for(MESH, "1.30.3"))
    assert (passage.requests, passage.encrypted) == (300, None)
    assert passage.retries == 7, "of the application's cluster, not of others"


def test_before_the_first_request_a_proxy_that_would_count_has_counted_none(order_for: OrderFor) -> None:
    idle = "\n".join(line for line in page().splitlines() if not line.startswith("istio_requests"))
    passage = MESH.passage(idle, "server", order_for(MESH, "1.30.3"))
    assert (passage.requests, passage.encrypted) == (0, 0)


def test_an_envoy_that_is_not_istios_counts_nothing(order_for: OrderFor) -> None:
    passage = MESH.passage("envoy_server_live{} 1\n", "server", order_for(MESH, "1.30.3"))
    assert passage.requests is None
    assert passage.in_sync is None


@pytest.mark.parametrize("trouble", [{"connected": 0}, {"taken": 0}, {"rejected": 1}, {"warming": 2}])
def test_a_proxy_that_did_not_take_its_configuration_is_not_in_sync(
    order_for: OrderFor, trouble: dict[str, int]
) -> None:
    assert MESH.passage(page(gauges=trouble), "server", order_for(MESH, "1.30.3")).in_sync is False


# -- removal


def test_what_istio_leaves_is_named_and_nothing_of_others() -> None:
    residue = MESH.residue()
    assert residue.groups == ("*.istio.io",)
    assert residue.namespaces == ("istio-system",)
    names: dict[str, list[str]] = {}
    for kind, pattern in residue.kinds:
        names.setdefault(kind.name, []).append(pattern)
    for left in ("istio", "istio-remote", "istio-waypoint", "istio-east-west"):
        assert any(fnmatchcase(left, pattern) for pattern in names["GatewayClass"])
    assert not any(fnmatchcase("cilium", pattern) for patterns in names.values() for pattern in patterns)
    assert "istio-ca-root-cert" in {pattern for _, pattern in residue.everywhere}


def test_all_releases_are_in_the_namespace_that_goes(order_for: OrderFor) -> None:
    assert {release.namespace for release in MESH.releases(order_for(MESH, "1.30.3"))} == {istiod.NAMESPACE}
