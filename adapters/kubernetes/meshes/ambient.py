"""Istio in ambient mode: ztunnel on every node, and where asked for a waypoint in front of the application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.kubernetes.api import LABEL_COMPONENT, Kind, Manifest, ObjectRef, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.mesh import (
    Condition,
    Containers,
    Enrolment,
    MeshOrder,
    MetricsEndpoint,
    Needs,
    Passage,
    Readiness,
    Residue,
    Rollout,
    Upkeep,
)
from adapters.kubernetes.mesh_parts import parity, tracing
from adapters.kubernetes.mesh_parts.rights import manage
from adapters.kubernetes.meshes import istio_metrics, istiod
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

_AMBIENT: Final = "ambient"  # Istio's own profile of values, and what pods are labelled with
_WAYPOINT: Final = "waypoint"
_GATEWAY: Final = Kind("gateway.networking.k8s.io/v1", "Gateway")
_METRICS: Final = MetricsEndpoint(15020, "/stats/prometheus")  # ztunnel and waypoint answer alike

_ALWAYS_ENCRYPTS: Final = (
    "mtls: false: between two pods in ambient mode Istio always encrypts; it treats DISABLE like PERMISSIVE"
)
_TLS_13_ALONE: Final = "tls_version 1.2: ztunnel speaks TLS 1.3 alone"
_SEES_NO_REQUESTS: Final = "ztunnel sees connections and no requests; placement server adds a waypoint, which does"


@dataclass(frozen=True, slots=True)
class Ambient:
    """Istio in ambient mode. Placement ``node``: ztunnel alone; ``server``: ztunnel and a waypoint."""

    name: str = "istio-ambient"
    title: str = "Istio ambient"
    upkeep: Upkeep = "maintained"
    note: str = (
        "placement node measures ztunnel, which works on connections (layer 4); placement server adds a waypoint, an "
        "Envoy in front of the application, which works on requests (layer 7). ztunnel and Istio's CNI agent run on "
        "every node of the cluster and are privileged."
    )
    placements: tuple[Placement, ...] = ("node", "server")

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """Return the control plane's chart, kinds, CNI agent and ztunnel."""
        return {name: istiod.chart(name) for name in ("istiod", "base", "cni", "ztunnel")}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return mesh version -> chart version: they are the same."""
        return istiod.versions_of(index)

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the same version for all four charts.

        Raises:
            ConfigurationError: one of them does not have it.
        """
        return istiod.chart_versions(version, self.charts, indexes)

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why ambient mode cannot run ``profile`` in ``placement``, or None."""
        where = self.placements
        if reason := parity.why_unsupported(self.title, profile, placement, where, mtls_in=where, no_traces=None):
            return reason
        if not profile.mtls:
            return _ALWAYS_ENCRYPTS
        if profile.tls_version != "1.3":
            return _TLS_13_ALONE
        if placement == "node":
            of_requests = ("access_log", "metrics", "request_id", "tracing_ratio")
            asked = [name for name in of_requests if getattr(profile, name)]
            return f"{', '.join(asked)}: {_SEES_NO_REQUESTS}" if asked else None
        return tracing.NEEDS_REQUEST_ID if profile.tracing_ratio and not profile.request_id else None

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what ztunnel does to a connection, or what it and the waypoint do to a request."""
        ztunnel = {
            "tls": _describe_tls(profile),
            "http_downstream": "passed through as bytes",
            "http_upstream": "passed through as bytes; up to 100 connections share an HTTP/2 connection (HBONE)",
            "idle_connections": "as many as the client opens",
            "timeout": "none: ztunnel sees no requests",
            "metrics": "counters of connections, always on",
            "request_id": "off",
        }
        if role == "node":
            return parity.equal_features(profile) | ztunnel
        wait = f"{profile.request_timeout_s:g} s"
        envoy = istiod.envoy_features(profile)
        waypoint = {
            "threads": f"{profile.proxy_threads} each; waypoint: {envoy['threads']}",
            "tls": f"{ztunnel['tls']}, on either side of the waypoint",
            "http_upstream": "HTTP/1.1 in tunnels: up to 100 connections share an HTTP/2 connection (HBONE)",
            "timeout": f"{wait} to connect, {wait} for the whole request",
        }
        return parity.equal_features(profile) | envoy | waypoint

    def needs(self, version: str) -> Needs:
        """Return the oldest Kubernetes and Gateway API this version works with."""
        return istiod.needs(version)

    def permissions(self) -> Sequence[Permission]:
        """Return the rights of Istio's charts, with the agents on the nodes, and of the waypoint."""
        return [
            *istiod.permissions(),
            *manage("apps", "daemonsets"),
            *manage("", "resourcequotas"),  # GKE rations the priority class of the agents
            *manage("k8s.cni.cncf.io", "network-attachment-definitions"),  # OpenShift chains network plugins by it
            *manage("gateway.networking.k8s.io", "gateways"),
        ]

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: istiod makes its own certificate authority."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the namespace of the control plane and of the agents, which are privileged."""
        return [parity.namespace_of_mesh(order, istiod.NAMESPACE)]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the charts in the order Istio's documentation installs and upgrades them."""
        return [
            istiod.base_release(order),
            istiod.release(order, "istiod", "istiod", _istiod_values(order)),
            istiod.release(order, "istio-cni", "cni", _cni_values(order)),
            istiod.release(order, "ztunnel", "ztunnel", _ztunnel_values(order)),
        ]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that istiod serves and that both agents are up on every node."""
        agents = ("istio-cni-node", "ztunnel")
        return [*istiod.readiness(), *(Rollout("DaemonSet", istiod.NAMESPACE, agent) for agent in agents)]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return labels of pods, on both sides: a client outside the mesh would pass a waypoint by.

        ztunnel takes every connection a pod opens, the one to the load's conductor too (unencrypted, passed on).
        """
        mode = {"istio.io/dataplane-mode": _AMBIENT}
        waypoint = {"istio.io/use-waypoint": _WAYPOINT} if order.placement == "server" else {}
        outside = {"istio.io/dataplane-mode": "none", "istio.io/use-waypoint": "none"}
        return Enrolment(namespace_labels=waypoint, app_labels=mode, load_labels=mode, outsider_labels=outside)

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return what servers demand; with a waypoint also the waypoint, its route and its telemetry."""
        mode = "PERMISSIVE" if order.profile.permissive else "STRICT"
        objects = [istiod.peer_authentication(order, mode)]
        if order.placement == "server":
            waypoint = {"group": _GATEWAY.group, "kind": _GATEWAY.name, "name": _WAYPOINT}
            objects += [
                _waypoint(order),
                istiod.telemetry(order, [waypoint]),
                *istiod.way_to_collector(order),
                istiod.made(order, istiod.DESTINATION_RULE, istiod.OBJECT_NAME, istiod.connections(order)),
                parity.http_route(order),
            ]
        return objects

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that the waypoint runs and istiod has read its route."""
        if order.placement != "server":
            return []
        return [
            Condition(_waypoint_ref(order), "Programmed"),
            Rollout("Deployment", order.namespace, _WAYPOINT),
            Condition(parity.http_route_ref(order), "Accepted"),
        ]

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return ztunnel as role ``node``, a waypoint as role ``server``, and the control plane."""
        requests, few = parity.proxy_requests(order.profile), parity.CONTROL_PLANE_REQUESTS
        agents = Containers(None, istiod.NAMESPACE, "k8s-app=istio-cni-node", ("install-cni",), few, None)
        proxies = [Containers("node", istiod.NAMESPACE, "app=ztunnel", (istiod.PROXY,), requests, None)]
        if order.placement == "server":
            selector = f"gateway.networking.k8s.io/gateway-name={_WAYPOINT}"
            proxies.append(Containers("server", None, selector, (istiod.PROXY,), requests, 1))
        return [*proxies, istiod.CONTROL_PLANE, agents]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return where ztunnel and the waypoint tell their metrics, which is the same place."""
        return _METRICS

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what ztunnel counted of connections, or the waypoint of requests."""
        if role == "node":
            return istio_metrics.ztunnel_passage(text, order)
        return istio_metrics.envoy_passage(text, istio_metrics.WAYPOINT, order)

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return the waypoint, whose Deployment goes with it while istiod can still tell."""
        return [_waypoint_ref(order)] if order.placement == "server" else []

    def residue(self) -> Residue:
        """Return what the charts and istiod leave; the CNI agent takes its files off the nodes itself."""
        return istiod.residue()


def _istiod_values(order: MeshOrder) -> dict[str, Any]:
    """Return the values with the waypoint beside the application, so that it does not burden the load's nodes.

    It runs in a namespace of the user's choice, where policy ``restricted`` would demand a seccomp profile.
    """
    beside = {
        "labelSelector": {"matchLabels": {LABEL_COMPONENT: "app"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    values = istiod.istiod_values(order, _AMBIENT)
    values["global"] |= _platform(order)
    values["gateways"] = {"seccompProfile": {"type": "RuntimeDefault"}}
    values["global"]["waypoint"]["affinity"] = {
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": beside}]}
    }
    return values


def _cni_values(order: MeshOrder) -> dict[str, Any]:
    return {
        "profile": _AMBIENT,
        "resources": {"requests": parity.CONTROL_PLANE_REQUESTS},
        "global": istiod.hub(order) | _platform(order),
    }


def _ztunnel_values(order: MeshOrder) -> dict[str, Any]:
    """Return the values of ztunnel; it would log a line for every connection."""
    return {
        "profile": _AMBIENT,
        "resources": parity.proxy_resources(order.profile),
        "env": {
            "ZTUNNEL_WORKER_THREADS": str(order.profile.proxy_threads),
            "CLUSTER_DOMAIN": order.cluster_domain,  # its charts have no value for it. Source: ztunnel, src/config.rs
        },
        "logLevel": "info,access=off",
        "global": _platform(order),
        **istiod.hub(order),
    }


def _platform(order: MeshOrder) -> dict[str, str]:
    """Return where the CNI agent finds the node's folders; sidecars need none of it."""
    return {"platform": order.platform} if order.platform else {}


def _waypoint_ref(order: MeshOrder) -> ObjectRef:
    return ObjectRef(_GATEWAY, order.namespace, _WAYPOINT)


def _waypoint(order: MeshOrder) -> Manifest:
    listener = {"name": "mesh", "port": 15008, "protocol": "HBONE", "allowedRoutes": {"namespaces": {"from": "Same"}}}
    gateway = istiod.made(order, _GATEWAY, _WAYPOINT, {"gatewayClassName": "istio-waypoint", "listeners": [listener]})
    gateway["metadata"]["labels"]["istio.io/waypoint-for"] = "service"
    return gateway


def _describe_tls(profile: Profile) -> str:
    plain = "; plaintext is taken too" if profile.permissive else ""
    return f"mutual TLS 1.3 between nodes (rustls, AES-256-GCM), ECDSA P-256 keys; peer: SPIFFE id{plain}"


MESH = Ambient()
