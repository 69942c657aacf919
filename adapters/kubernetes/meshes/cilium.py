"""Cilium: the cluster's own network, whose Envoy on every node takes the requests of a Service that has a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.version import InvalidVersion, Version

from adapters.kubernetes.api import Kind, Manifest, ObjectRef, Permission
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
    Setting,
    Upkeep,
)
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.mesh_parts.exposition import Labels, total
from adapters.kubernetes.mesh_parts.rights import manage
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "kube-system"
CHART: Final = "cilium"
REPOSITORY: Final = "https://helm.cilium.io/"

# Before 1.20 Cilium's Envoy tells its agent of every request, and nothing switches that off.
# Source: charts 1.19.6 and 1.20.0, cilium-configmap.yaml (envoy-access-log-enabled).
OLDEST: Final = Version("1.20.0a0")

_METRICS_PORT: Final = 9964  # values envoy.prometheus.port
_CONFIG: Final = ObjectRef(Kind("v1", "ConfigMap"), NAMESPACE, "cilium-config")
_AGENT: Final = ObjectRef(Kind("apps/v1", "DaemonSet"), NAMESPACE, "cilium")
_ENVOY: Final = ObjectRef(Kind("apps/v1", "DaemonSet"), NAMESPACE, "cilium-envoy")
_CLASS: Final = ObjectRef(Kind("gateway.networking.k8s.io/v1", "GatewayClass"), "", "cilium")

_NOT_OURS: Final = "belongs to the installation of the cluster's network, which Meshgauge does not change"
_NO_MTLS: Final = (
    "mtls: Cilium encrypts between nodes (WireGuard, IPsec), which is no mutual TLS; its mutual TLS of workloads "
    f"(encryption.type=ztunnel, beta) {_NOT_OURS}"
)

_NO_TRACES: Final = (
    "tracing_ratio: routes of the Gateway API, which Cilium's Envoy is set up from, have no setting for traces; leave "
    "tracing_ratio at 0"
)

# A plan's load has 60,000 connections at most. Not more digits: Helm writes a value of 1,000,000 as 1e+06.
_BEYOND_REACH: Final = 999_999

# What has to stand in cilium-config, by key: the value, and the value of the chart that gives it. http-retry-count is
# not among them: it is for network policies, and routes of the Gateway API have no retries unless they ask for some.
# Source: chart 1.20.0, templates/cilium-configmap.yaml; cilium, testdata/conformance/gamma/mesh_frontend.
_SETTINGS: Final[tuple[tuple[str, str, str], ...]] = (
    ("enable-gateway-api", "true", "gatewayAPI.enabled=true"),
    ("enable-l7-proxy", "true", "l7Proxy=true"),
    ("external-envoy-proxy", "true", "envoy.enabled=true"),
    ("proxy-cluster-max-connections", str(_BEYOND_REACH), f"envoy.clusterMaxConnections={_BEYOND_REACH}"),
    ("proxy-cluster-max-pending-requests", str(_BEYOND_REACH), f"envoy.clusterMaxPendingRequests={_BEYOND_REACH}"),
    ("proxy-cluster-max-requests", str(_BEYOND_REACH), f"envoy.clusterMaxRequests={_BEYOND_REACH}"),
    ("proxy-idle-timeout-seconds", str(parity.IDLE_S), f"envoy.idleTimeoutDurationSeconds={parity.IDLE_S}"),
)
# Keys that are there only when nodes encrypt.
_UNENCRYPTED: Final = ("enable-wireguard", "enable-ipsec", "enable-ztunnel")


@dataclass(frozen=True, slots=True)
class Cilium:
    """Cilium as it stands in the cluster: attached to, checked, never changed."""

    name: str = "cilium"
    title: str = "Cilium"
    upkeep: Upkeep = "maintained"
    note: str = (
        "Cilium is the cluster's network: Meshgauge neither installs nor changes it. It has to run already, in the "
        "version the plan names (1.20 or newer), with the settings a fair comparison needs; meshgauge says which are "
        "missing. eBPF works in the kernel: compare the CPU of the host, not of containers alone."
    )
    placements: tuple[Placement, ...] = ("node",)

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """Return the chart whose index tells the versions; it is not installed."""
        return {CHART: ChartSource(CHART, REPOSITORY)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return mesh version -> chart version, which are the same, from 1.20 on."""
        return {entry.version: entry.version for entry in index if _is_known(entry.version)}

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the chart this version of Cilium came from.

        Raises:
            ConfigurationError: there is none, or it is too old.
        """
        known = self.versions_of(indexes[CHART])
        if version not in known:
            there = ", ".join(list(known)[:5]) or "none"
            raise ConfigurationError(f"Cilium {version}: no such chart from 1.20 on; there are: {there}")
        return {CHART: known[version]}

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why Cilium cannot run ``profile`` in ``placement``, or None."""
        where = self.placements
        if reason := parity.why_unsupported(self.title, profile, placement, where, where, no_traces=_NO_TRACES):
            return reason
        if profile.mtls:
            return _NO_MTLS
        if profile.proxy_cpu_cores or profile.proxy_memory_bytes:
            return f"proxy_cpu_cores and proxy_memory_bytes: what Cilium's Envoy may use {_NOT_OURS}"
        return None

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what the Envoy of a node does to a request. Source: cilium, operator/pkg/model/translation."""
        workers = "1 worker thread" if profile.proxy_threads == 1 else f"{profile.proxy_threads} worker threads"
        own = {
            "threads": f"{workers} on each node, for all of its pods; eBPF works in the kernel",
            "timeout": f"5 s to connect, {profile.request_timeout_s:g} s for the whole request",
            "circuit_breaker": f"limits of {_BEYOND_REACH:,} (cannot be switched off)",
            "metrics": "all of Envoy's counters and histograms, always on",
            "request_id": "added (Cilium has no switch for it)",
            "header_rewriting": "adds x-forwarded-for, x-forwarded-proto and x-envoy headers; names in lower case",
        }
        if profile.access_log:
            own["access_log"] = "one record a request to Cilium's agent (Hubble), none to a file"
        return parity.equal_features(profile) | own

    def needs(self, version: str) -> Needs:
        """Return the Gateway API its operator reads, and how Cilium has to be there."""
        return Needs(
            kube=">=1.29",
            gateway_api=">=1.4",
            installed=f"Cilium {version} as the cluster's network, with kubeProxyReplacement or nodePort.enabled",
        )

    def permissions(self) -> Sequence[Permission]:
        """Return the right to make a route, and to read what is held against the plan."""
        look = ("get", "list", "watch")
        return [
            *manage("gateway.networking.k8s.io", "httproutes"),
            Permission("gateway.networking.k8s.io", "gatewayclasses", look),
            Permission("", "configmaps", look),
            Permission("apps", "daemonsets", look),
            Permission("apps", "deployments", look),
        ]

    def secrets(self) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return nothing: Cilium is there."""
        return ()

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return nothing: whoever takes the network out of a cluster stops its pods."""
        return ()

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that Cilium runs in this version, as the profile needs it; what is not so is refused at once."""
        advice = f"ask its owner to run: {_command(order)}"
        wanted = {key: value for key, value, _ in _SETTINGS} | dict.fromkeys(_UNENCRYPTED, "")
        wanted["envoy-access-log-enabled"] = _switch(order.profile.access_log)
        args = ("spec", "template", "spec", "containers", 0, "args")
        return [
            Setting(
                _AGENT,
                ("metadata", "labels", "helm.sh/chart"),
                f"cilium-{order.version}",
                f"name the version that is installed in the plan, or upgrade Cilium to {order.version}",
            ),
            *(Setting(_CONFIG, ("data", key), value, advice) for key, value in wanted.items()),
            Setting(_ENVOY, args, f"* --concurrency {order.profile.proxy_threads}", advice),
            *(Rollout("DaemonSet", NAMESPACE, ref.name) for ref in (_AGENT, _ENVOY)),
            Rollout("Deployment", NAMESPACE, "cilium-operator"),
            Condition(_CLASS, "Accepted"),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return nothing: every pod is in Cilium's network, and the route takes in the Service."""
        return Enrolment()

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the route, which leads the Service's traffic through the node's Envoy."""
        return [parity.http_route(order)]

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return that the operator has made the route Envoy's."""
        return [Condition(parity.http_route_ref(order), "Accepted")]

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return Envoy on the nodes, and the agents and the operator, which set it up."""
        return [
            Containers("node", NAMESPACE, "k8s-app=cilium-envoy", ("cilium-envoy",)),
            Containers(None, NAMESPACE, "k8s-app=cilium", ("cilium-agent",)),
            Containers(None, NAMESPACE, "io.cilium/app=operator", ("cilium-operator",)),
        ]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return the Prometheus listener of the node's Envoy."""
        return MetricsEndpoint(_METRICS_PORT, "/metrics")

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what the Envoy of one node sent to the application: its cluster is called after the Service.

        Envoy writes the ``:`` of ``namespace:service:port`` as ``_``. Source: cilium,
        operator/pkg/model/translation/envoy_cluster.go (getClusterName); seen with Envoy 1.38.3.
        """
        cluster = f"{order.namespace}_{order.app}_{order.port}"

        def is_ours(labels: Labels) -> bool:
            name = labels.get("envoy_cluster_name", "").replace(":", "_")
            return name.rpartition("/")[2] == cluster

        return Passage(
            requests=total(text, "envoy_cluster_upstream_rq_total", is_ours),
            retries=total(text, "envoy_cluster_upstream_rq_retry", is_ours),
        )

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return the route, so that Envoy lets go of the Service while the operator can still tell it."""
        return [parity.http_route_ref(order)]

    def residue(self) -> Residue:
        """Return nothing: nothing was installed."""
        return Residue()


def _is_known(version: str) -> bool:
    try:
        return Version(version) >= OLDEST
    except InvalidVersion:
        return False


def _switch(is_on: bool) -> str:
    return "true" if is_on else "false"


def _command(order: MeshOrder) -> str:
    """Return the command that gives an installation all the values the profile needs, and keeps its others."""
    values = [
        *(value for _, _, value in _SETTINGS),
        f"envoy.log.accessLogEnabled={_switch(order.profile.access_log)}",
        "encryption.enabled=false",
        f"'envoy.extraArgs={{--concurrency,{order.profile.proxy_threads}}}'",  # no other value sets the threads
    ]
    sets = " ".join(f"--set {value}" for value in values)
    return (
        f"helm upgrade cilium cilium --repo {REPOSITORY} --version {order.version} -n {NAMESPACE} --reuse-values {sets}"
        " (and then restart DaemonSets cilium and cilium-envoy and Deployment cilium-operator)"
    )


MESH = Cilium()
