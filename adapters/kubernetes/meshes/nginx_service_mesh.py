"""NGINX Service Mesh: NGINX Plus beside every pod. Archived in 2024; for comparison with the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.kubernetes.api import Kind, Manifest, ObjectRef, Permission
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion
from adapters.kubernetes.mesh import (
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
from adapters.kubernetes.mesh_parts.exposition import Labels, total
from adapters.kubernetes.mesh_parts.rights import manage, manage_roles
from adapters.kubernetes.meshes import legacy
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "nginx-mesh"
CHART: Final = "nginx-service-mesh"
RELEASE: Final = "nsm"
REPOSITORY: Final = "https://helm.nginx.com/stable"
PROXY: Final = "nginx-mesh-sidecar"
METRICS: Final = MetricsEndpoint(8887, "/metrics")

# Source: nginx-service-mesh v2.0.0, helm-chart/ (names, kinds, hooks), pkg/apis/mesh/types.go (labels, annotations).
_OLDEST: Final = "2.0.0"
_INJECTION: Final = "injector.nsm.nginx.com/auto-inject"
_GROUPS: Final = ("nsm.nginx.com", "specs.smi.nginx.com", "spiffeid.spiffe.io")
_SMI_GROUPS: Final = ("access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io")
_ADMISSION: Final = "admissionregistration.k8s.io"
_WEBHOOK: Final = "internal.builtin.nsm.nginx"
_SIDES: Final[dict[Placement, tuple[Role, ...]]] = {
    "pair": ("client", "server"),
    "client": ("client",),
    "server": ("server",),
}
# Source: nginx-service-mesh v2.0.0, helm-chart/values.schema.json (telemetry.exporters).
_OTLP_ALONE: Final = (
    "tracing_ratio: NGINX Service Mesh sends its spans by OTLP over gRPC alone, which Meshgauge's collector does not "
    "speak; leave tracing_ratio at 0"
)
_TLS_UNKNOWN: Final = "tls_version: NGINX Service Mesh has no setting for it; leave it at 1.3, the newest"


@dataclass(frozen=True, slots=True)
class NginxServiceMesh:
    """NGINX Service Mesh 2.0, with SPIRE in memory."""

    name: str = "nginx-service-mesh"
    title: str = "NGINX Service Mesh"
    upkeep: Upkeep = "archived"
    note: str = (
        "Archived in 2024. Whether its images can still be had is for you to find out: those of its hooks were "
        "bitnami's, those of SPIRE Google's. Its proxy is closed: threads, time-outs and pools are not told and cannot "
        "be set, and its counters were read off its documentation. Its chart registers a webhook that may refuse the "
        "chart's own MeshConfig before its controller runs: then installing fails, and has to be tried again."
    )
    placements: tuple[Placement, ...] = ("pair", "client", "server")

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """The one chart."""
        return {CHART: ChartSource(CHART, REPOSITORY)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return the versions from 2.0 on."""
        return legacy.versions_from(index, _OLDEST)

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the chart of ``version``.

        Raises:
            ConfigurationError: there is none.
        """
        return legacy.only_chart(self.name, CHART, version, self.versions_of(indexes[CHART]))

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why it cannot run ``profile`` in ``placement``, or None."""
        if reason := parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=_OTLP_ALONE):
            return reason
        if profile.mtls and profile.tls_version != "1.3":
            return _TLS_UNKNOWN
        if profile.request_id:
            return "request_id: NGINX Service Mesh adds none, and has no setting for it"
        return legacy.why_no_limits(self.title, profile)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what this proxy does to a request, as far as anybody outside knows."""
        unknown = "not told by its makers (no switch)"
        own = dict.fromkeys(("threads", "http_upstream", "idle_connections", "retries", "timeout"), unknown) | {
            "circuit_breaker": "none",
            "access_log": "one line a request to standard output (no switch)",
            "metrics": "NGINX Plus counters and a histogram of latencies, always on",
            "header_rewriting": unknown,
        }
        if profile.mtls:
            side = "terminates" if role == "server" else "originates"
            plain = "; plaintext is taken too" if profile.permissive and role == "server" else ""
            own["tls"] = f"{side} mutual TLS (OpenSSL; version by agreement), ECDSA P-256 keys; peer: SPIFFE id{plain}"
        return parity.equal_features(profile) | own

    def needs(self, version: str) -> Needs:
        """Return the oldest Kubernetes its chart installs into."""
        return Needs(kube=">=1.22")

    def permissions(self) -> Sequence[Permission]:
        """Return what the chart, its hooks and the kinds it leaves take."""
        return (
            *manage("", "configmaps", "namespaces", "secrets", "serviceaccounts", "services"),
            *manage("apps", "daemonsets", "deployments", "statefulsets"),
            *manage("batch", "jobs"),
            *manage(_ADMISSION, "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
            *manage("apiextensions.k8s.io", "customresourcedefinitions"),
            *manage("apiregistration.k8s.io", "apiservices"),
            *(right for group in (*_GROUPS, *_SMI_GROUPS) for right in manage(group, "*")),
            *manage_roles(),
        )

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: SPIRE makes its own authority."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the control plane's namespace, which it wants for itself."""
        return [parity.namespace_of_mesh(order, NAMESPACE)]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the one release. Its hooks run Jobs before and after it is removed."""
        return [ChartRelease(RELEASE, NAMESPACE, self.charts[CHART], order.chart_versions[CHART], _values(order))]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return the control plane, SPIRE and the webhooks, whose authority the controller fills in."""
        deployments = ("nginx-mesh-controller", "nginx-mesh-metrics", "nats-server", "spire-server")
        return [
            *(Rollout("Deployment", NAMESPACE, name) for name in deployments),
            Rollout("DaemonSet", NAMESPACE, "spire-agent"),
            Injector("MutatingWebhookConfiguration", f"sidecar-injector-webhook-cfg.{_WEBHOOK}"),
            Injector("ValidatingWebhookConfiguration", f"validating-webhook-cfg.{_WEBHOOK}"),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return labels that say of every pod whether it gets a sidecar; its init container needs privileges."""
        sides = _SIDES[order.placement]
        off = {} if order.profile.mtls else {"config.nsm.nginx.com/mtls-mode": "off"}
        passed_by = {"config.nsm.nginx.com/ignore-outgoing-ports": str(order.master_port)} if order.master_port else {}
        return Enrolment(
            namespace_labels={"pod-security.kubernetes.io/enforce": "privileged"},
            app_labels={_INJECTION: "enabled" if "server" in sides else "disabled"},
            load_labels={_INJECTION: "enabled" if "client" in sides else "disabled"},
            app_annotations=off if "server" in sides else {},
            load_annotations=off | passed_by if "client" in sides else {},
        )

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return nothing: the chart's values say all that can be said."""
        return ()

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return nothing more to wait for."""
        return ()

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the sidecars of the placement, and all pods of the control plane's namespace, SPIRE's included."""
        sidecars = (Containers(role, None, "", (PROXY,)) for role in _SIDES[order.placement])
        return [*sidecars, Containers(None, NAMESPACE, "")]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return where NGINX Plus tells its counters."""
        return METRICS

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what one sidecar passed on; nothing in there tells requests with mutual TLS from those without.

        Source: nginx-service-mesh v2.0.0, docs/content/guides/prometheus-metrics.md: ``server`` is the address a
        request was passed on to, and what a sidecar sent out says ``dst_service``.
        """

        def is_ours(labels: Labels) -> bool:
            sent_out = "dst_service" in labels
            if role == "client":
                return labels.get("dst_service") == order.app and labels.get("dst_namespace") == order.namespace
            return not sent_out and labels.get("server", "").endswith(f":{order.port}")

        return Passage(requests=total(text, "nginxplus_upstream_server_requests", is_ours))

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return nothing that is ours; SPIRE's own objects lose their finalizers with the residue."""
        return ()

    def residue(self) -> Residue:
        """Return kinds and namespace. The registrar that would take finalizers off SPIFFE ids goes with the chart."""
        return Residue(
            groups=(*_GROUPS, "*.smi-spec.io"),
            kinds=(
                (Kind(f"{_ADMISSION}/v1", "MutatingWebhookConfiguration"), f"*.{_WEBHOOK}"),
                (Kind(f"{_ADMISSION}/v1", "ValidatingWebhookConfiguration"), "*.builtin.nsm.nginx"),
            ),
            namespaces=(NAMESPACE,),
            finalizers=("spiffeid.spiffe.io",),
        )


def _values(order: MeshOrder) -> dict[str, Any]:
    profile = order.profile
    # The chart writes the mode without quotes, and "off" is no text in YAML: the API server refuses its MeshConfig.
    # Pods say it themselves, which only a strict mesh forbids. Seen with chart 2.0.0 and kube-apiserver 1.36.2.
    mode = "strict" if profile.mtls and not profile.permissive else "permissive"
    values: dict[str, Any] = {
        "accessControlMode": "allow",
        "nginxErrorLogLevel": "warn",
        # Nobody asks there. Empty, it becomes a null in the chart's MeshConfig, which the API server refuses, too.
        "prometheusAddress": "prometheus.invalid:9090",
        "nginxLBMethod": "round_robin",  # as every other mesh; its own default weighs latencies
        "mtls": {"mode": mode, "persistentStorage": "off", "spireServerKeyManager": "memory", "caKeyType": "ec-p256"},
    }
    if order.images:
        # One registry for all of them, those of SPIRE, NATS and the hooks included.
        values["registry"] = {"server": f"{order.images.rstrip('/')}/nsm", "disablePublicImages": True}
    return values


MESH = NginxServiceMesh()
