"""Traefik Mesh: one Traefik a node, reached by a name of its own. Dormant since 2022."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.kubernetes.api import Manifest, ObjectRef, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.mesh import (
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
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.mesh_parts.exposition import Labels, total
from adapters.kubernetes.mesh_parts.rights import manage, manage_roles
from adapters.kubernetes.meshes import legacy
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "traefik-mesh"
CHART: Final = "traefik-mesh"
REPOSITORY: Final = "https://traefik.github.io/charts"
PROXY: Final = "traefik-mesh-proxy"
METRICS: Final = MetricsEndpoint(8080, "/metrics")

# Older charts use API versions that Kubernetes 1.22 no longer serves: their last hook, which mends CoreDNS, would fail.
# Source: traefik/mesh-helm-chart, pull request 16 and mesh/templates (values and names, as of chart 3.0.8).
_OLDEST: Final = "3.1.0"
_SMI_GROUPS: Final = ("access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io")

# The chart always writes limits, 200m and 100Mi by default: out of reach of any node where the profile has none.
_CONTROLLER_REQUESTS: Final = {"cpu": "100m", "memory": "50Mi"}  # Source: chart 4.1.1, values.yaml
_NO_LIMIT: Final = {"cpu": "256", "mem": "1024Gi"}


# Source: Traefik 2, pkg/middlewares/tracing (entry point, middleware, forwarder: a span each).
_OTHER_SPANS: Final = (
    "tracing_ratio: Traefik 2 takes several spans for a request where other proxies take one, and this adapter does "
    "not set them up; leave tracing_ratio at 0"
)


@dataclass(frozen=True, slots=True)
class TraefikMesh:
    """Traefik Mesh 1.4, without the Prometheus and Jaeger of its chart."""

    name: str = "traefik-mesh"
    title: str = "Traefik Mesh"
    upkeep: Upkeep = "dormant"
    note: str = (
        "Not developed since 2022. It changes the cluster's CoreDNS while it is installed, and a Job of its chart "
        "changes it back: use a cluster of your own. Load is sent to SERVICE.NAMESPACE.traefik.mesh. Its last charts "
        "could not be read here: whether they install into Kubernetes 1.25 or later is not known."
    )
    placements: tuple[Placement, ...] = ("node",)

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """The one chart."""
        return {CHART: ChartSource(CHART, REPOSITORY)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return the versions whose charts work with a Kubernetes of today."""
        return legacy.versions_from(index, _OLDEST)

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the chart of ``version``.

        Raises:
            ConfigurationError: there is none.
        """
        return legacy.only_chart(self.name, CHART, version, self.versions_of(indexes[CHART]))

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why it cannot run ``profile`` in ``placement``, or None."""
        if profile.mtls:
            return "mtls: Traefik Mesh has no mutual TLS"
        if reason := parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=_OTHER_SPANS):
            return reason
        return "request_id: Traefik adds no request id" if profile.request_id else None

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what the node's proxy does to a request."""
        return parity.equal_features(profile) | {
            "threads": f"{profile.proxy_threads} (GOMAXPROCS)",
            "idle_connections": f"{profile.idle_connections} for each upstream",
            "timeout": f"{profile.request_timeout_s:g} s to connect, and as long for the reply's headers",
            "metrics": "Prometheus counters and histograms by service, always on",
            "header_rewriting": "x-forwarded-*, x-real-ip",
        }

    def needs(self, version: str) -> Needs:
        """Return the oldest Kubernetes its charts of today work with."""
        return Needs(kube=">=1.22")

    def permissions(self) -> Sequence[Permission]:
        """Return what the chart, its last hook and the kinds it leaves take."""
        return (
            *manage("", "configmaps", "namespaces", "serviceaccounts", "services"),
            *manage("apps", "daemonsets", "deployments"),
            *manage("batch", "jobs"),
            *manage("policy", "poddisruptionbudgets"),
            *manage("apiextensions.k8s.io", "customresourcedefinitions"),
            *(right for group in _SMI_GROUPS for right in manage(group, "*")),
            *manage_roles(),
        )

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: it has none."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return its namespace."""
        return [parity.namespace_of_mesh(order, NAMESPACE)]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the one release."""
        return [ChartRelease(CHART, NAMESPACE, self.charts[CHART], order.chart_versions[CHART], _values(order))]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return the controller, which waits for CoreDNS to know it, and the proxies."""
        return [
            Rollout("Deployment", NAMESPACE, "traefik-mesh-controller"),
            Rollout("DaemonSet", NAMESPACE, PROXY),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return the name that leads through the mesh: nothing is injected, and no label asked for."""
        return Enrolment(app_host=f"{order.app}.{order.namespace}.traefik.mesh")

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return nothing: what a Service's annotations could add (retries, a circuit breaker) is off without them."""
        return ()

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return nothing more to wait for."""
        return ()

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the proxies of the nodes, and the controller."""
        requests = parity.proxy_requests(order.profile)
        return [
            Containers("node", NAMESPACE, "app=maesh,component=maesh-mesh", (PROXY,), requests, None),
            Containers(None, NAMESPACE, "app=maesh,component=controller", (), _CONTROLLER_REQUESTS, 1),
        ]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return the proxy's own port."""
        return METRICS

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what one node's Traefik passed on to the application.

        Source: traefik/mesh v1.4.8, pkg/provider/key.go (``NAMESPACE-SERVICE-PORT``); traefik.io, Prometheus metrics.
        """
        service = f"{order.namespace}-{order.app}-{order.port}@http"

        def is_ours(labels: Labels) -> bool:
            return labels.get("service") == service

        requests = total(text, "traefik_service_requests_total", is_ours)
        retries = total(text, "traefik_service_retries_total", is_ours)
        return Passage(requests=requests, encrypted=None if requests is None else 0.0, retries=retries)

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return nothing: the chart's last hook changes CoreDNS back."""
        return ()

    def residue(self) -> Residue:
        """Return SMI's kinds, which Helm never removes, and the namespace."""
        return Residue(groups=("*.smi-spec.io",), namespaces=(NAMESPACE,))


def _values(order: MeshOrder) -> dict[str, Any]:
    profile = order.profile
    wait = f"{profile.request_timeout_s:g}s"
    arguments = [f"--serversTransport.maxIdleConnsPerHost={profile.idle_connections}"]
    if profile.access_log:
        arguments.append("--accesslog=true")
    proxy: dict[str, Any] = {
        "env": [{"name": "GOMAXPROCS", "value": str(profile.proxy_threads)}],
        "additionalArguments": arguments,
        "forwardingTimeouts": {
            "dialTimeout": wait,
            "responseHeaderTimeout": wait,
            "idleConnTimeout": f"{parity.IDLE_S}s",
        },
        "resources": _resources(profile),
    }
    values: dict[str, Any] = {
        "clusterDomain": order.cluster_domain,
        "proxy": proxy,
        "controller": {"ignoreNamespaces": ["kube-system"]},
        "tracing": {"deploy": False, "jaeger": {"enabled": False}},
        "metrics": {"deploy": False, "prometheus": {"enabled": True}},  # how passage is proven
    }
    if order.images:
        own = order.images.rstrip("/")
        proxy["image"] = {"name": f"{own}/traefik"}
        values["controller"]["image"] = {"name": f"{own}/traefik/mesh"}
    return values


def _resources(profile: Profile) -> dict[str, dict[str, str]]:
    resources = parity.proxy_resources(profile)
    requests, limits = resources["requests"], resources.get("limits", {})
    return {
        "request": {"cpu": requests["cpu"], "mem": requests["memory"]},
        "limit": {"cpu": limits.get("cpu", _NO_LIMIT["cpu"]), "mem": limits.get("memory", _NO_LIMIT["mem"])},
    }


MESH = TraefikMesh()
