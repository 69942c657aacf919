"""Linkerd: a proxy of its own beside every pod, mutual TLS between them without a switch."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.kubernetes.api import LABEL_MESH, Kind, Manifest, ObjectRef, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.helm.images import with_registry
from adapters.kubernetes.mesh import (
    Condition,
    Containers,
    Enrolment,
    Injector,
    MeshOrder,
    MetricsEndpoint,
    Needs,
    Passage,
    Readiness,
    Residue,
    Rollout,
    Upkeep,
)
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.mesh_parts.exposition import Labels, count
from adapters.kubernetes.mesh_parts.rights import manage, manage_roles
from adapters.kubernetes.mesh_parts.trust import make_issuer
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "linkerd"
CONTROL_PLANE: Final = "linkerd-control-plane"
CRDS: Final = "linkerd-crds"
REPOSITORY: Final = "https://helm.linkerd.io/edge"
PROXY: Final = "linkerd-proxy"
ADMIN_PORT: Final = 4191

# Edge releases that became a Linkerd release. Source: tags version-2.N of linkerd/linkerd2; linkerd.io/releases.
RELEASES: Final = {"2.18": "2025.4.4", "2.19": "2025.10.7", "2.20": "2026.6.3"}
# Older charts do not know ``proxy.runtime.workers`` and would silently run one thread (linkerd2 cb86d669e, 2025-03).
_OLDEST: Final = (2025, 4, 4)
_CHART_VERSION: Final = re.compile(r"^(20[0-9]{2})\.([0-9]{1,2})\.([0-9]+)$")

ISSUER: Final = "linkerd-identity-issuer"
_ISSUER_KEYS: Final = ("tls.crt", "tls.key", "ca.crt")  # what a Secret of type kubernetes.io/tls calls them
_TRUST_DOMAIN: Final = "cluster.local"

_GROUPS: Final = ("linkerd.io", "policy.linkerd.io", "workload.linkerd.io")
_ROUTE: Final = Kind("policy.linkerd.io/v1beta3", "HTTPRoute")
_SERVER: Final = Kind("policy.linkerd.io/v1beta3", "Server")
_ADMIN_SERVER: Final = "meshgauge-proxy-admin"

# Source: linkerd2-proxy, linkerd/trace-context/src/service.rs; chart linkerd-control-plane, proxy.tracing.
_NO_SHARE: Final = (
    "tracing_ratio: Linkerd's proxy reports those requests whose sender marked them for it (traceparent, b3), and has "
    "no setting for a share of the others; leave tracing_ratio at 0"
)
_ALWAYS_ENCRYPTS: Final = (
    "plain: Linkerd encrypts whatever passes between two of its proxies and has no switch for it; placements client "
    "and server leave the connection plain, profiles with mtls suit placement pair"
)
_TLS_13_ONLY: Final = "tls_version 1.2: Linkerd's proxies speak TLS 1.3 alone"
_NO_REQUEST_ID: Final = "request_id: Linkerd's proxies add no request id"

# A pool that forgets idle connections after 3 s, as the proxy's does by default, would reconnect at low rates.
# Source: linkerd2-proxy, linkerd/app/src/env.rs.
_ENV: Final = {
    f"LINKERD2_PROXY_{way}_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT": f"{parity.IDLE_S}s" for way in ("INBOUND", "OUTBOUND")
}


@dataclass(frozen=True, slots=True)
class Linkerd:
    """Linkerd's edge releases, from its own charts."""

    name: str = "linkerd"
    title: str = "Linkerd"
    upkeep: Upkeep = "maintained"
    note: str = (
        "Linkerd's makers publish edge releases only: version 26.8.3 is edge-26.8.3, and latest-N counts months. 2.20 "
        "means the edge release that became Linkerd 2.20. Its upgrade of HTTP/1.1 to HTTP/2 between proxies is off, "
        "as no other mesh does that unasked."
    )
    placements: tuple[Placement, ...] = ("pair", "client", "server")

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """The control plane's chart, and the one with its kinds."""
        return {chart: ChartSource(chart, REPOSITORY) for chart in (CONTROL_PLANE, CRDS)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return ``26.8.3`` for chart 2026.8.3, and ``2.20`` for the chart that became it.

        With packaging's order an edge release is newer than any 2.N: ``latest`` is the newest edge, ``previous`` the
        newest of the month before, ``>=2.18,<3`` the newest release.
        """
        edges = {chart.version[2:]: chart.version for chart in index if _is_known(chart.version)}
        return edges | {release: chart for release, chart in RELEASES.items() if chart in edges.values()}

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the same version for both charts.

        Raises:
            ConfigurationError: one of them has it not.
        """
        wanted = RELEASES.get(version) or f"20{version}"
        for chart in self.charts:
            if wanted not in {known.version for known in indexes[chart]}:
                raise ConfigurationError(f"linkerd {version}: chart {chart} has no version {wanted}; choose another")
        return dict.fromkeys(self.charts, wanted)

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why Linkerd cannot run ``profile`` in ``placement``, or None."""
        if reason := parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=_NO_SHARE):
            return reason
        if placement == "pair" and not profile.mtls:
            return _ALWAYS_ENCRYPTS
        if profile.mtls and profile.tls_version != "1.3":
            return _TLS_13_ONLY
        return _NO_REQUEST_ID if profile.request_id else None

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what this proxy does to a request."""
        is_server = role == "server"
        own = {
            "http_upstream": "HTTP/1.1, keep-alive without limit; no upgrade to HTTP/2 between proxies",
            "idle_connections": "10,000 for each upstream",
            "circuit_breaker": (
                f"none; at most 100,000 requests in flight, refused after {1 if is_server else 3} s without a ready "
                "upstream"
            ),
            "metrics": "counters and histograms, always on",
            "header_rewriting": "l5d-client-id" if is_server and profile.mtls else "none",
        }
        if is_server:
            own["timeout"] = f"{profile.request_timeout_s:g} s to connect, none for the reply"
        if profile.mtls:
            own["tls"] = _describe_tls(profile, is_server)
        if profile.access_log:
            own["access_log"] = (
                "one JSON line a request to standard error" if is_server else "off: logs on the server's side alone"
            )
        return parity.equal_features(profile) | own

    def needs(self, version: str) -> Needs:
        """Return the Kubernetes versions with native sidecars; without Gateway API its controllers skip it."""
        chart = RELEASES.get(version) or f"20{version}"
        return Needs(kube=">=1.31" if _order_of(chart) >= (2026, 1, 0) else ">=1.29")

    def permissions(self) -> Sequence[Permission]:
        """Return what the two charts and our own objects take."""
        return (
            *manage("", "configmaps", "namespaces", "secrets", "serviceaccounts", "services"),
            *manage("apps", "deployments"),
            *manage("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
            *manage("apiextensions.k8s.io", "customresourcedefinitions"),
            # Of our own two; the others where an uninstallation that was cut short is taken up.
            *(permission for group in _GROUPS for permission in manage(group, "*")),
            *manage_roles(),
        )

    def secrets(self) -> Mapping[str, str]:
        """Make an issuer below a new trust anchor; the anchor's key is not kept."""
        made = make_issuer(f"root.linkerd.{_TRUST_DOMAIN}", f"identity.linkerd.{_TRUST_DOMAIN}")
        return dict(zip(_ISSUER_KEYS, (made.certificate, made.key, made.anchor), strict=True))

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the namespace and the issuer's Secret, which the chart then takes for given."""
        data = {key: base64.b64encode(order.secrets[key].encode()).decode() for key in _ISSUER_KEYS}
        issuer = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": parity.metadata(order, ISSUER, NAMESPACE),
            "data": data,
        }
        return [parity.namespace_of_mesh(order, NAMESPACE), issuer]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return kinds first, then the control plane. Both upgrade in place in this order: kinds are templates."""
        values = {CRDS: {"installGatewayAPI": False}, CONTROL_PLANE: _values(order)}
        return [
            ChartRelease(chart, NAMESPACE, self.charts[chart], order.chart_versions[chart], values[chart])
            for chart in (CRDS, CONTROL_PLANE)
        ]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return its three deployments and its webhooks."""
        return [
            *(Rollout("Deployment", NAMESPACE, f"linkerd-{part}") for part in _PARTS),
            Injector("MutatingWebhookConfiguration", "linkerd-proxy-injector-webhook-config"),
            Injector("ValidatingWebhookConfiguration", "linkerd-policy-validator-webhook-config"),
            Injector("ValidatingWebhookConfiguration", "linkerd-sp-validator-webhook-config"),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return annotations for each side; the inbound policy is read when a pod is made."""
        return Enrolment(
            namespace_labels={LABEL_MESH: self.name},
            app_annotations=_annotations(order, order.placement in ("pair", "server")),
            load_annotations=_annotations(order, order.placement in ("pair", "client")),
            probe_method="HEAD",  # whatever is strict, a GET of a path that is probed for health is let in
        )

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the route with the profile's time-out, and an open door to the proxies' own metrics.

        Linkerd's own kind of HTTPRoute, so that no Gateway API has to be installed for it. The inbound policy of a
        pod holds for its proxy's admin port too: where it demands an identity, nobody outside the mesh reads metrics.
        """
        wait = parity.duration(order.profile.request_timeout_s)
        rule = {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": order.app, "port": order.port}],
            "timeouts": {"request": wait, "backendRequest": wait},
        }
        parent = {"group": "core", "kind": "Service", "name": order.app, "port": order.port}
        admin = {
            "podSelector": {"matchExpressions": [{"key": "linkerd.io/control-plane-ns", "operator": "Exists"}]},
            "port": ADMIN_PORT,
            "proxyProtocol": "HTTP/1",
            "accessPolicy": "all-unauthenticated",
        }
        return [
            _object(_SERVER, parity.metadata(order, _ADMIN_SERVER), admin),
            _object(_ROUTE, parity.metadata(order, order.app), {"parentRefs": [parent], "rules": [rule]}),
        ]

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that the policy controller took the route."""
        return [Condition(ObjectRef(_ROUTE, order.namespace, order.app), "Accepted")]

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the proxies of both sides, and all of the control plane: its pods carry proxies of their own."""
        roles: dict[Placement, tuple[Role, ...]] = {
            "pair": ("client", "server"),
            "client": ("client",),
            "server": ("server",),
        }
        requests = parity.proxy_requests(order.profile)
        return [
            *(Containers(role, None, "", (PROXY,), requests) for role in roles[order.placement]),
            # Destination, identity and injector have proxies, and ask for nothing beyond.
            Containers(None, NAMESPACE, f"linkerd.io/control-plane-ns={NAMESPACE}", (), requests, 3),
        ]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return the proxy's admin server."""
        return MetricsEndpoint(ADMIN_PORT, "/metrics")

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what the proxy counted for the application, kubelet's probes aside where they can be told.

        Source: linkerd2-proxy, linkerd/app/core/src/metrics.rs and transport/labels.rs (labels),
        linkerd/http/retry/src/lib.rs (retries).
        """
        is_ours = _inbound(order) if role == "server" else _outbound(order)
        direction = "inbound" if role == "server" else "outbound"

        def is_taken(labels: Labels) -> bool:
            return (labels.get("direction"), labels.get("peer"), labels.get("target_port")) == (
                direction,
                "src",
                str(order.port),
            )

        return Passage(
            requests=count(text, "request_total", is_ours),
            connections=count(text, "tcp_open_total", is_taken),
            encrypted=count(text, "request_total", lambda labels: is_ours(labels) and labels.get("tls") == "true"),
            retries=None if role == "server" else count(text, "outbound_http_route_retry_requests_total"),
        )

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return nothing: Linkerd sets no finalizers, and its kinds go with their chart."""
        return ()

    def residue(self) -> Residue:
        """Return what an uninstallation that was cut short leaves; a whole one leaves the namespace alone."""
        return Residue(groups=_GROUPS, namespaces=(NAMESPACE,))


_PARTS: Final = ("identity", "destination", "proxy-injector")


def _order_of(chart_version: str) -> tuple[int, int, int]:
    match = _CHART_VERSION.match(chart_version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)


def _is_known(chart_version: str) -> bool:
    return _order_of(chart_version) >= _OLDEST


def _object(kind: Kind, metadata: dict[str, Any], spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec}


def _annotations(order: MeshOrder, is_meshed: bool) -> dict[str, str]:
    if not is_meshed:
        return {"linkerd.io/inject": "disabled"}
    strict = order.profile.mtls and not order.profile.permissive
    own = {
        "linkerd.io/inject": "enabled",
        # Strict means: who does not prove an identity by mutual TLS is refused with 403. It is an authorisation, made
        # after the request was read; between proxies the connection is encrypted either way.
        "config.linkerd.io/default-inbound-policy": "all-authenticated" if strict else "all-unauthenticated",
    }
    return own | ({"config.linkerd.io/access-log": "json"} if order.profile.access_log else {})


def _values(order: MeshOrder) -> dict[str, Any]:
    chart = order.chart_versions[CONTROL_PLANE]
    return {
        "linkerdVersion": f"edge-{chart[2:]}",  # tag of all images; a chart packed from its sources has none
        "identityTrustAnchorsPEM": order.secrets["ca.crt"],  # a certificate; the key stays in the Secret
        "identity": {"issuer": {"scheme": "kubernetes.io/tls"}},
        "identityTrustDomain": _TRUST_DOMAIN,  # of the issuer's name; it need not be the cluster's domain
        "clusterDomain": order.cluster_domain,
        "controllerReplicas": 1,
        "disableHeartBeat": True,
        "enableH2Upgrade": False,
        # A pod that slips past the injector would be measured without a mesh; other people's namespaces are not asked.
        "webhookFailurePolicy": "Fail",
        "proxyInjector": {
            "namespaceSelector": {"matchExpressions": [{"key": LABEL_MESH, "operator": "In", "values": ["linkerd"]}]}
        },
        "proxy": _proxy_values(order.profile, order.images),
    } | _images(order.images)


def _proxy_values(profile: Profile, registry: str) -> dict[str, Any]:
    # Not by annotation: an annotation with a CPU limit sets the number of threads too (linkerd2, pkg/inject).
    resources = parity.proxy_resources(profile)
    requests, limits = resources["requests"], resources.get("limits", {})
    connect = f"{max(1, round(profile.request_timeout_s * 1000))}ms"
    return {
        "nativeSidecar": True,
        "runtime": {"workers": {"minimum": profile.proxy_threads, "maximum": profile.proxy_threads}},
        "resources": {name: {"request": requests[name], "limit": limits.get(name, "")} for name in ("cpu", "memory")},
        "outboundConnectTimeout": connect,
        "inboundConnectTimeout": connect,
        "additionalEnv": [{"name": name, "value": value} for name, value in _ENV.items()],
    } | ({"image": {"name": _image("proxy", registry)}} if registry else {})


def _images(registry: str) -> dict[str, Any]:
    if not registry:
        return {}
    return {
        "controllerImage": _image("controller", registry),
        "policyController": {"image": {"name": _image("policy-controller", registry)}},
        "proxyInit": {"image": {"name": _image("proxy-init", registry)}},
        "debugContainer": {"image": {"name": _image("debug", registry)}},
    }


def _image(name: str, registry: str) -> str:
    return with_registry(f"cr.l5d.io/linkerd/{name}", registry)


def _describe_tls(profile: Profile, is_server: bool) -> str:
    mode = "plaintext is taken too" if profile.permissive else "without an identity refused with 403"
    side = f"terminates mutual TLS 1.3 (rustls); {mode}" if is_server else "originates mutual TLS 1.3 (rustls)"
    return f"{side}; peer: service account"


def _inbound(order: MeshOrder) -> Callable[[Labels], bool]:
    def is_ours(labels: Labels) -> bool:
        is_probe = labels.get("authz_name") == "probe" and labels.get("tls") != "true"
        # Behind a client without a proxy, load on the path that is probed looks like a probe: count both.
        counts = not is_probe or order.placement == "server"
        return labels.get("direction") == "inbound" and labels.get("target_port") == str(order.port) and counts

    return is_ours


def _outbound(order: MeshOrder) -> Callable[[Labels], bool]:
    def is_ours(labels: Labels) -> bool:
        return (labels.get("direction"), labels.get("dst_service"), labels.get("dst_namespace")) == (
            "outbound",
            order.app,
            order.namespace,
        )

    return is_ours


MESH = Linkerd()
