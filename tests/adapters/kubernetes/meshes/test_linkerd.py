"""Linkerd: versions by month and by name, values, what strict means, what its proxy counts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography import x509

from adapters.kubernetes.api import LABEL_MESH, ObjectRef
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import Condition, MeshOrder
from adapters.kubernetes.meshes.linkerd import CONTROL_PLANE, CRDS, ISSUER, MESH, NAMESPACE
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile
from meshgauge.selectors import resolve_selector

OrderFor = Callable[..., MeshOrder]

PLAIN, MTLS = BUILT_IN_PROFILES["plain"], BUILT_IN_PROFILES["mtls"]
PERMISSIVE = Profile(name="permissive", mtls=True, permissive=True)
OBSERVED = Profile(
    name="observed", mtls=True, access_log=True, proxy_threads=3, request_timeout_s=7.25,
    proxy_cpu_cores=1.5, proxy_memory_bytes=256 << 20,
)  # fmt: skip

INDEX = [
    ChartVersion(chart, f"edge-{chart[2:]}")
    for chart in ("2026.8.3", "2026.8.1", "2026.7.4", "2026.6.3", "2026.6.1", "2025.10.7", "2025.4.4", "2025.3.2")
] + [ChartVersion("1.16.11", "stable-2.14.10")]


@pytest.fixture
def order(order_for: OrderFor) -> Callable[..., MeshOrder]:
    def make(profile: Profile = MTLS, placement: Placement = "pair", **more: Any) -> MeshOrder:
        charts = dict.fromkeys(MESH.charts, "2026.8.3")
        return order_for(MESH, "26.8.3", profile, placement, chart_versions=charts, **more)

    return make


def values(order: MeshOrder) -> Mapping[str, Any]:
    return next(release.values for release in MESH.releases(order) if release.name == CONTROL_PLANE)


# -- versions


def test_versions_are_edge_releases_by_month_and_releases_by_name() -> None:
    known = MESH.versions_of(INDEX)
    assert known["26.8.3"] == "2026.8.3"
    assert known["2.20"] == known["26.6.3"] == "2026.6.3"
    assert known["2.19"] == "2025.10.7"
    assert "25.3.2" not in known, "that chart does not know how many threads to run"
    assert not any(chart.startswith("1.") for chart in known.values())


@pytest.mark.parametrize(
    ("selector", "version"),
    [("latest", "26.8.3"), ("previous", "26.7.4"), ("latest-2", "26.6.3"), (">=2.18,<3", "2.20"), ("2.19", "2.19")],
)
def test_selectors_step_through_months_and_ranges_through_releases(selector: str, version: str) -> None:
    assert resolve_selector(selector, list(MESH.versions_of(INDEX))) == version


def test_both_charts_have_the_version_of_the_release_that_was_named() -> None:
    indexes = {CONTROL_PLANE: INDEX, CRDS: INDEX}
    assert MESH.chart_versions("2.20", indexes) == {CONTROL_PLANE: "2026.6.3", CRDS: "2026.6.3"}
    with pytest.raises(ConfigurationError, match=r"linkerd 26\.5\.1: chart linkerd-control-plane has no version"):
        MESH.chart_versions("26.5.1", indexes)


# -- what it cannot


def test_plain_is_not_possible_between_two_proxies_and_is_at_one_end() -> None:
    assert "no switch" in (MESH.unsupported(PLAIN, "pair") or "")
    assert MESH.unsupported(PLAIN, "client") is None
    assert MESH.unsupported(PLAIN, "server") is None
    assert "both ends" in (MESH.unsupported(MTLS, "server") or "")
    assert MESH.unsupported(MTLS, "pair") is None
    assert MESH.unsupported(PERMISSIVE, "pair") is None


def test_tls_1_2_and_request_ids_are_not_possible() -> None:
    assert "1.3 alone" in (MESH.unsupported(Profile(name="old", mtls=True, tls_version="1.2"), "pair") or "")
    assert "request id" in (MESH.unsupported(Profile(name="ids", mtls=True, request_id=True), "pair") or "")


# -- secrets


def test_the_issuer_is_below_the_anchor_and_named_as_linkerd_looks_for_it() -> None:
    made = MESH.secrets()
    anchor, issuer = (x509.load_pem_x509_certificate(made[key].encode()) for key in ("ca.crt", "tls.crt"))
    issuer.verify_directly_issued_by(anchor)
    names = issuer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["identity.linkerd.cluster.local"]
    assert MESH.secrets()["tls.key"] != made["tls.key"], "made anew each time"


def test_the_key_is_in_a_secret_of_its_own_and_in_no_values(order: Callable[..., MeshOrder]) -> None:
    ordered = order()
    secret = next(one for one in MESH.objects(ordered) if one["kind"] == "Secret")
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == (ISSUER, NAMESPACE)
    assert secret["type"] == "kubernetes.io/tls"
    assert {key: base64.b64decode(text).decode() for key, text in secret["data"].items()} == ordered.secrets
    assert "PRIVATE KEY" not in json.dumps([release.values for release in MESH.releases(ordered)])
    own = values(ordered)
    assert own["identity"]["issuer"]["scheme"] == "kubernetes.io/tls", "the chart takes the Secret for given"
    assert own["identityTrustAnchorsPEM"] == ordered.secrets["ca.crt"]


# -- values


def test_the_injector_fails_closed_and_asks_for_our_namespaces_alone(order: Callable[..., MeshOrder]) -> None:
    own = values(order())
    assert own["webhookFailurePolicy"] == "Fail"
    (asked,) = own["proxyInjector"]["namespaceSelector"]["matchExpressions"]
    assert MESH.enrolment(order()).namespace_labels[asked["key"]] in asked["values"]
    assert asked["key"] == LABEL_MESH


def test_what_would_bias_is_set(order: Callable[..., MeshOrder]) -> None:
    own = values(order(OBSERVED))
    assert own["controllerReplicas"] == 1
    assert own["disableHeartBeat"] is True
    assert own["enableH2Upgrade"] is False
    proxy = own["proxy"]
    assert proxy["nativeSidecar"] is True
    assert proxy["runtime"]["workers"] == {"minimum": 3, "maximum": 3}
    assert proxy["inboundConnectTimeout"] == proxy["outboundConnectTimeout"] == "7250ms"
    assert proxy["resources"]["cpu"] == {"request": "1500m", "limit": "1500m"}
    assert proxy["resources"]["memory"] == {"request": str(256 << 20), "limit": str(256 << 20)}
    assert all(env["value"] == "604800s" for env in proxy["additionalEnv"]), "idle connections stay"


def test_without_limits_in_the_profile_there_are_none(order: Callable[..., MeshOrder]) -> None:
    resources = values(order())["proxy"]["resources"]
    assert [resources[name]["limit"] for name in ("cpu", "memory")] == ["", ""]


def test_images_are_those_of_the_edge_release_named_by_the_chart(order_for: OrderFor) -> None:
    charts = dict.fromkeys(MESH.charts, "2026.6.3")
    assert values(order_for(MESH, "2.20", chart_versions=charts))["linkerdVersion"] == "edge-26.6.3"


def test_no_limit_is_given_by_annotation_because_that_would_set_the_threads(order: Callable[..., MeshOrder]) -> None:
    enrolment = MESH.enrolment(order(OBSERVED))
    assert not [key for key in enrolment.app_annotations if "cpu" in key or "memory" in key]


# -- profiles


@pytest.mark.parametrize(("profile", "policy"), [(MTLS, "all-authenticated"), (PERMISSIVE, "all-unauthenticated")])
def test_strict_demands_an_identity_and_permissive_does_not(
    order: Callable[..., MeshOrder], profile: Profile, policy: str
) -> None:
    enrolment = MESH.enrolment(order(profile))
    for side in (enrolment.app_annotations, enrolment.load_annotations):
        assert side["linkerd.io/inject"] == "enabled"
        assert side["config.linkerd.io/default-inbound-policy"] == policy


def test_a_probe_from_outside_does_not_ask_as_the_kubelet_does(order: Callable[..., MeshOrder]) -> None:
    assert MESH.enrolment(order()).probe_method == "HEAD", "its policy lets everybody GET what is probed for health"


def test_only_the_profile_that_asks_for_it_logs_requests(order: Callable[..., MeshOrder]) -> None:
    assert MESH.enrolment(order(OBSERVED)).app_annotations["config.linkerd.io/access-log"] == "json"
    assert "config.linkerd.io/access-log" not in MESH.enrolment(order()).app_annotations


@pytest.mark.parametrize(
    ("placement", "app", "load"), [("server", "enabled", "disabled"), ("client", "disabled", "enabled")]
)
def test_a_placement_leaves_the_other_side_out_explicitly(
    order: Callable[..., MeshOrder], placement: Placement, app: str, load: str
) -> None:
    enrolment = MESH.enrolment(order(PLAIN, placement))
    assert enrolment.app_annotations["linkerd.io/inject"] == app
    assert enrolment.load_annotations["linkerd.io/inject"] == load


def test_the_route_has_the_time_out_and_the_admin_port_stays_readable(order: Callable[..., MeshOrder]) -> None:
    by_kind = {one["kind"]: one for one in MESH.configuration(order(OBSERVED))}
    (rule,) = by_kind["HTTPRoute"]["spec"]["rules"]
    assert rule["timeouts"] == {"request": "7s250ms", "backendRequest": "7s250ms"}
    assert by_kind["Server"]["spec"]["port"] == 4191
    assert by_kind["Server"]["spec"]["accessPolicy"] == "all-unauthenticated"


def test_it_is_settled_once_the_policy_controller_took_the_route(order: Callable[..., MeshOrder]) -> None:
    (awaited,) = MESH.configured(order())
    assert isinstance(awaited, Condition)
    assert awaited.type == "Accepted"
    assert awaited.ref in {ObjectRef.of(one) for one in MESH.configuration(order())}


def test_features_say_what_differs_between_the_sides() -> None:
    client, server = MESH.features(OBSERVED, "client"), MESH.features(OBSERVED, "server")
    assert server["tls"].startswith("terminates mutual TLS 1.3")
    assert "403" in server["tls"]
    assert client["timeout"] == "7.25 s for the whole request"
    assert "none for the reply" in server["timeout"]
    assert client["access_log"].startswith("off")
    assert server["access_log"].startswith("one JSON line")
    assert MESH.features(PLAIN, "server")["tls"] == "off"


# -- what the proxy counts

INBOUND = (
    'direction="inbound",target_addr="10.244.0.7:{port}",target_ip="10.244.0.7",target_port="{port}",{tls},'
    'srv_group="",srv_kind="default",srv_name="{server}",srv_port="{port}",route_group="",route_kind="default",'
    'route_name="{route}",authz_group="",authz_kind="default",authz_name="{authz}"'
)
IDENTIFIED = 'tls="true",client_id="default.bench.serviceaccount.identity.linkerd.cluster.local"'
UNIDENTIFIED = 'tls="no_identity",no_tls_reason="no_tls_from_remote"'


def inbound(tls: str, route: str = "default", port: int = 8080) -> str:
    authz = "probe" if route == "probe" else "all-authenticated"
    return INBOUND.format(port=port, tls=tls, server="all-authenticated", route=route, authz=authz)


SERVER_PAGE = f"""\
# HELP request_total Total count of HTTP requests.
# TYPE request_total counter
request_total{{{inbound(IDENTIFIED)}}} 900
request_total{{{inbound(IDENTIFIED, "probe")}}} 100
request_total{{{inbound(UNIDENTIFIED, "probe")}}} 12
request_total{{{inbound(UNIDENTIFIED, port=4191)}}} 44
# TYPE tcp_open_total counter
tcp_open_total{{direction="inbound",peer="src",target_addr="10.244.0.7:8080",target_port="8080",{IDENTIFIED}}} 16
tcp_open_total{{direction="inbound",peer="dst",tls="no_identity",no_tls_reason="loopback"}} 16
control_request_total{{addr="linkerd-policy.linkerd.svc:8090",{IDENTIFIED}}} 7
"""

OUTBOUND = (
    'direction="outbound",authority="app.bench.svc.cluster.local:8080",target_addr="10.244.0.7:8080",'
    'target_port="8080",{tls},dst_control_plane_ns="linkerd",dst_namespace="{ns}",dst_pod="app-1",dst_service="{app}"'
)


def outbound(tls: str = 'tls="true",server_id="x"', app: str = "app", ns: str = "bench") -> str:
    return OUTBOUND.format(tls=tls, app=app, ns=ns)


CLIENT_PAGE = f"""\
request_total{{{outbound()}}} 1000
request_total{{{outbound(app="other")}}} 5
request_total{{{outbound(ns="elsewhere")}}} 6
tcp_open_total{{direction="outbound",peer="src",target_addr="10.96.0.9:8080",target_port="8080",tls="no_identity"}} 16
tcp_open_total{{direction="outbound",peer="src",target_addr="10.0.0.1:5557",target_port="5557",tls="no_identity"}} 1
outbound_http_route_retry_requests_total{{parent_name="app",route_name="app"}} 2
"""


def test_probes_of_the_kubelet_and_reads_of_metrics_are_no_load(order: Callable[..., MeshOrder]) -> None:
    passage = MESH.passage(SERVER_PAGE, "server", order())
    assert (passage.requests, passage.encrypted, passage.connections) == (1000, 1000, 16)
    assert passage.retries is None


def test_plaintext_that_was_let_in_shows_as_not_encrypted(order: Callable[..., MeshOrder]) -> None:
    page = SERVER_PAGE + f"request_total{{{inbound(UNIDENTIFIED)}}} 30\n"
    passage = MESH.passage(page, "server", order(PERMISSIVE))
    assert (passage.requests, passage.encrypted) == (1030, 1000)


def test_behind_a_client_without_a_proxy_load_on_the_probed_path_counts(order: Callable[..., MeshOrder]) -> None:
    page = f"request_total{{{inbound(UNIDENTIFIED, 'probe')}}} 500\n"
    passage = MESH.passage(page, "server", order(PLAIN, "server"))
    assert (passage.requests, passage.encrypted) == (500, 0)


def test_a_client_counts_what_went_to_the_application_and_every_retry(order: Callable[..., MeshOrder]) -> None:
    passage = MESH.passage(CLIENT_PAGE, "client", order())
    assert (passage.requests, passage.encrypted, passage.connections, passage.retries) == (1000, 1000, 16, 2)


@pytest.mark.parametrize("role", ["client", "server"])
def test_before_the_first_request_nothing_was_counted(order: Callable[..., MeshOrder], role: Role) -> None:
    passage = MESH.passage("process_start_time_seconds 1\n", role, order())
    assert (passage.requests, passage.encrypted, passage.connections) == (0, 0, 0)


# -- what it leaves


def test_kinds_of_its_own_groups_go_and_nobody_elses() -> None:
    residue = MESH.residue()
    assert set(residue.groups) == {"linkerd.io", "policy.linkerd.io", "workload.linkerd.io"}
    assert residue.namespaces == (NAMESPACE,)
    assert not residue.everywhere


def test_kinds_come_before_the_control_plane_that_watches_them(order: Callable[..., MeshOrder]) -> None:
    assert [release.name for release in MESH.releases(order())] == [CRDS, CONTROL_PLANE]


@pytest.mark.parametrize(("version", "kube"), [("26.8.3", ">=1.31"), ("2.20", ">=1.31"), ("2.19", ">=1.29")])
def test_it_needs_kubernetes_as_its_chart_and_native_sidecars_say(version: str, kube: str) -> None:
    assert MESH.needs(version).kube == kube
    assert MESH.needs(version).gateway_api is None
