"""Consul service mesh: Envoy below consul-dataplane beside every pod, driven by Consul's configuration entries."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from packaging.version import Version

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
from adapters.kubernetes.mesh_parts import envoy_stats, parity, tracing
from adapters.kubernetes.mesh_parts.exposition import Labels
from adapters.kubernetes.mesh_parts.rights import bring_gateway_api, manage, manage_roles
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "consul"
CHART: Final = "consul"
REPOSITORY: Final = "https://helm.releases.hashicorp.com"
PROXY: Final = "consul-dataplane"
METRICS_PORT: Final = 20_200  # the chart's connectInject.metrics.defaultPrometheusScrapePort

GROUP: Final = "consul.hashicorp.com"
_GROUPS: Final = (GROUP, f"auth.{GROUP}")
_API: Final = f"{GROUP}/v1alpha1"
_GATEWAY_CLASS: Final = ObjectRef(Kind("gateway.networking.k8s.io/v1", "GatewayClass"), "", "consul")
_GATEWAY_CLASS_CONFIG: Final = ObjectRef(Kind(_API, "GatewayClassConfig"), "", "consul-api-gateway")

_RELEASED: Final = re.compile(r"^[0-9]+\.[0-9]+\.[0-9]+(-(rc|beta)[0-9]+)?$")
# From this chart on the data plane can run as a native sidecar, so that Jobs end, and the controllers of Consul 1.21
# do without experimental kinds of the Gateway API. Source: hashicorp/consul-k8s, connect-inject/constants and
# api-gateway/controllers at its tags.
_OLDEST_CHART: Final = Version("1.8.14")

_ALWAYS_ENCRYPTS: Final = (
    "plain: Consul's proxies encrypt whatever passes between them and have no switch for it; choose a profile with mtls"
)
_PLACEMENTS: Final[tuple[Placement, ...]] = ("pair",)


@dataclass(frozen=True, slots=True)
class Consul:
    """Consul's community edition, one server, from its own chart."""

    name: str = "consul"
    title: str = "Consul"
    upkeep: Upkeep = "maintained"
    note: str = (
        "Versions are Consul's own (2.0.3), each with its newest chart. The server keeps its state in a volume that is "
        "deleted with it: the cluster needs a default StorageClass. Consul's controllers do not start without the "
        "Gateway API."
    )
    placements: tuple[Placement, ...] = _PLACEMENTS

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """The one chart."""
        return {CHART: ChartSource(CHART, REPOSITORY)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return the newest chart of each Consul version."""
        newest: dict[str, str] = {}
        for chart in index:
            if not (_RELEASED.match(chart.app_version) and _RELEASED.match(chart.version)):
                continue
            known = Version(newest.get(chart.app_version, "0"))
            if Version(chart.version) > known and Version(chart.version) >= _OLDEST_CHART:
                newest[chart.app_version] = chart.version
        return newest

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the chart of Consul ``version``.

        Raises:
            ConfigurationError: there is none.
        """
        found = self.versions_of(indexes[CHART]).get(version)
        if found is None:
            raise ConfigurationError(f"consul {version}: no chart {CHART} installs it; choose another version")
        return {CHART: found}

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why Consul cannot run ``profile`` in ``placement``, or None.

        A proxy at one end alone passes bytes on without reading them as HTTP: nothing to compare.
        """
        if reason := parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=None):
            return reason
        return None if profile.mtls else _ALWAYS_ENCRYPTS

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what this proxy does to a request."""
        is_server = role == "server"
        wait = f"{profile.request_timeout_s:g} s"
        own = {
            "idle_connections": "without limit, closed after 1 h",
            "timeout": f"{wait} to connect, {wait} for the whole request",
            "circuit_breaker": "1,024 parallel requests (Envoy's own; no setting)" if is_server else "none",
            "metrics": "counters and histograms, always on",
            "request_id": "added where there is none (no switch)",
            "header_rewriting": "x-forwarded-proto, x-request-id, x-envoy-expected-rq-timeout-ms"
            + (", x-forwarded-client-cert" if is_server else ""),
        }
        if profile.tracing_ratio:
            own["header_rewriting"] += f", {tracing.HEADERS}"
        if profile.mtls:
            own["tls"] = _describe_tls(profile, is_server)
        return parity.equal_features(profile) | own

    def needs(self, version: str) -> Needs:
        """Return Kubernetes with native sidecars, a volume, and the Gateway API its controllers watch."""
        gateway_api = "<1.5" if _watches_tcp_routes(version) else ""
        return Needs(kube=">=1.29", gateway_api=",".join(filter(None, (">=1.0", gateway_api))), storage_class=True)

    def permissions(self) -> Sequence[Permission]:
        """Return what the chart, its hooks' objects and our own entries take."""
        return (
            *manage("", "configmaps", "namespaces", "secrets", "serviceaccounts", "services"),
            *manage("", "persistentvolumeclaims"),
            *manage("apps", "deployments", "statefulsets"),
            *manage("batch", "jobs"),
            *manage("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
            *bring_gateway_api(),
            *manage("gateway.networking.k8s.io", "gatewayclasses"),
            # Of our own entries; the others where an uninstallation that was cut short is taken up.
            *(permission for group in _GROUPS for permission in manage(group, "*")),
            *manage_roles(),
        )

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: Consul's server is an authority by itself."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the namespace."""
        return [parity.namespace_of_mesh(order, NAMESPACE)]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the one release. It upgrades in place: kinds are templates, the server keeps its volume."""
        chart = order.chart_versions[CHART]
        return [ChartRelease(CHART, NAMESPACE, self.charts[CHART], chart, _values(order, chart))]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return server, injector and the controller that gives webhooks their certificates."""
        return [
            Rollout("StatefulSet", NAMESPACE, "consul-server"),
            Rollout("Deployment", NAMESPACE, "consul-connect-injector"),
            Rollout("Deployment", NAMESPACE, "consul-webhook-cert-manager"),
            Injector("MutatingWebhookConfiguration", "consul-connect-injector"),
            Injector("ValidatingWebhookConfiguration", "consul-connect-injector"),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return annotations for both sides. Consul knows pods by the one Service that selects them."""
        annotations = _annotations(order.profile)
        # A cluster of one's own is part of what Envoy starts with, and consul-dataplane asks for that once.
        defaults = ObjectRef(Kind(_API, "ProxyDefaults"), order.namespace, "global")
        return Enrolment(
            namespace_labels={LABEL_MESH: self.name},
            app_annotations=annotations,
            load_annotations=annotations,
            read_once=(Condition(defaults, "Synced"),),
        )

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the entries that make the profile true; mesh-wide ones first, which the others build on."""
        profile = order.profile
        return [
            _entry(order, "Mesh", "mesh", _mesh(profile)),
            _entry(order, "ProxyDefaults", "global", _proxy_defaults(order)),
            _entry(order, "ServiceDefaults", order.app, _app_defaults(profile)),
            _entry(order, "ServiceDefaults", order.load, _load_defaults(profile)),
            _entry(order, "ServiceRouter", order.app, _router(profile)),
            _entry(order, "ServiceIntentions", order.app, _intentions(order)),
        ]

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that Consul itself took every entry."""
        return [Condition(ObjectRef.of(entry), "Synced") for entry in self.configuration(order)]

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the data plane of both sides, and all pods of the release."""
        requests = parity.proxy_requests(order.profile)
        return [
            Containers("client", None, "", (PROXY,), requests),
            Containers("server", None, "", (PROXY,), requests),
            # Server and injector; the third, which renews a certificate, asks for 100m and 50Mi.
            Containers(None, NAMESPACE, "app=consul,release=consul", (), parity.CONTROL_PLANE_REQUESTS, 2),
        ]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return Envoy's page, opened by an annotation."""
        return MetricsEndpoint(METRICS_PORT, "/metrics")

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what Envoy counted for the application.

        The public listener is the one other proxies speak to; in permissive mode plaintext goes past its connection
        manager. Source: hashicorp/consul, agent/xds (stat prefixes) and command/connect/envoy (tags).
        """
        if role == "server":
            return envoy_stats.taken(text, _is_public, _is_application)

        def is_upstream(labels: Labels) -> bool:
            return labels.get("consul_destination_service") == order.app

        return envoy_stats.sent(text, is_upstream)

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return what carries finalizers of Consul's controllers: entries in reverse, then its class of gateways."""
        entries = [ObjectRef.of(entry) for entry in self.configuration(order)]
        return [*reversed(entries), _GATEWAY_CLASS, _GATEWAY_CLASS_CONFIG]

    def residue(self) -> Residue:
        """Return what hooks and controllers made, and what an uninstallation that was cut short leaves."""
        return Residue(
            groups=_GROUPS,
            kinds=((_GATEWAY_CLASS.kind, _GATEWAY_CLASS.name),),
            namespaces=(NAMESPACE,),
            claims="app=consul,component=server",
            finalizers=_GROUPS,
        )


def _watches_tcp_routes(version: str) -> bool:
    """Return whether its controllers insist on TCPRoute v1alpha2, which no Gateway API of the standard channel has.

    Source: hashicorp/consul-k8s, control-plane/api-gateway/controllers at v1.8.16, v1.9.11 and v2.0.3: the newer
    charts of 1.21 were given the controllers of 2.0, those of 1.22 were not.
    """
    return Version("1.22") <= Version(version) < Version("2.0.0rc0")


def _values(order: MeshOrder, chart: str) -> dict[str, Any]:
    resources = {"requests": parity.CONTROL_PLANE_REQUESTS, "limits": {"cpu": "1", "memory": "512Mi"}}
    return {
        "global": {
            "name": CHART,
            # The Gateway API belongs to no chart. Controllers that insist on TCPRoute get that one kind from theirs.
            "installK8sNetworkingCRDs": False,
            "crds": {"enableTcpRoute": False},
            **_images(order, chart),
        },
        "server": {
            "replicas": 1,
            "affinity": None,
            "disruptionBudget": {"enabled": False},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
            "extraConfig": '{"disable_update_check": true}',
            "resources": resources,
        },
        "connectInject": {
            "enabled": True,
            "default": False,
            "replicas": 1,
            "disruptionBudget": {"enabled": False},
            # A pod that slips past the injector would be measured without a mesh; other namespaces are not asked.
            "failurePolicy": "Fail",
            "namespaceSelector": f"matchLabels:\n  {LABEL_MESH}: consul\n",
            "apiGateway": {
                "manageExternalCRDs": False,
                "manageNonStandardCRDs": _watches_tcp_routes(order.version),
            },
            "transparentProxy": {"defaultEnabled": True},
            "resources": resources,
        },
        "dns": {"enabled": False, "enableRedirection": False},
        "ui": {"enabled": False},
    }


def _images(order: MeshOrder, chart: str) -> dict[str, str]:
    if not order.images:
        return {}
    images = {
        "image": f"hashicorp/consul:{order.version}",
        "imageK8S": f"hashicorp/consul-k8s-control-plane:{chart}",
        "imageConsulDataplane": f"hashicorp/consul-dataplane:{chart}",
    }
    return {name: with_registry(image, order.images) for name, image in images.items()}


def _annotations(profile: Profile) -> dict[str, str]:
    own = f"{GROUP}/"
    resources = parity.proxy_resources(profile)
    return {
        f"{own}connect-inject": "true",
        f"{own}transparent-proxy": "true",
        f"{own}enable-consul-dataplane-as-sidecar": "true",
        f"{own}consul-envoy-proxy-concurrency": str(profile.proxy_threads),
        f"{own}enable-metrics": "true",
        f"{own}enable-metrics-merging": "false",
        f"{own}prometheus-scrape-port": str(METRICS_PORT),
        f"{own}prometheus-scrape-path": "/metrics",
    } | {
        f"{own}sidecar-proxy-{name}-{bound}": quantity
        for bound, key in (("request", "requests"), ("limit", "limits"))
        for name, quantity in resources.get(key, {}).items()
    }


def _entry(order: MeshOrder, kind: str, name: str, spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": _API, "kind": kind, "metadata": parity.metadata(order, name), "spec": spec}


def _mesh(profile: Profile) -> dict[str, Any]:
    version = f"TLSv{profile.tls_version.replace('.', '_')}"
    side: dict[str, Any] = {"tlsMinVersion": version, "tlsMaxVersion": version}
    if profile.tls_version == "1.2":  # BoringSSL has no setting for the ciphers of 1.3
        side["cipherSuites"] = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    return {
        "allowEnablingPermissiveMutualTLS": profile.permissive,
        "tls": {"incoming": side, "outgoing": side},
    }


def _proxy_defaults(order: MeshOrder) -> dict[str, Any]:
    profile = order.profile
    logs = (
        {"enabled": True, "type": "stdout", "disableListenerLogs": True} if profile.access_log else {"enabled": False}
    )
    return {
        "accessLogs": logs,
        "config": {"protocol": "http"} | (_traces(order) if profile.tracing_ratio else {}),
        "mutualTLSMode": "permissive" if profile.permissive else "strict",
    }


def _traces(order: MeshOrder) -> dict[str, str]:
    # Source: consul, agent/xds/config/config.go; consul-dataplane, internal/bootstrap/bootstrap_config.go.
    return {
        "envoy_extra_static_clusters_json": json.dumps(tracing.envoy_cluster(order, order.collector)),
        "envoy_listener_tracing_json": json.dumps(tracing.envoy_tracing(order, order.collector)),
    }


def _app_defaults(profile: Profile) -> dict[str, Any]:
    wait_ms = max(1, round(profile.request_timeout_s * 1000))
    return {
        "protocol": "http",
        "localConnectTimeoutMs": wait_ms,
        "localRequestTimeoutMs": wait_ms,
        "maxInboundConnections": parity.NO_LIMIT,
    }


def _load_defaults(profile: Profile) -> dict[str, Any]:
    limits = dict.fromkeys(("maxConnections", "maxPendingRequests", "maxConcurrentRequests"), parity.NO_LIMIT)
    wait_ms = max(1, round(profile.request_timeout_s * 1000))
    upstream = {"defaults": {"connectTimeoutMs": wait_ms, "limits": limits}}
    return {"protocol": "http", "upstreamConfig": upstream}


def _router(profile: Profile) -> dict[str, Any]:
    # Neither retries nor conditions to retry on: Consul then writes no retry policy.
    destination = {"requestTimeout": parity.duration(profile.request_timeout_s)}
    return {"routes": [{"match": {"http": {"pathPrefix": "/"}}, "destination": destination}]}


def _intentions(order: MeshOrder) -> dict[str, Any]:
    return {"destination": {"name": order.app}, "sources": [{"name": order.load, "action": "allow"}]}


def _is_public(labels: Labels) -> bool:
    return labels.get("envoy_http_conn_manager_prefix", "").startswith("public_listener")


def _is_application(labels: Labels) -> bool:
    return labels.get("envoy_cluster_name") == "local_app"


def _describe_tls(profile: Profile, is_server: bool) -> str:
    mode = "plaintext is taken too, as bytes" if profile.permissive else "plaintext refused"
    side = "terminates" if is_server else "originates"
    described = f"{side} mutual TLS {profile.tls_version} (BoringSSL); peer: service in Consul's trust domain"
    return f"{described}; {mode}" if is_server else described


MESH = Consul()
