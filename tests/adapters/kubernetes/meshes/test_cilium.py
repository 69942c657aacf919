"""Cilium: attached to, held against what a comparison needs, never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stand_in_charts import CILIUM_CONFIG

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import MeshOrder, Residue, Setting
from adapters.kubernetes.meshes import cilium
from adapters.kubernetes.server.judging import missing
from meshgauge.errors import ConfigurationError
from meshgauge.plan import BUILT_IN_PROFILES, Profile

OrderFor = Callable[..., MeshOrder]

MESH = cilium.MESH
PLAIN = BUILT_IN_PROFILES["plain"]


def installation(version: str = "1.20.0", threads: int = 1, **config: str | None) -> dict[str, Manifest]:
    """Return what Meshgauge looks at, as chart 1.20 makes it with the values we ask for."""
    data = CILIUM_CONFIG | {key.replace("_", "-"): value for key, value in config.items()}
    labels = {"k8s-app": "cilium", "helm.sh/chart": f"cilium-{version}"}
    args = ["--", "-c /var/run/cilium/envoy/bootstrap-config.json", "--base-id 0", "--log-level info"]
    containers = [{"name": "cilium-envoy", "args": [*args, "--concurrency", str(threads)]}]
    return {
        "cilium-config": {"data": {key: value for key, value in data.items() if value is not None}},
        "cilium": {"metadata": {"labels": labels}},
        "cilium-envoy": {"spec": {"template": {"spec": {"containers": containers}}}},
    }


def complaints(order: MeshOrder, there: dict[str, Manifest]) -> list[str]:
    settings = [each for each in MESH.readiness(order) if isinstance(each, Setting)]
    found = (missing(each, [there[each.ref.name]]) for each in settings)
    return [sentence for sentence in found if sentence]


@pytest.fixture
def order(order_for: OrderFor) -> MeshOrder:
    return order_for(MESH, "1.20.0", PLAIN, "node")


def test_versions_begin_where_every_switch_is_there() -> None:
    index = [ChartVersion(version, version) for version in ("1.21.0-pre.0", "1.20.0", "1.19.6", "not-a-version")]
    assert sorted(MESH.versions_of(index)) == ["1.20.0", "1.21.0-pre.0"]
    with pytest.raises(ConfigurationError, match=r"Cilium 1\.19\.6"):
        MESH.chart_versions("1.19.6", {"cilium": index})


def test_nothing_is_installed_and_nothing_is_left(order: MeshOrder) -> None:
    assert not MESH.releases(order)
    assert not MESH.objects(order)
    assert MESH.residue() == Residue()
    assert "1.20.0" in MESH.needs("1.20.0").installed


def test_an_installation_as_asked_for_is_taken(order: MeshOrder, order_for: OrderFor) -> None:
    assert complaints(order, installation()) == []
    busy = Profile(name="busy", proxy_threads=4, access_log=True)
    there = installation(threads=4, envoy_access_log_enabled="true")
    assert complaints(order_for(MESH, "1.20.0", busy, "node"), there) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"enable_gateway_api": None}, "data.enable-gateway-api not set, not 'true'"),
        ({"proxy_cluster_max_requests": "1024"}, "data.proxy-cluster-max-requests '1024', not '999999'"),
        ({"envoy_access_log_enabled": "true"}, "data.envoy-access-log-enabled 'true', not 'false'"),
        ({"enable_wireguard": "true"}, "data.enable-wireguard 'true', not unset"),
        ({"threads": 10}, "--concurrency 10"),
        ({"version": "1.20.1"}, "'cilium-1.20.1', not 'cilium-1.20.0'"),
    ],
)
def test_an_installation_that_differs_is_refused_with_what_and_how_to_change_it(
    order: MeshOrder, changed: dict[str, Any], said: str
) -> None:
    (sentence,) = complaints(order, installation(**changed))
    assert said in sentence
    assert "helm upgrade cilium" in sentence or "name the version that is installed" in sentence


def test_the_command_sets_everything_at_once_and_keeps_the_rest(order_for: OrderFor) -> None:
    profile = Profile(name="busy", proxy_threads=4, access_log=True)
    sentence = complaints(order_for(MESH, "1.20.0", profile, "node"), installation(enable_l7_proxy="false"))[0]
    assert "--reuse-values" in sentence
    assert "--version 1.20.0" in sentence
    for value in ("gatewayAPI.enabled=true", "envoy.log.accessLogEnabled=true", "{--concurrency,4}"):
        assert value in sentence


def test_mutual_tls_is_the_clusters_own_business() -> None:
    assert "no mutual TLS" in (MESH.unsupported(BUILT_IN_PROFILES["mtls"], "node") or "")
    assert MESH.unsupported(PLAIN, "node") is None


def test_limits_are_the_clusters_own_business() -> None:
    assert "proxy_cpu_cores" in (MESH.unsupported(Profile(name="p", proxy_cpu_cores=1), "node") or "")


def test_a_route_takes_the_service_in_and_goes_first(order: MeshOrder) -> None:
    (route,) = MESH.configuration(order)
    assert route["kind"] == "HTTPRoute"
    assert route["spec"]["parentRefs"] == [{"group": "", "kind": "Service", "name": "app", "port": 8080}]
    assert [ref.name for ref in MESH.removal(order)] == ["app"]


def test_the_nodes_envoy_counts_what_it_sent_to_the_application(order: MeshOrder) -> None:
    text = "\n".join(
        [
            'envoy_cluster_upstream_rq_total{envoy_cluster_name="bench/app/bench_app_8080"} 250',
            'envoy_cluster_upstream_rq_total{envoy_cluster_name="bench/app/bench:app:8080"} 1',
            'envoy_cluster_upstream_rq_total{envoy_cluster_name="other/app/other_app_8080"} 999',
            'envoy_cluster_upstream_rq_total{envoy_cluster_name="xds-grpc-cilium"} 5',
            'envoy_cluster_upstream_rq_retry{envoy_cluster_name="bench/app/bench_app_8080"} 0',
            'envoy_cluster_upstream_rq_retry_success{envoy_cluster_name="bench/app/bench_app_8080"} 3',
        ]
    )
    passage = MESH.passage(text, "node", order)
    assert (passage.requests, passage.retries) == (251, 0)
    assert passage.encrypted is None, "Cilium's Envoy knows of none"


def test_an_envoy_without_the_route_counts_nothing(order: MeshOrder) -> None:
    assert MESH.passage("envoy_server_live{} 1\n", "node", order).requests is None
