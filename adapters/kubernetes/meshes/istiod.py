"""What Istio's sidecars and its ambient mode share: charts, versions, mesh configuration, and what is left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from packaging.version import Version

from adapters.kubernetes.api import Kind, Manifest, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.mesh import Containers, Injector, MeshOrder, Needs, Readiness, Residue, Rollout
from adapters.kubernetes.mesh_parts import parity, tracing
from adapters.kubernetes.mesh_parts.rights import bring_gateway_api, manage, manage_roles
from meshgauge.errors import ConfigurationError
from meshgauge.plan import Profile

NAMESPACE: Final = "istio-system"
REPOSITORY: Final = "https://istio-release.storage.googleapis.com/charts"
PROXY: Final = "istio-proxy"  # also the name of ztunnel's container

CONTROL_PLANE: Final = Containers(None, NAMESPACE, "app=istiod", ("discovery",), parity.CONTROL_PLANE_REQUESTS, 1)

PEER_AUTHENTICATION: Final = Kind("security.istio.io/v1", "PeerAuthentication")
DESTINATION_RULE: Final = Kind("networking.istio.io/v1", "DestinationRule")
SIDECAR: Final = Kind("networking.istio.io/v1", "Sidecar")
ENVOY_FILTER: Final = Kind("networking.istio.io/v1alpha3", "EnvoyFilter")
TELEMETRY: Final = Kind("telemetry.istio.io/v1", "Telemetry")
OBJECT_NAME: Final = "meshgauge"

TLS_13_ALONE: Final = (
    "tls_version 1.2: Istio sets the lowest version its proxies accept, not the highest; two of them agree on 1.3"
)

# The oldest Kubernetes each minor supports. Source: istio, istioctl/pkg/install/k8sversion/version.go at 1.29.6, 1.30.3
# and 1.31.0-rc.0. Native sidecars are on by default since Kubernetes 1.29.
_KUBE: Final = ((Version("1.30"), ">=1.32"), (Version("1.29"), ">=1.30"))

# Where the images of released charts are: registry.istio.io/release since 1.30, docker.io/istio before.
# Source: istio, releasenotes/notes/use-registry-istio-io.yaml.
_HUBS: Final = ((Version("1.30.0a0"), "release"), (Version("0"), "istio"))

# meshConfig.defaultInboundHttpRetryPolicy came after 1.31 was branched. Source: istio commit 3abf712be44 (2026-08-10).
_HAS_INBOUND_RETRY_POLICY: Final = Version("1.32.0a0")

# What Istio leaves out of Envoy's counters unless asked: retries, and whether the control plane is connected. The
# treatment check reads them, so every profile has them. "cluster_manager" and "listener_manager" are there anyway.
# Source: istio, pkg/bootstrap/config.go (requiredEnvoyStatsMatcherInclusionPrefixes) and envoy_bootstrap.json.
_COUNTED: Final = {
    "inclusionPrefixes": ["control_plane"],
    "inclusionRegexps": [r"cluster\.(inbound|inbound-vip|outbound)\|.*\.upstream_rq_retry"],
}

# Istio's standard metrics but REQUEST_COUNT, which tells the treatment check what passed, and under which TLS.
# Source: istio.io/docs/reference/config/telemetry, MetricSelector.IstioMetric.
_OPTIONAL_METRICS: Final = (
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
)


def chart(name: str) -> ChartSource:
    """Return where Istio's chart ``name`` comes from."""
    return ChartSource(name, REPOSITORY)


def versions_of(index: Sequence[ChartVersion]) -> Mapping[str, str]:
    """Return mesh version -> chart version: they are the same, pre-releases included."""
    return {entry.version: entry.version for entry in index}


def chart_versions(
    version: str, charts: Mapping[str, ChartSource], indexes: Mapping[str, Sequence[ChartVersion]]
) -> Mapping[str, str]:
    """Return the same version for every chart.

    Raises:
        ConfigurationError: one of the charts does not have it.
    """
    for name in charts:
        known = [entry.version for entry in indexes[name]]
        if version not in known:
            there = ", ".join(known[:5]) or "none at all"
            raise ConfigurationError(
                f"Istio {version}: chart {name} has no such version (newest: {there}); all charts of Istio have to "
                "be of one version: choose another, or complete the mirror"
            )
    return dict.fromkeys(charts, version)


def needs(version: str) -> Needs:
    """Return the oldest Kubernetes this version supports; HTTPRoute has time-outs since Gateway API 1.2."""
    release = Version(version)
    kube = next((kube for since, kube in _KUBE if (release.major, release.minor) >= since.release[:2]), ">=1.29")
    return Needs(kube=kube, gateway_api=">=1.2")


def hub(order: MeshOrder) -> dict[str, str]:
    """Return the value ``hub`` for a registry of one's own; empty: the chart's."""
    if not order.images:
        return {}
    folder = next(name for since, name in _HUBS if Version(order.version) >= since)
    return {"hub": f"{order.images.rstrip('/')}/{folder}"}


def resources(profile: Profile) -> dict[str, Any]:
    """Return a proxy's resources as Istio's charts take them: ``limits: null`` takes their default limits away."""
    return {"limits": None} | parity.proxy_resources(profile)


def istiod_values(order: MeshOrder, profile: str = "") -> dict[str, Any]:
    """Return the values of chart ``istiod``: one copy, and a mesh configuration without hidden defaults.

    Args:
        profile: Istio's own, ``ambient``; laid below the rest.
    """
    return ({"profile": profile} if profile else {}) | {
        "autoscaleEnabled": False,
        "replicaCount": 1,
        "resources": {"requests": parity.CONTROL_PLANE_REQUESTS},
        "meshConfig": mesh_config(order),
        "global": {
            "defaultPodDisruptionBudget": {"enabled": False},
            "proxy": {"resources": resources(order.profile), "clusterDomain": order.cluster_domain},
            "waypoint": {"resources": resources(order.profile)},
            **hub(order),
        },
    }


def mesh_config(order: MeshOrder) -> dict[str, Any]:
    """Return the mesh configuration. Keys as in istio/api, mesh/v1alpha1/config.proto and proxy.proto."""
    profile = order.profile
    config = {
        "accessLogFile": "",  # by Telemetry, where the profile asks for it
        "enableTracing": False,  # by Telemetry, too
        "enableAutoMtls": True,
        "defaultHttpRetryPolicy": {"attempts": 0},
        "meshMTLS": {"minProtocolVersion": "TLSV1_3"},
        "defaultConfig": {
            "concurrency": profile.proxy_threads,
            "proxyHeaders": {
                "requestId": {"disabled": not profile.request_id},
                "attemptCount": {"disabled": True},
                "envoyDebugHeaders": {"disabled": True},
                "server": {"disabled": True},
                "forwardedClientCert": "SANITIZE",
            },
            # RSA keys of 2048 bits by default, unlike every other mesh and ztunnel.
            "proxyMetadata": {"ECC_SIGNATURE_ALGORITHM": "ECDSA", "ISTIO_META_IDLE_TIMEOUT": f"{parity.IDLE_S}s"},
            "proxyStatsMatcher": _COUNTED,
        },
    }
    if profile.tracing_ratio:
        zipkin = {"service": _collector_host(order), "port": tracing.COLLECTOR_PORT}
        config["extensionProviders"] = [{"name": OBJECT_NAME, "zipkin": zipkin}]
    return config | ({"defaultInboundHttpRetryPolicy": {}} if has_inbound_retry_policy(order) else {})


def has_inbound_retry_policy(order: MeshOrder) -> bool:
    """Return whether this version's mesh configuration can switch the retries of inbound routes off."""
    return Version(order.version) >= _HAS_INBOUND_RETRY_POLICY


def release(order: MeshOrder, name: str, source: str, values: Mapping[str, Any]) -> ChartRelease:
    """Return chart ``source`` under the release name Istio's documentation gives it."""
    return ChartRelease(name, NAMESPACE, chart(source), order.chart_versions[source], values)


def base_release(order: MeshOrder) -> ChartRelease:
    """Return the chart with Istio's kinds, which come before everything else and change with every version."""
    return release(order, "istio-base", "base", {"defaultRevision": "default"})


def readiness() -> list[Readiness]:
    """Return what istiod does once it serves: its Deployment, its injector, its validator."""
    return [
        Rollout("Deployment", NAMESPACE, "istiod"),
        Injector("MutatingWebhookConfiguration", "istio-sidecar-injector"),
        Injector("ValidatingWebhookConfiguration", f"istio-validator-{NAMESPACE}"),
    ]


def peer_authentication(order: MeshOrder, mode: str) -> Manifest:
    """Return what the servers of the environment demand of their clients: DISABLE, PERMISSIVE or STRICT."""
    return made(order, PEER_AUTHENTICATION, "default", {"mtls": {"mode": mode}})


def connections(order: MeshOrder) -> dict[str, Any]:
    """Return how Envoy connects to every Service of the namespace, TLS aside."""
    pool = {
        "tcp": {"connectTimeout": f"{max(0.001, round(order.profile.request_timeout_s, 3)):g}s"},
        "http": {"h2UpgradePolicy": "DO_NOT_UPGRADE", "idleTimeout": f"{parity.IDLE_S}s"},
    }
    return {"host": f"*.{order.namespace}.svc.{order.cluster_domain}", "trafficPolicy": {"connectionPool": pool}}


def telemetry(order: MeshOrder, targets: Sequence[Mapping[str, str]] = ()) -> Manifest:
    """Return access log, metrics and tracing as the profile has them.

    Args:
        targets: what it is for (a waypoint); empty: every sidecar of the namespace.
    """
    profile = order.profile
    metrics: dict[str, Any] = {"providers": [{"name": "prometheus"}]}
    if not profile.metrics:
        metrics["overrides"] = [{"match": {"metric": name}, "disabled": True} for name in _OPTIONAL_METRICS]
    spec: dict[str, Any] = {
        "accessLogging": [{"providers": [{"name": "envoy"}], "disabled": not profile.access_log}],
        "metrics": [metrics],
        "tracing": [_tracing(profile)],
    }
    return made(order, TELEMETRY, OBJECT_NAME, spec | ({"targetRefs": [dict(to) for to in targets]} if targets else {}))


def _tracing(profile: Profile) -> dict[str, Any]:
    if not profile.tracing_ratio:
        return {"disableSpanReporting": True, "randomSamplingPercentage": 0}
    return {"providers": [{"name": OBJECT_NAME}], "randomSamplingPercentage": tracing.percent(profile)}


def way_to_collector(order: MeshOrder) -> list[Manifest]:
    """Return that no proxy speaks mutual TLS to the collector, which is no part of the mesh; nothing without one.

    A rule for one host comes before the one for the whole namespace. Source: istio.io, DestinationRule.
    """
    if not order.profile.tracing_ratio:
        return []
    rule = {"host": _collector_host(order), "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    return [made(order, DESTINATION_RULE, order.collector, rule)]


def _collector_host(order: MeshOrder) -> str:
    """Return the collector as Istio's registry calls it."""
    return f"{tracing.collector_host(order)}.{order.cluster_domain}"


def made(order: MeshOrder, kind: Kind, name: str, spec: Mapping[str, Any]) -> Manifest:
    """Return an object of one of Istio's kinds, in the environment's namespace."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": parity.metadata(order, name),
        "spec": dict(spec),
    }


def envoy_features(profile: Profile) -> dict[str, str]:
    """Return what is peculiar to Istio's Envoy, sidecar or waypoint."""
    workers = "1 worker thread" if profile.proxy_threads == 1 else f"{profile.proxy_threads} worker threads"
    features = {
        "threads": f"{workers}, and a main thread and the agent off the request path",
        "circuit_breaker": "limits of 4,294,967,295 (cannot be switched off)",
        "metrics": "istio_requests_total and a count of retries, for the treatment check",
        "header_rewriting": "adds x-forwarded-proto and x-envoy-peer-metadata; header names in lower case",
    }
    if profile.metrics:
        features["metrics"] = "Istio's standard metrics with all their labels, and a count of retries"
    if profile.tracing_ratio:
        features["tracing"] = f"{tracing.describe(profile)}; spans carry Istio's own tags"
        features["header_rewriting"] += f"; adds {tracing.HEADERS}"
    if profile.access_log:
        features["access_log"] = "one line a request to standard output, Istio's default format, buffered up to 1 s"
    return features


def permissions() -> list[Permission]:
    """Return the rights the charts base and istiod, the Gateway API and the objects of a profile take.

    Installing hands istiod roles that reach far (it reads every Secret): whoever does it holds the same rights, or
    may ``escalate`` and ``bind``. Source: rendered charts 1.29.6, 1.30.3, 1.31.0-rc.0.
    """
    webhooks = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    return [
        *manage("", "configmaps", "namespaces", "secrets", "serviceaccounts", "services"),
        *manage("apps", "deployments"),
        *manage("admissionregistration.k8s.io", *webhooks),
        *bring_gateway_api(),
        *manage("gateway.networking.k8s.io", "gatewayclasses", "httproutes"),
        *manage("networking.istio.io", "destinationrules", "envoyfilters", "sidecars"),
        *manage("security.istio.io", "peerauthentications"),
        *manage("telemetry.istio.io", "telemetries"),
        *manage_roles(),
    ]


def residue() -> Residue:
    """Return what Istio's charts and istiod leave.

    Kinds have ``helm.sh/resource-policy: keep``; classes of gateways and the root certificate of every namespace are
    istiod's own. Istio sets no finalizers. Source: istio 1.30.3, base/files/crd-all.gen.yaml,
    pilot/pkg/config/kube/gatewaycommon/gatewayclass.go, pilot/pkg/features/experimental.go (CACertConfigMapName).
    """
    roles = tuple(
        (Kind("rbac.authorization.k8s.io/v1", kind), pattern)
        for kind in ("ClusterRole", "ClusterRoleBinding")
        for pattern in ("istiod-*", "istio-reader-*", "istio-cni*", "ztunnel*")
    )
    webhooks = tuple(
        (Kind("admissionregistration.k8s.io/v1", kind), pattern)
        for kind, pattern in (
            ("MutatingWebhookConfiguration", "istio-sidecar-injector*"),
            ("ValidatingWebhookConfiguration", "istio-validator-*"),
            ("ValidatingWebhookConfiguration", "istiod-default-validator"),
        )
    )
    classes = ((Kind("gateway.networking.k8s.io/v1", "GatewayClass"), "istio*"),)
    return Residue(
        groups=("*.istio.io",),
        kinds=(*classes, *webhooks, *roles),
        everywhere=tuple((Kind("v1", "ConfigMap"), name) for name in ("istio-ca-root-cert", "istio-ca-crl")),
        namespaces=(NAMESPACE,),
    )
