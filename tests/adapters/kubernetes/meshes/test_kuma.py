"""Kuma: versions before 3, one Mesh and its policies for each profile, what Envoy counts under Kuma's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from adapters.kubernetes.api import ObjectRef
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import Condition, MeshOrder
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.meshes.kuma import CHART, MESH, METRICS_PORT, NAMESPACE
from meshgauge.errors import ConfigurationError
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile
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
    ChartVersion(version, version)
    for version in ("3.0.0", "3.0.0-rc.1", "2.14.3", "2.14.1", "2.13.10", "2.13.9", "2.12.11", "0.0.0-preview.v1")
]


@pytest.fixture
def order(order_for: OrderFor) -> Callable[..., MeshOrder]:
    def make(profile: Profile = MTLS, placement: Placement = "pair", **more: Any) -> MeshOrder:
        return order_for(MESH, "2.14.3", profile, placement, **more)

    return make


def values(order: MeshOrder) -> Any:
    (release,) = MESH.releases(order)
    return release.values


def specs(order: MeshOrder) -> dict[str, Any]:
    return {manifest["kind"]: manifest["spec"] for manifest in MESH.configuration(order)}


# -- versions


def test_versions_it_has_no_policies_for_are_not_offered() -> None:
    assert list(MESH.versions_of(INDEX)) == ["2.14.3", "2.14.1", "2.13.10", "2.13.9"]


@pytest.mark.parametrize(("selector", "version"), [("latest", "2.14.3"), ("previous", "2.13.10"), ("<2.14", "2.13.10")])
def test_selectors_count_its_minors(selector: str, version: str) -> None:
    assert resolve_selector(selector, list(MESH.versions_of(INDEX))) == version


def test_kuma_3_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match="takes mutual TLS from other objects"):
        MESH.chart_versions("3.0.0", {CHART: INDEX})
    with pytest.raises(ConfigurationError, match=r"kuma 2\.12\.11: no chart kuma installs it"):
        MESH.chart_versions("2.12.11", {CHART: INDEX})


def test_a_server_alone_runs_plain_and_a_client_alone_not_at_all() -> None:
    assert MESH.unsupported(PLAIN, "server") is None
    assert MESH.unsupported(PLAIN, "pair") is None
    assert "both ends" in (MESH.unsupported(MTLS, "server") or "")
    assert "stands as pair or server" in (MESH.unsupported(PLAIN, "client") or "")


# -- installation


def test_without_hooks_the_namespace_is_labelled_as_the_chart_demands(order: Callable[..., MeshOrder]) -> None:
    (namespace,) = MESH.objects(order())
    assert namespace["metadata"]["name"] == NAMESPACE
    assert namespace["metadata"]["labels"]["kuma.io/sidecar-injection"] == "false"
    assert values(order())["noHelmHooks"] is True


def test_no_mesh_of_kumas_own_making_comes_up(order: Callable[..., MeshOrder]) -> None:
    control_plane = values(order())["controlPlane"]
    assert control_plane["defaults"] == {"skipMeshCreation": True}
    assert control_plane["replicas"] == 1
    assert control_plane["autoscaling"] == {"enabled": False}
    assert control_plane["envVars"]["KUMA_REPORTS_ENABLED"] == "false"


def test_sidecars_get_the_profiles_limits_and_none_without(order: Callable[..., MeshOrder]) -> None:
    start = "KUMA_INJECTOR_SIDECAR_CONTAINER_RESOURCES_"
    limited = values(order(OBSERVED))["controlPlane"]["envVars"]
    assert limited[f"{start}REQUESTS_CPU"] == limited[f"{start}LIMITS_CPU"] == "1500m"
    assert limited[f"{start}REQUESTS_MEMORY"] == limited[f"{start}LIMITS_MEMORY"] == str(256 << 20)
    free = values(order())["controlPlane"]["envVars"]
    assert free[f"{start}LIMITS_CPU"] == "0", "how Kuma writes that there is none"
    assert free[f"{start}LIMITS_MEMORY"] == "4Gi"
    assert free[f"{start}REQUESTS_CPU"] == parity.CPU_REQUEST


def test_sidecars_are_native_in_every_version_so_that_jobs_end(order: Callable[..., MeshOrder]) -> None:
    assert values(order())["experimental"] == {"sidecarContainers": True}


def test_images_come_from_another_registry(order: Callable[..., MeshOrder]) -> None:
    assert values(order(images="mirror.example/x/"))["global"]["image"]["registry"] == "mirror.example/x/kumahq"


# -- pods


def test_threads_are_said_to_each_sidecar(order: Callable[..., MeshOrder]) -> None:
    enrolment = MESH.enrolment(order(OBSERVED))
    assert enrolment.app_annotations["kuma.io/sidecar-proxy-concurrency"] == "3"
    assert enrolment.load_annotations == enrolment.app_annotations
    assert enrolment.service_account_token, "a sidecar proves with it who it is"


def test_a_server_alone_leaves_the_load_out_explicitly(order: Callable[..., MeshOrder]) -> None:
    enrolment = MESH.enrolment(order(PLAIN, "server"))
    assert enrolment.app_labels["kuma.io/sidecar-injection"] == "enabled"
    assert enrolment.load_labels["kuma.io/sidecar-injection"] == "disabled"
    assert [one.role for one in MESH.containers(order(PLAIN, "server"))] == ["server", None]


# -- policies


def test_plain_has_no_mutual_tls_and_no_policy_about_it(order: Callable[..., MeshOrder]) -> None:
    plain = specs(order(PLAIN))
    assert "mtls" not in plain["Mesh"]
    assert not {"MeshTLS", "MeshTrafficPermission"} & plain.keys()


@pytest.mark.parametrize(("profile", "mode"), [(MTLS, "Strict"), (PERMISSIVE, "Permissive")])
def test_mutual_tls_has_an_authority_a_mode_and_a_permission(
    order: Callable[..., MeshOrder], profile: Profile, mode: str
) -> None:
    own = specs(order(profile))
    (backend,) = own["Mesh"]["mtls"]["backends"]
    assert backend == {"name": own["Mesh"]["mtls"]["enabledBackend"], "type": "builtin"}
    assert own["MeshTLS"]["from"][0]["default"]["mode"] == mode
    assert own["MeshTrafficPermission"]["from"][0]["default"] == {"action": "Allow"}, "else all is refused"


def test_one_version_of_tls_with_a_cipher_for_its_rsa_certificates(order: Callable[..., MeshOrder]) -> None:
    newer, older = (specs(order(each))["MeshTLS"]["from"][0]["default"] for each in (MTLS, OLD_TLS))
    assert newer["tlsVersion"] == {"min": "TLS13", "max": "TLS13"}
    assert older["tlsVersion"] == {"min": "TLS12", "max": "TLS12"}
    assert older["tlsCiphers"] == ["ECDHE-RSA-AES128-GCM-SHA256"]
    assert "RSA" in MESH.features(MTLS, "server")["tls"]


@pytest.mark.parametrize("profile", [PLAIN, MTLS, OBSERVED])
def test_hidden_retries_and_limits_are_gone_in_every_profile(order: Callable[..., MeshOrder], profile: Profile) -> None:
    own = specs(order(profile))
    assert own["Mesh"]["skipCreatingInitialPolicies"] == ["*"]
    assert own["Mesh"]["meshServices"] == {"mode": "Exclusive"}
    assert "MeshRetry" not in own
    for way in ("to", "from"):
        limits = own["MeshCircuitBreaker"][way][0]["default"]["connectionLimits"]
        assert set(limits.values()) == {parity.NO_LIMIT}


def test_the_time_out_holds_both_ways_and_idle_connections_stay(order: Callable[..., MeshOrder]) -> None:
    own = specs(order(OBSERVED))["MeshTimeout"]
    for way in ("to", "from"):
        default = own[way][0]["default"]
        assert default["connectionTimeout"] == default["http"]["requestTimeout"] == "7s250ms"
        assert default["idleTimeout"] == f"{parity.IDLE_S}s"


def test_requests_are_logged_where_the_profile_says(order: Callable[..., MeshOrder]) -> None:
    (backend,) = specs(order(OBSERVED))["MeshAccessLog"]["to"][0]["default"]["backends"]
    assert backend == {"type": "File", "file": {"path": "/dev/stdout"}}
    assert "MeshAccessLog" not in specs(order())


def test_a_share_of_requests_goes_to_the_collector_of_the_namespace(order: Callable[..., MeshOrder]) -> None:
    traced = Profile(name="traced", mtls=True, tracing_ratio=0.025)
    (policy,) = [one for one in MESH.configuration(order(traced)) if one["kind"] == "MeshTrace"]
    assert policy["metadata"]["namespace"] == "bench", "beyond its namespace it would hold for every proxy"
    assert policy["metadata"]["labels"]["kuma.io/mesh"] == "default"
    (backend,) = policy["spec"]["default"]["backends"]
    assert backend["zipkin"] == {
        "url": "http://trace-collector.bench.svc:9411/api/v2/spans",
        "apiVersion": "httpJson",
        "traceId128bit": True,
        "sharedSpanContext": False,
    }
    assert policy["spec"]["default"]["sampling"] == {"random": "2.5"}, "decimals only as text"
    assert "MeshTrace" not in specs(order())


def test_a_pod_beside_the_mesh_gets_no_sidecar_although_its_namespace_says_so(order: Callable[..., MeshOrder]) -> None:
    enrolment = MESH.enrolment(order())
    assert enrolment.namespace_labels == {"kuma.io/sidecar-injection": "enabled"}
    assert enrolment.outsider_labels == {"kuma.io/sidecar-injection": "disabled"}


def test_counters_are_open_where_they_are_read(order: Callable[..., MeshOrder]) -> None:
    default = specs(order())["MeshMetric"]["default"]
    endpoint = MESH.metrics("client")
    assert endpoint is not None
    assert default["backends"][0]["prometheus"] == {"port": endpoint.port, "path": endpoint.path}
    assert endpoint.port == METRICS_PORT
    assert default["sidecar"]["includeUnused"] is True, "being in sync is told by counters that stay 0"


def test_policies_hold_for_the_whole_mesh_they_are_labelled_with(order: Callable[..., MeshOrder]) -> None:
    mesh, *policies = MESH.configuration(order(OBSERVED))
    for policy in policies:
        assert policy["metadata"]["namespace"] == NAMESPACE
        assert policy["metadata"]["labels"]["kuma.io/mesh"] == mesh["metadata"]["name"]
        assert policy["spec"]["targetRef"] == {"kind": "Mesh"}


def test_it_is_settled_once_the_control_plane_knows_the_applications_service(order: Callable[..., MeshOrder]) -> None:
    awaited = [one.ref for one in MESH.configured(order()) if isinstance(one, Condition)]
    assert [(ref.kind.name, ref.namespace, ref.name) for ref in awaited] == [
        ("Mesh", "", "default"),
        ("MeshService", "bench", "app"),
    ]


# -- what Envoy counts


def in_sync(connected: int = 1) -> str:
    return (
        f"envoy_control_plane_connected_state {connected}\n"
        "envoy_cluster_manager_cds_update_rejected 0\n"
        "envoy_cluster_manager_warming_clusters 0\n"
        "envoy_listener_manager_lds_update_rejected 0\n"
        "envoy_listener_manager_total_listeners_warming 0\n"
    )


def server_page(with_tls: int) -> str:
    return (
        'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="localhost_8080"} 1000\n'
        'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="_kuma_metrics_prometheus_default-backend"} 7\n'
        'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="_kuma_dynamicconfig"} 99\n'
        'envoy_http_downstream_cx_total{envoy_http_conn_manager_prefix="localhost_8080"} 16\n'
        f'envoy_http_downstream_cx_ssl_total{{envoy_http_conn_manager_prefix="localhost_8080"}} {with_tls}\n'
        'envoy_cluster_upstream_rq_retry{envoy_cluster_name="localhost_8080"} 0\n'
    ) + in_sync()


def client_page(cluster: str = "default_app_bench_default_msvc_8080") -> str:
    return (
        f'envoy_cluster_upstream_rq_total{{envoy_cluster_name="{cluster}"}} 1000\n'
        'envoy_cluster_upstream_rq_total{envoy_cluster_name="default_app_elsewhere_default_msvc_8080"} 8\n'
        'envoy_cluster_upstream_rq_total{envoy_cluster_name="default_app_bench_default_msvc_9090"} 9\n'
        f'envoy_cluster_upstream_cx_total{{envoy_cluster_name="{cluster}"}} 16\n'
        f'envoy_cluster_upstream_cx_connect_fail{{envoy_cluster_name="{cluster}"}} 0\n'
        f'envoy_cluster_ssl_handshake{{envoy_cluster_name="{cluster}"}} 16\n'
        f'envoy_cluster_upstream_rq_retry{{envoy_cluster_name="{cluster}"}} 0\n'
    ) + in_sync()


@pytest.mark.parametrize(("with_tls", "encrypted"), [(16, 1000), (0, 0), (9, None)])
def test_a_server_counts_its_inbound_listener(
    order: Callable[..., MeshOrder], with_tls: int, encrypted: float | None
) -> None:
    passage = MESH.passage(server_page(with_tls), "server", order(PERMISSIVE))
    assert (passage.requests, passage.connections, passage.retries) == (1000, 16, 0)
    assert passage.encrypted == encrypted
    assert passage.in_sync is True


def test_a_client_counts_the_applications_mesh_service_in_any_zone(order: Callable[..., MeshOrder]) -> None:
    for zone in ("default", "", "east-1"):
        passage = MESH.passage(client_page(f"default_app_bench_{zone}_msvc_8080"), "client", order())
        assert (passage.requests, passage.encrypted, passage.retries) == (1000, 1000, 0)


def test_a_proxy_without_its_control_plane_is_not_in_sync(order: Callable[..., MeshOrder]) -> None:
    page = server_page(16).replace(in_sync(), in_sync(connected=0))
    assert MESH.passage(page, "server", order()).in_sync is False


# -- its life


def test_the_webhook_that_refuses_deletions_goes_first_while_it_can(order: Callable[..., MeshOrder]) -> None:
    (webhook,) = MESH.removal(order())
    assert webhook == ObjectRef(webhook.kind, "", "kuma-validating-webhook-configuration")
    assert webhook.kind.name == "ValidatingWebhookConfiguration"


def test_kinds_helm_never_removes_go() -> None:
    residue = MESH.residue()
    assert residue.groups == ("kuma.io",)
    assert residue.namespaces == (NAMESPACE,)
