"""Open Service Mesh: Envoy beside every pod. Archived by the CNCF in 2023; for comparison with the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
from adapters.kubernetes.mesh_parts import envoy_stats, parity
from adapters.kubernetes.mesh_parts.exposition import Labels, total
from adapters.kubernetes.mesh_parts.rights import manage, manage_roles
from adapters.kubernetes.meshes import legacy
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

NAMESPACE: Final = "osm-system"
CHART: Final = "osm"
REPOSITORY: Final = "https://openservicemesh.github.io/osm"
MESH_NAME: Final = "osm"
PROXY: Final = "envoy"
# By the label of each Deployment; its chart has values for them, which nobody has to change. Sidecars ask for nothing.
# Source: osm v1.2.4, charts/osm/values.yaml.
_REQUESTS: Final = {
    "osm-controller": {"cpu": "500m", "memory": "128M"},
    "osm-injector": {"cpu": "300m", "memory": "64M"},
    "osm-bootstrap": {"cpu": "300m", "memory": "128M"},
}
METRICS: Final = MetricsEndpoint(15010, "/stats/prometheus")

# Source: osm v1.2.4, charts/osm (names of Deployments and webhooks), pkg/constants, cmd/osm-bootstrap/crds.
_OLDEST: Final = "1.2.0"
_ENVOY: Final = (  # the same in every 1.2
    "envoyproxy/envoy-distroless:v1.22.2@sha256:541d31419b95e3c62d8cc0967db9cdb4ad2782cc08faa6f15f04c081200e324a"
)
_MUTATING: Final = "osm-webhook-osm"
_VALIDATING: Final = "osm-validator-mesh-osm"
_CONFIG: Final = "config.openservicemesh.io"
_POLICY: Final = "policy.openservicemesh.io"
_SMI: Final = "*.smi-spec.io"
_SMI_GROUPS: Final = ("access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io")
_MESH_CONFIG: Final = ObjectRef(Kind(f"{_CONFIG}/v1alpha2", "MeshConfig"), NAMESPACE, "osm-mesh-config")
_ADMISSION: Final = "admissionregistration.k8s.io"
_INBOUND: Final = "0.0.0.0_15003"  # the listener other sidecars connect to, as Envoy labels it

_ALWAYS_ENCRYPTS: Final = "mtls: false: OSM's sidecars always use mutual TLS between each other"
_NEVER_PERMISSIVE: Final = (
    "permissive: OSM's sidecars take no plaintext (its permissive mode is about who may call whom)"
)
# Source: osm v1.2.4, pkg/envoy/lds/tracing.go (no sampling), charts/osm/values.yaml (osm.tracing).
_NO_SHARE: Final = (
    "tracing_ratio: OSM's sidecars report all requests or none, never a share of them, and this adapter has them "
    "report none; leave tracing_ratio at 0"
)
_TLS_13: Final = "tls_version 1.2: OSM's sidecars agree on TLS 1.3, and its chart has no value for that"


@dataclass(frozen=True, slots=True)
class OpenServiceMesh:
    """Open Service Mesh 1.2, as its chart installs it."""

    name: str = "osm"
    title: str = "Open Service Mesh"
    upkeep: Upkeep = "archived"
    note: str = (
        "Archived in 2023; its Envoy is of 2022. It always writes an access log, has no time-out, and runs as many "
        "threads as the node has cores: none of it can be switched."
    )
    placements: tuple[Placement, ...] = ("pair",)

    @property
    def charts(self) -> Mapping[str, ChartSource]:
        """The one chart."""
        return {CHART: ChartSource(CHART, REPOSITORY)}

    def versions_of(self, index: Sequence[ChartVersion]) -> Mapping[str, str]:
        """Return the versions from 1.2 on."""
        return legacy.versions_from(index, _OLDEST)

    def chart_versions(self, version: str, indexes: Mapping[str, Sequence[ChartVersion]]) -> Mapping[str, str]:
        """Return the chart of ``version``.

        Raises:
            ConfigurationError: there is none.
        """
        return legacy.only_chart(self.name, CHART, version, self.versions_of(indexes[CHART]))

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why OSM cannot run ``profile`` in ``placement``, or None."""
        if reason := parity.why_unsupported(self.title, profile, placement, self.placements, no_traces=_NO_SHARE):
            return reason
        if not profile.mtls:
            return _ALWAYS_ENCRYPTS
        if profile.permissive:
            return _NEVER_PERMISSIVE
        if profile.tls_version != "1.3":
            return _TLS_13
        return legacy.why_no_limits("OSM", profile)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return what this proxy does to a request. Source: osm v1.2.4, pkg/envoy and pkg/injector."""
        side = "terminates" if role == "server" else "originates"
        return parity.equal_features(profile) | {
            "threads": "as many as the node has cores (no switch)",
            "tls": f"{side} mutual TLS 1.3 (BoringSSL), RSA-2048 keys; peer: service account; plaintext refused",
            "timeout": "5 s to connect, none for the reply (no switch)",
            "access_log": "one line a request to standard output (no switch)",
            "metrics": "counters and histograms, always on; WebAssembly statistics off",
            "request_id": "added where there is none (no switch)",
            "header_rewriting": "x-forwarded-proto, x-request-id, x-envoy-expected-rq-timeout-ms",
        }

    def needs(self, version: str) -> Needs:
        """Return the oldest Kubernetes the chart installs into."""
        return Needs(kube=">=1.22.9")

    def permissions(self) -> Sequence[Permission]:
        """Return what the chart, its hooks and the kinds it leaves take."""
        return (
            *manage("", "configmaps", "namespaces", "secrets", "serviceaccounts", "services"),
            *manage("apps", "deployments"),
            *manage("batch", "jobs"),
            *manage(_ADMISSION, "mutatingwebhookconfigurations", "validatingwebhookconfigurations"),
            *manage("apiextensions.k8s.io", "customresourcedefinitions"),
            *(right for group in (_CONFIG, _POLICY, *_SMI_GROUPS) for right in manage(group, "*")),
            *manage_roles(),
        )

    def secrets(self) -> Mapping[str, str]:
        """Return nothing: OSM makes its own authority."""
        return {}

    def objects(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return the namespace of the control plane."""
        return [parity.namespace_of_mesh(order, NAMESPACE)]

    def releases(self, order: MeshOrder) -> Sequence[ChartRelease]:
        """Return the one release. Its hooks run Jobs with images of OSM's own."""
        return [ChartRelease(CHART, NAMESPACE, self.charts[CHART], order.chart_versions[CHART], _values(order))]

    def readiness(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return the control plane, the webhooks it makes, and the configuration the bootstrap makes of the preset."""
        deployments = ("osm-bootstrap", "osm-controller", "osm-injector")
        return [
            *(Rollout("Deployment", NAMESPACE, name) for name in deployments),
            Injector("MutatingWebhookConfiguration", _MUTATING),
            Injector("ValidatingWebhookConfiguration", _VALIDATING),
            Condition(_MESH_CONFIG),
        ]

    def enrolment(self, order: MeshOrder) -> Enrolment:
        """Return a label of the namespace, and annotations of both sides; metrics open where they are asked for."""
        injected = {"openservicemesh.io/sidecar-injection": "enabled"}
        passed_by = {"openservicemesh.io/outbound-port-exclusion-list": str(order.master_port)}
        return Enrolment(
            namespace_labels={
                "openservicemesh.io/monitored-by": MESH_NAME,
                "pod-security.kubernetes.io/enforce": "privileged",
            },
            namespace_annotations={"openservicemesh.io/metrics": "enabled"},
            app_annotations=injected,
            load_annotations=injected | (passed_by if order.master_port else {}),
        )

    def configuration(self, order: MeshOrder) -> Sequence[Manifest]:
        """Return nothing: the chart's values say all that can be said."""
        return ()

    def configured(self, order: MeshOrder) -> Sequence[Readiness]:
        """Return nothing more to wait for: that the sidecars have their configuration, their own counters tell."""
        return ()

    def containers(self, order: MeshOrder) -> Sequence[Containers]:
        """Return the sidecars of both sides, and the three Deployments."""
        return [
            Containers("client", None, "", (PROXY,)),
            Containers("server", None, "", (PROXY,)),
            *(Containers(None, NAMESPACE, f"app={app}", (), asked, 1) for app, asked in _REQUESTS.items()),
        ]

    def metrics(self, role: Role) -> MetricsEndpoint | None:
        """Return Envoy's Prometheus listener, which traffic is not redirected from."""
        return METRICS

    def passage(self, text: str, role: Role, order: MeshOrder) -> Passage:
        """Return what one Envoy counted for the application.

        Source: osm v1.2.4, pkg/service/types.go (``NAMESPACE/SERVICE|PORT``, and ``|local`` before the application).
        """
        upstream = f"{order.namespace}/{order.app}|{order.port}"
        if role == "client":
            return envoy_stats.sent(text, lambda labels: labels.get("envoy_cluster_name") == upstream)
        return _taken(text, f"{upstream}|local")

    def removal(self, order: MeshOrder) -> Sequence[ObjectRef]:
        """Return nothing: its objects are stored in the version asked for, and need no webhook to convert them."""
        return ()

    def residue(self) -> Residue:
        """Return kinds, webhooks and namespace; the chart's last hook removes some of it where it can run."""
        return Residue(
            groups=(_CONFIG, _POLICY, _SMI),
            kinds=(
                (Kind(f"{_ADMISSION}/v1", "MutatingWebhookConfiguration"), _MUTATING),
                (Kind(f"{_ADMISSION}/v1", "ValidatingWebhookConfiguration"), _VALIDATING),
            ),
            namespaces=(NAMESPACE,),
        )


def _values(order: MeshOrder) -> dict[str, Any]:
    one = {"replicaCount": 1, "autoScale": {"enable": False}}
    values: dict[str, Any] = {
        "meshName": MESH_NAME,
        "enforceSingleMesh": True,
        "enablePermissiveTrafficPolicy": True,  # everybody may call everybody: no rule is looked up
        "enableEgress": True,  # to the conductor of the load
        "featureFlags": {"enableWASMStats": False},  # statistics no other mesh takes
        "osmController": one,
        "injector": one,
        "tracing": {"enable": False},
    }
    if order.images:
        own = order.images.rstrip("/")
        values |= {"image": {"registry": f"{own}/openservicemesh"}, "sidecarImage": f"{own}/{_ENVOY}"}
    return {"osm": values}


def _taken(text: str, local: str) -> Passage:
    """Return what a server's Envoy took in: its requests to the application, its connections from other sidecars."""

    def is_local(labels: Labels) -> bool:
        return labels.get("envoy_cluster_name") == local

    def is_inbound(labels: Labels) -> bool:
        return labels.get("envoy_listener_address") == _INBOUND

    requests = total(text, "envoy_cluster_upstream_rq_total", is_local)
    connections = total(text, "envoy_listener_downstream_cx_total", is_inbound)
    with_tls = total(text, "envoy_listener_ssl_handshake", is_inbound)
    known = connections is not None and with_tls is not None and with_tls >= connections
    return Passage(
        requests=requests,
        connections=connections,
        encrypted=requests if known else None,  # Envoy counts connections with TLS, not requests
        retries=total(text, "envoy_cluster_upstream_rq_retry", is_local),
        in_sync=envoy_stats.is_in_sync(text),
    )


MESH = OpenServiceMesh()
