"""Kuma: Envoy beside every pod, driven by the policies of one Mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from packaging.version import InvalidVersion, Version

from adapters.kubernetes.api import Kind, Manifest, ObjectRef, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
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
from adapters.kubernetes.mesh_parts.rights import manage, manage_roles
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "kuma-system"
CHART: Final = "kuma"
REPOSITORY: Final = "https://kumahq.github.io/charts"
PROXY: Final = "kuma-sidecar"
MESH_NAME: Final = "default"  # what a pod without a label of its own belongs to
METRICS_PORT: Final = 5670  # where MeshMetric opens Prometheus by default

GROUP: Final = "kuma.io"
_API: Final = f"{GROUP}/v1alpha1"
_INJECTION: Final = "kuma.io/sidecar-injection"
_POLICY: Final = "meshgauge"  # all our policies are called so, one of each kind
_VALIDATION: Final = Kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration")

_OLDEST: Final = Version("2.13")
_TOO_NEW: Final = Version("3.0.dev0")
_NO_3: Final = (
    "Kuma 3 takes mutual TLS from other objects than 2.x, and this adapter does not write them yet; choose 2.x"
)

# kuma-dp always has a limit of memory; this one is out of reach. Source: kuma, pkg/plugins/runtime/k8s/containers.
_NO_MEMORY_LIMIT: Final = "4Gi"
_NO_CPU_LIMIT: Final = "0"


@dataclass(frozen=True, slots=True)
class Kuma:
    """Kuma 2.x in one zone, from its own chart."""

    name: str = "kuma"
    title: str = "Kuma"
    upkeep: Upkeep = "maintained"
    note: str = (
        "Versions before 3. No policy of Kuma's own making is left in place: its 5 retries and its limit of 1,024 "
        "requests are off. Its certificates are RSA, those of other meshes ECDSA."
    )
    placements: tuple[Placement, ...] = ("pair", "server")

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """The one chart."""
        return {CHART: ChartSource(CHART, REPOSITORY)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return the versions this adapter can write policies for; a chart has the version of what it installs."""
        return {chart.version: chart.version for chart in index if _is_known(chart.version)}

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return ``version`` itself.

        Raises:
            ConfigurationError: there is no such chart, or it is one of Kuma 3.
        """
        parsed = _parsed(version)
        if parsed is not None and parsed >= _TOO_NEW:
            raise ConfigurationError(f"kuma {version}: {_NO_3}")
        if version not in self.versions_of(indexes[CHART]):
            raise ConfigurationError(f"kuma {version}: no chart {CHART} installs it; choose another version")
        return {CHART: version}

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why Kuma cannot run ``profile`` in ``placement``, or None.

        A client's proxy alone knows no way to an application outside the mesh but to pass bytes on.
        """
        return parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=None)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what this proxy does to a request."""
        is_server = role == "server"
        wait = f"{profile.request_timeout_s:g} s"
        own = {
            "timeout": f"{wait} to connect, {wait} for the whole request",
            "metrics": "counters and histograms, always on",
            "request_id": "added where there is none (no switch)",
            "header_rewriting": "x-forwarded-proto, x-request-id, x-envoy-expected-rq-timeout-ms"
            + (", x-forwarded-client-cert" if is_server and profile.mtls else ""),
        }
        if profile.tracing_ratio:
            own["tracing"] = f"{tracing.describe(profile)}; spans carry Kuma's own tags from 2.14 on"
            own["header_rewriting"] += f", {tracing.HEADERS}"
        if profile.mtls:
            own["tls"] = _describe_tls(profile, is_server)
        return parity.equal_features(profile) | own

    def needs(self, version: str) -> Needs:
        """Return Kubernetes with native sidecars. Where the Gateway API is, Kuma adds a GatewayClass of its own."""
        return Needs(kube=">=1.29")

    def permissions(self) -> Sequence[Permission]:
        """Return what the chart and our policies take."""
        return (
            *manage("", "configmaps", "namespaces", "secrets", "serviceaccounts", "services"),
            *manage("apps", "deployments"),
            *manage("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
            *manage("apiextensions.k8s.io", "customresourcedefinitions"),
            *manage("gateway.networking.k8s.io", "gatewayclasses"),
            *manage(GROUP, "*"),  # whatever is left of its many kinds goes with their definitions
            *manage_roles(),
        )

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: the control plane makes the authority of its Mesh."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the namespace, labelled as the chart demands where its hooks are off."""
        return [parity.namespace_of_mesh(order, NAMESPACE, {_INJECTION: "false"})]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the one release, without its hooks, which need an image that has kubectl.

        All they do is done from outside: ``objects``, ``removal``, and ``helm/crds.py`` for an upgrade in place.
        """
        return [ChartRelease(CHART, NAMESPACE, self.charts[CHART], order.chart_versions[CHART], _values(order))]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return the control plane and its webhooks."""
        return [
            Rollout("Deployment", NAMESPACE, "kuma-control-plane"),
            Injector("MutatingWebhookConfiguration", "kuma-admission-mutating-webhook-configuration"),
            Injector("ValidatingWebhookConfiguration", "kuma-validating-webhook-configuration"),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return labels; a pod's own comes before its namespace's, which has to be there for either."""
        annotations = {"kuma.io/sidecar-proxy-concurrency": str(order.profile.proxy_threads)}
        has_client = order.placement == "pair"
        return Enrolment(
            namespace_labels={_INJECTION: "enabled"},
            app_labels={_INJECTION: "enabled"},
            app_annotations=annotations,
            load_labels={_INJECTION: "enabled" if has_client else "disabled"},
            load_annotations=annotations if has_client else {},
            outsider_labels={_INJECTION: "disabled"},
            service_account_token=True,
        )

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the Mesh, which everything else belongs to, and one policy of each kind for all of it."""
        profile = order.profile
        both = {kind: _both_ways(default) for kind, default in _defaults(profile).items()}
        policies = both | {"MeshMetric": {"default": _metrics()}}
        if profile.mtls:
            policies["MeshTLS"] = {"from": [_everything(_tls(profile))]}
            policies["MeshTrafficPermission"] = {"from": [_everything({"action": "Allow"})]}
        made = [_policy(order, kind, spec, NAMESPACE) for kind, spec in policies.items()]
        if profile.tracing_ratio:
            # Outside of Kuma's own namespace a policy holds for the proxies of its namespace alone.
            made.append(_policy(order, "MeshTrace", {"default": _trace(order)}, order.namespace))
        return [_mesh(order), *made]

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that the Mesh is there, and that the control plane made a MeshService of the application's Service."""
        service = ObjectRef(Kind(_API, "MeshService"), order.namespace, order.app)
        return [Condition(ObjectRef.of(_mesh(order))), Condition(service)]

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the sidecars of the placement, and the control plane."""
        roles: tuple[Role, ...] = ("client", "server") if order.placement == "pair" else ("server",)
        requests = parity.proxy_requests(order.profile)
        return [
            *(Containers(role, None, "", (PROXY,), requests) for role in roles),
            Containers(None, NAMESPACE, "app=kuma-control-plane", (), parity.CONTROL_PLANE_REQUESTS, 1),
        ]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return where kuma-dp hands on Envoy's counters, as MeshMetric says."""
        return MetricsEndpoint(METRICS_PORT, "/metrics")

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what Envoy counted for the application.

        Source: kuma, pkg/xds/envoy/names (``localhost:PORT``) and destinationname (``MESH_NAME_NS_ZONE_msvc_PORT``).
        """
        if role == "server":
            own = f"localhost_{order.port}"
            return envoy_stats.taken(
                text,
                lambda labels: labels.get("envoy_http_conn_manager_prefix") == own,
                lambda labels: labels.get("envoy_cluster_name") == own,
            )
        start, end = f"{MESH_NAME}_{order.app}_{order.namespace}_", f"_msvc_{order.port}"

        def is_upstream(labels: Labels) -> bool:
            cluster = labels.get("envoy_cluster_name", "")
            return cluster.startswith(start) and cluster.endswith(end)

        return envoy_stats.sent(text, is_upstream)

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return the webhook that would refuse to let a Mesh, or a Secret of it, go. Nothing has finalizers."""
        return [ObjectRef(_VALIDATION, "", "kuma-validating-webhook-configuration")]

    def residue(self) -> Residue:
        """Return the kinds, which Helm never removes, and the namespace."""
        return Residue(groups=(GROUP,), namespaces=(NAMESPACE,))


def _parsed(version: str) -> Version | None:
    try:
        return Version(version)
    except InvalidVersion:
        return None


def _is_known(version: str) -> bool:
    parsed = _parsed(version)
    return parsed is not None and _OLDEST <= parsed < _TOO_NEW


def _values(order: MeshOrder) -> dict[str, Any]:
    return {
        "noHelmHooks": True,
        "controlPlane": {
            "mode": "zone",
            "replicas": 1,
            "autoscaling": {"enabled": False},
            "defaults": {"skipMeshCreation": True},  # it would come with policies of Kuma's own making
            "injectorFailurePolicy": "Fail",
            "resources": {"requests": parity.CONTROL_PLANE_REQUESTS, "limits": {"memory": "512Mi"}},
            "envVars": _sidecar_resources(order.profile) | {"KUMA_REPORTS_ENABLED": "false"},
        },
        "experimental": {"sidecarContainers": True},
    } | ({"global": {"image": {"registry": f"{order.images.rstrip('/')}/kumahq"}}} if order.images else {})


def _sidecar_resources(profile: Profile) -> dict[str, str]:
    # By the control plane's own variables: charts before 2.14 have no values for them.
    resources = parity.proxy_resources(profile)
    requests, limits = resources["requests"], resources.get("limits", {})
    start = "KUMA_INJECTOR_SIDECAR_CONTAINER_RESOURCES"
    return {
        f"{start}_REQUESTS_CPU": requests["cpu"],
        f"{start}_REQUESTS_MEMORY": requests["memory"],
        f"{start}_LIMITS_CPU": limits.get("cpu", _NO_CPU_LIMIT),
        f"{start}_LIMITS_MEMORY": limits.get("memory", _NO_MEMORY_LIMIT),
    }


def _mesh(order: MeshOrder) -> Manifest:
    spec: dict[str, Any] = {
        "meshServices": {"mode": "Exclusive"},
        "skipCreatingInitialPolicies": ["*"],
        "networking": {"outbound": {"passthrough": True}},  # to the conductor of the load, outside the mesh
    }
    if order.profile.mtls:
        spec["mtls"] = {"enabledBackend": _POLICY, "backends": [{"name": _POLICY, "type": "builtin"}]}
    return {"apiVersion": _API, "kind": "Mesh", "metadata": parity.metadata(order, MESH_NAME, ""), "spec": spec}


def _policy(order: MeshOrder, kind: str, spec: dict[str, Any], namespace: str) -> Manifest:
    described = parity.metadata(order, _POLICY, namespace)
    described["labels"] |= {"kuma.io/mesh": MESH_NAME}
    return {
        "apiVersion": _API,
        "kind": kind,
        "metadata": described,
        "spec": {"targetRef": {"kind": "Mesh"}, **spec},
    }


def _everything(default: dict[str, Any]) -> dict[str, Any]:
    return {"targetRef": {"kind": "Mesh"}, "default": default}


def _both_ways(default: dict[str, Any]) -> dict[str, Any]:
    return {"to": [_everything(default)], "from": [_everything(default)]}


def _defaults(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return the policies that hold for what a proxy takes in and for what it sends on. No MeshRetry: no retries."""
    wait = parity.duration(profile.request_timeout_s)
    keep = f"{parity.IDLE_S}s"
    limits = ("maxConnections", "maxPendingRequests", "maxRequests", "maxRetries")
    policies: dict[str, dict[str, Any]] = {
        "MeshTimeout": {
            "connectionTimeout": wait,
            "idleTimeout": keep,
            "http": {"requestTimeout": wait, "streamIdleTimeout": keep},
        },
        "MeshCircuitBreaker": {"connectionLimits": dict.fromkeys(limits, parity.NO_LIMIT)},
    }
    if profile.access_log:
        policies["MeshAccessLog"] = {"backends": [{"type": "File", "file": {"path": "/dev/stdout"}}]}
    return policies


def _metrics() -> dict[str, Any]:
    # Unused ones too: whether a proxy is in sync is told by counters that stay 0.
    sidecar = {"includeUnused": True, "profiles": {"appendProfiles": [{"name": "All"}]}}
    return {
        "sidecar": sidecar,
        "backends": [{"type": "Prometheus", "prometheus": {"port": METRICS_PORT, "path": "/metrics"}}],
    }


def _trace(order: MeshOrder) -> dict[str, Any]:
    """Return what Envoy reports. Source: kuma, pkg/plugins/policies/meshtrace/api/v1alpha1/meshtrace.go."""
    zipkin = {
        "url": tracing.collector_url(order),
        "apiVersion": "httpJson",
        "traceId128bit": True,
        "sharedSpanContext": False,
    }
    return {
        "backends": [{"type": "Zipkin", "zipkin": zipkin}],
        "sampling": {"random": f"{tracing.percent(order.profile):g}"},  # decimals only as text
    }


def _tls(profile: Profile) -> dict[str, Any]:
    version = f"TLS{profile.tls_version.replace('.', '')}"
    return {
        "mode": "Permissive" if profile.permissive else "Strict",
        "tlsVersion": {"min": version, "max": version},
        # Its certificates are RSA. BoringSSL has no setting for the ciphers of 1.3.
        **({"tlsCiphers": ["ECDHE-RSA-AES128-GCM-SHA256"]} if profile.tls_version == "1.2" else {}),
    }


def _describe_tls(profile: Profile, is_server: bool) -> str:
    if not is_server:
        return f"originates mutual TLS {profile.tls_version} (BoringSSL, RSA-2048); peer: service in the Mesh"
    mode = "plaintext is taken too" if profile.permissive else "plaintext refused"
    return f"terminates mutual TLS {profile.tls_version} (BoringSSL, RSA-2048); peer: service in the Mesh; {mode}"


MESH = Kuma()
