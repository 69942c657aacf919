"""Istio with a sidecar beside every pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.kubernetes.api import Manifest, ObjectRef, Permission
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
    Upkeep,
)
from adapters.kubernetes.mesh_parts import parity, tracing
from adapters.kubernetes.meshes import istio_metrics, istiod
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

_METRICS_PORT: Final = 15090  # Envoy's own; 15020 is the agent's, which adds the application's metrics
_SIDES: Final[dict[Placement, tuple[Role, ...]]] = {
    "pair": ("client", "server"),
    "client": ("client",),
    "server": ("server",),
}


@dataclass(frozen=True, slots=True)
class Istio:
    """Istio's sidecars: Envoy, injected as native sidecars by istiod."""

    name: str = "istio"
    title: str = "Istio"
    upkeep: Upkeep = "maintained"
    note: str = ""
    placements: tuple[Placement, ...] = ("pair", "client", "server")

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """Return the control plane's chart, and the one with Istio's kinds."""
        return {name: istiod.chart(name) for name in ("istiod", "base")}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return mesh version -> chart version: they are the same."""
        return istiod.versions_of(index)

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the same version for both charts.

        Raises:
            ConfigurationError: one of them does not have it.
        """
        return istiod.chart_versions(version, self.charts, indexes)

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why Istio's sidecars cannot run ``profile`` in ``placement``, or None."""
        if reason := parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=None):
            return reason
        if profile.tracing_ratio and not profile.request_id:
            return tracing.NEEDS_REQUEST_ID
        return istiod.TLS_13_ALONE if profile.mtls and profile.tls_version != "1.3" else None

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what this sidecar does to a request."""
        features = parity.equal_features(profile) | istiod.envoy_features(profile)
        wait = f"{profile.request_timeout_s:g} s"
        if role == "server":
            features["timeout"] = f"{wait} to connect, none for the reply"
        else:
            features["timeout"] = f"{wait} to connect, {wait} for the whole request"
        if profile.mtls:
            features["tls"] = _describe_tls(profile, role)
        return features

    def needs(self, version: str) -> Needs:
        """Return the oldest Kubernetes and Gateway API this version works with."""
        return istiod.needs(version)

    def permissions(self) -> Sequence[Permission]:
        """Return the rights of Istio's charts and of the objects below."""
        return istiod.permissions()

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: istiod makes its own certificate authority."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the control plane's namespace."""
        return [parity.namespace_of_mesh(order, istiod.NAMESPACE)]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return kinds first, then the control plane; an upgrade goes the same way."""
        return [istiod.base_release(order), istiod.release(order, "istiod", "istiod", istiod.istiod_values(order))]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that istiod serves, injects and validates."""
        return istiod.readiness()

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return labels that say of every pod whether it gets a sidecar; no namespace is injected as a whole.

        istio-init changes the pod's packet filter as root, which only the privileged policy admits. Of the load
        generator's connections the sidecar takes those to the application alone.
        """
        sides = _SIDES[order.placement]
        native = {"sidecar.istio.io/nativeSidecar": "true"}
        to_application_only = {
            "traffic.sidecar.istio.io/includeOutboundIPRanges": "",
            "traffic.sidecar.istio.io/includeOutboundPorts": str(order.port),
        }
        return Enrolment(
            namespace_labels={"pod-security.kubernetes.io/enforce": "privileged"},
            app_labels={"sidecar.istio.io/inject": "true" if "server" in sides else "false"},
            app_annotations=native if "server" in sides else {},
            load_labels={"sidecar.istio.io/inject": "true" if "client" in sides else "false"},
            load_annotations=native | to_application_only if "client" in sides else {},
            outsider_labels={"sidecar.istio.io/inject": "false"},
        )

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return mutual TLS on both sides, one route, telemetry, and proxies that know this namespace alone.

        The Sidecar keeps what else the cluster runs out of the proxies' configuration, and so out of their memory.
        """
        sides = _SIDES[order.placement]
        objects = [
            istiod.peer_authentication(order, _mode(order.profile)),
            istiod.made(order, istiod.SIDECAR, "default", {"egress": [{"hosts": ["./*"]}]}),
            istiod.made(order, istiod.DESTINATION_RULE, istiod.OBJECT_NAME, _destination(order)),
            istiod.telemetry(order),
            *istiod.way_to_collector(order),
        ]
        if not istiod.has_inbound_retry_policy(order):
            objects.append(istiod.made(order, istiod.ENVOY_FILTER, istiod.OBJECT_NAME, _NO_INBOUND_RETRIES))
        if "client" in sides:
            objects.append(parity.http_route(order))
        return objects

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that istiod has read the route; that the sidecars have it, their own counters tell."""
        return [Condition(parity.http_route_ref(order), "Accepted")] if "client" in _SIDES[order.placement] else []

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the sidecars of both sides, and istiod."""
        requests = parity.proxy_requests(order.profile)
        sidecars = (Containers(role, None, "", (istiod.PROXY,), requests) for role in _SIDES[order.placement])
        return [*sidecars, istiod.CONTROL_PLANE]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return Envoy's Prometheus listener, which mutual TLS does not guard."""
        return MetricsEndpoint(_METRICS_PORT, "/stats/prometheus")

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what one sidecar counted."""
        return istio_metrics.envoy_passage(text, istio_metrics.SIDECARS[role], order)

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return nothing: Istio's kinds have no finalizers."""
        return ()

    def residue(self) -> Residue:
        """Return what the charts and istiod leave."""
        return istiod.residue()


# Envoy ignores words it does not know in retry_on: no policy is left, and no request is kept for another try.
# Measured with Envoy 1.38.3: an upstream that resets is tried 3 times under "reset" and once under "none".
_NO_INBOUND_RETRIES: Final[dict[str, Any]] = {
    "configPatches": [
        {
            "applyTo": "HTTP_ROUTE",
            "match": {"context": "SIDECAR_INBOUND"},
            "patch": {"operation": "MERGE", "value": {"route": {"retry_policy": {"retry_on": "none"}}}},
        }
    ]
}


def _mode(profile: Profile) -> str:
    if not profile.mtls:
        return "DISABLE"
    return "PERMISSIVE" if profile.permissive else "STRICT"


def _destination(order: MeshOrder) -> dict[str, Any]:
    """Return how sidecars connect to every Service of the namespace."""
    rule = istiod.connections(order)
    rule["trafficPolicy"]["tls"] = {"mode": "ISTIO_MUTUAL" if order.profile.mtls else "DISABLE"}
    return rule


def _describe_tls(profile: Profile, role: Role) -> str:
    side = "terminates" if role == "server" else "originates"
    plain = "; plaintext is taken too" if profile.permissive and role == "server" else ""
    return f"{side} mutual TLS 1.3 (BoringSSL), ECDSA P-256 keys; peer: SPIFFE id of the trust domain{plain}"


MESH = Istio()
