"""Meshes whose makers stopped: what they refuse, what they are told, what their counters say."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

from adapters.contract import FEATURES
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import KubernetesMesh, MeshOrder, Passage
from adapters.kubernetes.meshes import nginx_service_mesh, osm, traefik_mesh
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

MESHES: tuple[KubernetesMesh, ...] = (osm.MESH, nginx_service_mesh.MESH, traefik_mesh.MESH)
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
PROFILES = (
    *BUILT_IN_PROFILES.values(),
    Profile(name="permissive", mtls=True, permissive=True),
    Profile(name="old-tls", mtls=True, tls_version="1.2"),
    Profile(name="limited", mtls=True, proxy_cpu_cores=0.5, proxy_memory_bytes=64 << 20),
    Profile(name="traced", tracing_ratio=0.1),
    Profile(name="identified", request_id=True),
)
ROLES: dict[Placement, tuple[Role, ...]] = {
    "pair": ("client", "server"),
    "client": ("client",),
    "server": ("server",),
    "node": ("node",),
}
INDEX = [
    ChartVersion("4.1.1", "v1.4.8"),
    ChartVersion("4.1.0", "v1.4.8"),
    ChartVersion("3.0.8", "v1.4.1"),
    ChartVersion("2.0.0", ""),
    ChartVersion("1.7.0", ""),
    ChartVersion("1.2.4", "v1.2.4"),
    ChartVersion("1.1.3", "v1.1.3"),
    ChartVersion("not-a-version", "v9"),
]


def order(
    mesh: KubernetesMesh, profile: str | Profile = "plain", placement: Placement = "pair", **more: Any
) -> MeshOrder:
    chosen = BUILT_IN_PROFILES[profile] if isinstance(profile, str) else profile
    charts = dict.fromkeys(mesh.charts, "1.0.0")
    return MeshOrder("1.0.0", charts, chosen, placement, "mg", {"meshgauge.io/site": "s"}, **more)


def values(mesh: KubernetesMesh, *args: Any, **more: Any) -> dict[str, Any]:
    (release,) = mesh.releases(order(mesh, *args, **more))
    return dict(release.values)


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: mesh.name)
def test_every_profile_runs_with_all_features_told_or_is_refused_with_a_reason(mesh: KubernetesMesh) -> None:
    ran = 0
    for profile, placement in itertools.product(PROFILES, PLACEMENTS):
        reason = mesh.unsupported(profile, placement)
        assert reason is None or len(reason) > 20
        if reason is None:
            ran += 1
            assert placement in mesh.placements
            roles = {group.role for group in mesh.containers(order(mesh, profile, placement))}
            assert roles == {*ROLES[placement], None}
            for role in ROLES[placement]:
                features = mesh.features(profile, role)
                assert set(features) == set(FEATURES)
                assert all(features.values())
    assert ran


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: mesh.name)
def test_they_say_what_they_are(mesh: KubernetesMesh) -> None:
    assert mesh.upkeep in ("dormant", "archived")
    assert len(mesh.note) > 40
    assert mesh.secrets() == {}


def test_what_cannot_be_done_is_refused() -> None:
    assert "always use mutual TLS" in (osm.MESH.unsupported(BUILT_IN_PROFILES["plain"], "pair") or "")
    assert osm.MESH.unsupported(BUILT_IN_PROFILES["mtls"], "pair") is None
    assert "no mutual TLS" in (traefik_mesh.MESH.unsupported(BUILT_IN_PROFILES["mtls"], "node") or "")
    assert traefik_mesh.MESH.unsupported(BUILT_IN_PROFILES["observed"], "node") is None
    limited = next(profile for profile in PROFILES if profile.name == "limited")
    assert "proxy_cpu_cores" in (nginx_service_mesh.MESH.unsupported(limited, "pair") or "")
    assert nginx_service_mesh.MESH.unsupported(BUILT_IN_PROFILES["plain"], "server") is None


def test_versions_are_those_of_the_mesh_with_the_newest_chart_of_each() -> None:
    assert osm.MESH.versions_of(INDEX[5:]) == {"1.2.4": "1.2.4"}
    assert nginx_service_mesh.MESH.versions_of(INDEX[3:5]) == {"2.0.0": "2.0.0"}
    assert traefik_mesh.MESH.versions_of(INDEX[:3]) == {"1.4.8": "4.1.1"}
    assert traefik_mesh.MESH.chart_versions("1.4.8", {"traefik-mesh": INDEX}) == {"traefik-mesh": "4.1.1"}
    with pytest.raises(ConfigurationError, match=r"osm 9\.9: no chart osm installs it; there are: 1\.2\.4"):
        osm.MESH.chart_versions("9.9", {"osm": INDEX[5:]})


def test_nginx_is_told_its_mode_and_pods_that_it_is_off() -> None:
    mesh = nginx_service_mesh.MESH
    profiles = {profile.name: profile for profile in PROFILES}
    modes = {name: values(mesh, profiles[name])["mtls"]["mode"] for name in ("plain", "mtls", "permissive")}
    assert modes == {"plain": "permissive", "mtls": "strict", "permissive": "permissive"}, "never off: YAML's false"
    off = {"config.nsm.nginx.com/mtls-mode": "off"}
    plain, encrypted = mesh.enrolment(order(mesh)), mesh.enrolment(order(mesh, "mtls"))
    assert (plain.app_annotations, plain.load_annotations) == (off, off)
    assert (encrypted.app_annotations, encrypted.load_annotations) == ({}, {})


def test_traefik_has_the_profiles_threads_pool_and_time_out_and_no_limit_of_its_chart() -> None:
    profile = Profile(name="p", proxy_threads=3, idle_connections=77, request_timeout_s=2.5, access_log=True)
    proxy = values(traefik_mesh.MESH, profile, "node")["proxy"]
    assert proxy["env"] == [{"name": "GOMAXPROCS", "value": "3"}]
    assert "--serversTransport.maxIdleConnsPerHost=77" in proxy["additionalArguments"]
    assert "--accesslog=true" in proxy["additionalArguments"]
    assert proxy["forwardingTimeouts"]["responseHeaderTimeout"] == "2.5s"
    assert proxy["resources"]["limit"]["cpu"] == "256"
    limited = Profile(name="p", proxy_cpu_cores=0.5, proxy_memory_bytes=64 << 20)
    resources = values(traefik_mesh.MESH, limited, "node")["proxy"]["resources"]
    assert resources["limit"] == {"cpu": "500m", "mem": str(64 << 20)}


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: mesh.name)
def test_a_mirror_of_images_is_used(mesh: KubernetesMesh) -> None:
    assert "mirror.example:5000" not in str(values(mesh))
    assert "mirror.example:5000/" in str(values(mesh, images="mirror.example:5000/"))


def test_the_way_to_the_conductor_is_left_alone_and_sides_out_of_the_placement_say_so() -> None:
    mesh = nginx_service_mesh.MESH
    pair, server = mesh.enrolment(order(mesh, master_port=5557)), mesh.enrolment(order(mesh, placement="server"))
    assert pair.load_annotations["config.nsm.nginx.com/ignore-outgoing-ports"] == "5557"
    assert server.load_labels == {"injector.nsm.nginx.com/auto-inject": "disabled"}
    assert server.app_labels == {"injector.nsm.nginx.com/auto-inject": "enabled"}
    injected = osm.MESH.enrolment(order(osm.MESH, "mtls", master_port=5557))
    assert injected.load_annotations["openservicemesh.io/outbound-port-exclusion-list"] == "5557"
    assert injected.namespace_labels["openservicemesh.io/monitored-by"] == "osm"
    assert traefik_mesh.MESH.enrolment(order(traefik_mesh.MESH, placement="node")).app_host == "app.mg.traefik.mesh"


OSM_SERVER = """
envoy_cluster_upstream_rq_total{envoy_cluster_name="mg/app|8080|local"} 5000
envoy_cluster_upstream_rq_total{envoy_cluster_name="envoy-metrics-cluster"} 12
envoy_cluster_upstream_rq_retry{envoy_cluster_name="mg/app|8080|local"} 0
envoy_listener_downstream_cx_total{envoy_listener_address="0.0.0.0_15003"} 16
envoy_listener_downstream_cx_total{envoy_listener_address="0.0.0.0_15010"} 3
envoy_listener_ssl_handshake{envoy_listener_address="0.0.0.0_15003"} 16
envoy_control_plane_connected_state{} 1
envoy_cluster_manager_cds_update_rejected{} 0
envoy_cluster_manager_warming_clusters{} 0
envoy_listener_manager_lds_update_rejected{} 0
envoy_listener_manager_total_listeners_warming{} 0
"""
OSM_CLIENT = """
envoy_cluster_upstream_rq_total{envoy_cluster_name="mg/app|8080"} 5000
envoy_cluster_upstream_rq_total{envoy_cluster_name="mg/other|8080"} 7
envoy_cluster_upstream_cx_total{envoy_cluster_name="mg/app|8080"} 16
envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name="mg/app|8080"} 0
envoy_cluster_ssl_handshake{envoy_cluster_name="mg/app|8080"} 16
envoy_cluster_upstream_rq_retry{envoy_cluster_name="mg/app|8080"} 0
"""


def test_osm_counts_requests_of_the_application_and_connections_with_tls() -> None:
    ordered = order(osm.MESH, "mtls")
    assert osm.MESH.passage(OSM_SERVER, "server", ordered) == Passage(5000, 16, 5000, 0, True)
    assert osm.MESH.passage(OSM_CLIENT, "client", ordered) == Passage(5000, 16, 5000, 0, None)
    plain = "\n".join(line.replace("} 16", "} 15") if "handshake" in line else line for line in OSM_SERVER.splitlines())
    assert osm.MESH.passage(plain, "server", ordered).encrypted is None
    assert osm.MESH.passage("", "server", ordered) == Passage()


def test_nginx_counts_what_went_to_the_application_apart_from_what_went_out() -> None:
    ordered = order(nginx_service_mesh.MESH)
    text = (
        'nginxplus_upstream_server_requests{server="127.0.0.1:8080"} 400\n'
        'nginxplus_upstream_server_requests{server="10.0.0.9:8080",dst_service="app",dst_namespace="mg"} 30\n'
        'nginxplus_upstream_server_requests{server="10.0.0.8:8080",dst_service="db",dst_namespace="mg"} 2\n'
    )
    assert nginx_service_mesh.MESH.passage(text, "server", ordered).requests == 400
    assert nginx_service_mesh.MESH.passage(text, "client", ordered).requests == 30
    assert nginx_service_mesh.MESH.passage("", "client", ordered).requests is None


def test_traefik_counts_by_service() -> None:
    ordered = order(traefik_mesh.MESH, placement="node")
    text = (
        'traefik_service_requests_total{code="200",method="GET",protocol="http",service="mg-app-8080@http"} 90\n'
        'traefik_service_requests_total{code="503",method="GET",protocol="http",service="mg-app-8080@http"} 10\n'
        'traefik_service_requests_total{code="200",method="GET",protocol="http",service="other-app-8080@http"} 5\n'
    )
    assert traefik_mesh.MESH.passage(text, "node", ordered) == Passage(100, None, 0.0, None)
