"""Charts of our own in the shape of the meshes' real ones, and the index of a repository that has them.

Names, kinds and what survives an uninstall are those of the real charts (reference/adapters.md sections 1-9 and 0.6);
there is nothing else in them. ``write(folder)`` makes them; a plan's ``cluster.charts`` names that folder.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from stand_in_objects import Crd, Manifest, crd, daemon_set, deployment, hook_job, role, stateful_set, webhooks

GATEWAY_APIS: Final = ("1.5.1", "1.4.1", "1.3.0", "1.2.1", "1.6.1")
KEEP: Final = {"helm.sh/resource-policy": "keep"}


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. ``versions``: chart version -> app version. ``crds``: what Helm never removes."""

    name: str
    versions: Mapping[str, str]
    templates: Sequence[Manifest]
    crds: Sequence[Manifest] = ()


_ISTIO: Final = {version: version for version in ("1.29.6", "1.30.3")}
_LINKERD: Final = {"2026.6.3": "edge-26.6.3", "2026.8.3": "edge-26.8.3"}
_CONSUL: Final = {"1.9.11": "1.22.7", "2.0.3": "2.0.3"}
_KUMA: Final = {"2.13.0": "2.13.0", "2.14.3": "2.14.3"}
_CILIUM: Final = {"1.19.6": "1.19.6", "1.20.0": "1.20.0"}
# What stands in cilium-config where its owner gave it the values a fair comparison needs.
CILIUM_CONFIG: Final = {
    "enable-gateway-api": "true",
    "enable-l7-proxy": "true",
    "external-envoy-proxy": "true",
    "proxy-cluster-max-connections": "999999",
    "proxy-cluster-max-pending-requests": "999999",
    "proxy-cluster-max-requests": "999999",
    "proxy-idle-timeout-seconds": "604800",
    "envoy-access-log-enabled": "false",
}
_ISTIO_CRDS: Final = (
    *(Crd("networking.istio.io", kind, ("v1", "v1beta1", "v1alpha3"))
      for kind in ("VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "Sidecar", "WorkloadEntry",
                   "WorkloadGroup")),
    Crd("networking.istio.io", "EnvoyFilter", ("v1alpha3",)),
    Crd("networking.istio.io", "ProxyConfig", ("v1beta1",)),
    *(Crd("security.istio.io", kind, ("v1", "v1beta1"))
      for kind in ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication")),
    Crd("telemetry.istio.io", "Telemetry", ("v1", "v1alpha1")),
    Crd("extensions.istio.io", "WasmPlugin", ("v1alpha1",)),
)  # fmt: skip
_LINKERD_CRDS: Final = (
    Crd("linkerd.io", "ServiceProfile", ("v1alpha2",)),
    Crd("policy.linkerd.io", "Server", ("v1beta3", "v1beta2")),
    Crd("policy.linkerd.io", "HTTPRoute", ("v1beta3", "v1alpha1"), status=True),
    *(Crd("policy.linkerd.io", kind, ("v1alpha1",))
      for kind in ("AuthorizationPolicy", "MeshTLSAuthentication", "NetworkAuthentication", "EgressNetwork")),
    Crd("workload.linkerd.io", "ExternalWorkload", ("v1beta1",)),
)  # fmt: skip
_CONSUL_CRDS: Final = tuple(
    Crd("consul.hashicorp.com", kind, ("v1alpha1",), status=True)
    for kind in ("Mesh", "ProxyDefaults", "ServiceDefaults", "ServiceIntentions", "ServiceResolver", "ServiceRouter",
                 "ServiceSplitter")
)  # fmt: skip
_KUMA_CRDS: Final = (
    *(Crd("kuma.io", kind, ("v1alpha1",), scope="Cluster") for kind in ("Mesh", "Zone", "ZoneInsight", "MeshInsight")),
    *(Crd("kuma.io", kind, ("v1alpha1",))
      for kind in ("Dataplane", "DataplaneInsight", "MeshService", "MeshTrafficPermission", "MeshTLS", "MeshTimeout",
                   "MeshRetry", "MeshCircuitBreaker", "MeshAccessLog", "MeshTrace", "MeshHTTPRoute", "MeshMetric",
                   "MeshIdentity", "MeshTrust", "ContainerPatch", "MeshProxyPatch", "MeshLoadBalancingStrategy")),
)  # fmt: skip
_SMI_CRDS: Final = (
    Crd("split.smi-spec.io", "TrafficSplit", ("v1alpha3",)),
    Crd("specs.smi-spec.io", "HTTPRouteGroup", ("v1alpha3",)),
    Crd("access.smi-spec.io", "TrafficTarget", ("v1alpha2",)),
)
_NSM_CRDS: Final = (
    Crd("nsm.nginx.com", "MeshConfig", ("v1alpha2", "v1alpha1")),
    Crd("specs.smi.nginx.com", "RateLimit", ("v1alpha2",)),
    Crd("spiffeid.spiffe.io", "SpiffeID", ("v1beta1",)),
)
_GATEWAY_CRDS: Final = (
    Crd("gateway.networking.k8s.io", "GatewayClass", ("v1", "v1beta1"), scope="Cluster", status=True),
    Crd("gateway.networking.k8s.io", "Gateway", ("v1", "v1beta1"), status=True),
    Crd("gateway.networking.k8s.io", "HTTPRoute", ("v1", "v1beta1"), status=True),
    Crd("gateway.networking.k8s.io", "GRPCRoute", ("v1",), status=True),
    Crd("gateway.networking.k8s.io", "ReferenceGrant", ("v1beta1",)),
)


def gateway_api(version: str = "1.5.1") -> list[Manifest]:
    """Return the Gateway API's definitions, as a cluster has them whose owner installed them."""
    notes = {"gateway.networking.k8s.io/bundle-version": f"v{version}", "gateway.networking.k8s.io/channel": "standard"}
    # Kubernetes guards its own groups: kubernetes/enhancements 1111.
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/1"}
    return [crd(one, {**notes, **approved}) for one in _GATEWAY_CRDS]


def charts() -> list[Chart]:
    """Return all of them."""
    return [*_istio(), *_linkerd(), _consul(), _kuma(), _cilium(), *_legacy()]


def _istio() -> Iterator[Chart]:
    reader = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "istio-reader-service-account"}}
    default = webhooks(
        "Validating", "istiod-default-validator", "istiod", ("networking.istio.io", "security.istio.io"), "Ignore"
    )
    yield Chart("base", _ISTIO, [*(crd(one, KEEP) for one in _ISTIO_CRDS), reader, default])
    istiod = [
        *deployment("istiod", {"app": "istiod", "istio": "pilot"}, ("discovery",)),
        *role("istiod-clusterrole-istio-system", "istiod"),
        *role("istio-reader-clusterrole-istio-system", "istio-reader-service-account"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}, "data": {"mesh": "{}"}},
        webhooks("Mutating", "istio-sidecar-injector", "istiod", ("",), "Fail", only={"istio-injection": "enabled"}),
        webhooks("Validating", "istio-validator-istio-system", "istiod", ("networking.istio.io",), "Ignore"),
    ]
    yield Chart("istiod", _ISTIO, istiod)
    yield Chart(
        "cni",
        _ISTIO,
        [
            *daemon_set("istio-cni-node", {"k8s-app": "istio-cni-node"}, ("install-cni",)),
            *role("istio-cni", "istio-cni-node"),
        ],
    )
    yield Chart("ztunnel", _ISTIO, daemon_set("ztunnel", {"app": "ztunnel"}, ("istio-proxy",)))


def _linkerd() -> Iterator[Chart]:
    yield Chart("linkerd-crds", _LINKERD, [crd(one) for one in _LINKERD_CRDS])
    parts = {
        "destination": ("linkerd-proxy", "destination", "sp-validator", "policy"),
        "identity": ("linkerd-proxy", "identity"),
        "proxy-injector": ("linkerd-proxy", "proxy-injector"),
    }
    objects: list[Manifest] = []
    for part, containers in parts.items():
        labels = {"linkerd.io/control-plane-component": part, "linkerd.io/control-plane-ns": "linkerd"}
        objects += deployment(f"linkerd-{part}", labels, containers)
        objects += role(f"linkerd-linkerd-{part}", f"linkerd-{part}")
    injector = "linkerd-proxy-injector"
    objects += [
        webhooks(
            "Mutating", f"{injector}-webhook-config", injector, ("",), "Fail", only={"none": "none"}, bundled=True
        ),
        webhooks(
            "Validating",
            "linkerd-sp-validator-webhook-config",
            "linkerd-destination",
            ("linkerd.io",),
            "Fail",
            bundled=True,
        ),
        webhooks(
            "Validating",
            "linkerd-policy-validator-webhook-config",
            "linkerd-destination",
            ("policy.linkerd.io",),
            "Fail",
            bundled=True,
        ),
    ]
    yield Chart("linkerd-control-plane", _LINKERD, objects)


def _consul() -> Chart:
    labels = {"app": "consul", "chart": "consul-helm"}
    injector = "consul-connect-injector"
    objects = [
        *(crd(one) for one in _CONSUL_CRDS),
        *stateful_set("consul-server", {**labels, "component": "server"}, ("consul",), claim="data"),
        *deployment(injector, {**labels, "component": "connect-injector"}, ("sidecar-injector",)),
        *deployment(
            "consul-webhook-cert-manager", {**labels, "component": "webhook-cert-manager"}, ("webhook-cert-manager",)
        ),
        *role(injector, injector),
        webhooks("Mutating", injector, injector, ("consul.hashicorp.com",), "Fail"),
        webhooks("Validating", injector, injector, ("consul.hashicorp.com",), "Fail"),
        hook_job("consul-tls-init-cleanup", "pre-delete"),
    ]
    return Chart("consul", _CONSUL, objects)


def _kuma() -> Chart:
    name = "kuma-control-plane"
    objects = [
        *deployment(name, {"app": name}, ("control-plane",)),
        *role("kuma-control-plane", name),
        webhooks("Mutating", "kuma-admission-mutating-webhook-configuration", name, ("kuma.io",), "Fail", bundled=True),
        webhooks("Validating", "kuma-validating-webhook-configuration", name, ("kuma.io",), "Fail", bundled=True),
    ]
    return Chart("kuma", _KUMA, objects, [crd(one) for one in _KUMA_CRDS])


def _cilium() -> Chart:
    """Return Cilium as its owner has it who gave it the values a fair comparison needs."""
    agent = daemon_set("cilium", {"k8s-app": "cilium"}, ("cilium-agent",))
    agent[-1]["metadata"]["labels"]["helm.sh/chart"] = "cilium-{{ .Chart.Version }}"
    envoy = daemon_set("cilium-envoy", {"k8s-app": "cilium-envoy"}, ("cilium-envoy",))
    envoy[-1]["spec"]["template"]["spec"]["containers"][0]["args"] = ["--", "--base-id 0", "--concurrency", "1"]
    objects = [
        *agent,
        *envoy,
        *deployment("cilium-operator", {"io.cilium/app": "operator"}, ("cilium-operator",)),
        *role("cilium", "cilium"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": CILIUM_CONFIG},
    ]
    return Chart("cilium", _CILIUM, objects)


def _legacy() -> Iterator[Chart]:
    traefik = {"app": "maesh", "component": "maesh-mesh"}
    yield Chart(
        "traefik-mesh",
        {"4.1.1": "v1.4.8"},
        [
            *daemon_set("traefik-mesh-proxy", traefik, ("traefik-mesh-proxy",)),
            *deployment(
                "traefik-mesh-controller", {"app": "maesh", "component": "controller"}, ("traefik-mesh-controller",)
            ),
            *role("traefik-mesh-controller", "traefik-mesh-controller"),
            hook_job("traefik-mesh-cleanup", "post-delete"),
        ],
        [crd(one) for one in _SMI_CRDS],
    )
    labels = {"app.kubernetes.io/part-of": "nginx-service-mesh"}
    yield Chart(
        "nginx-service-mesh",
        {"2.0.0": "2.0.0"},
        [
            *deployment(
                "nginx-mesh-controller", {"app.kubernetes.io/name": "nginx-mesh-controller"}, ("nginx-mesh-controller",)
            ),
            *deployment(
                "nginx-mesh-metrics", {"app.kubernetes.io/name": "nginx-mesh-metrics"}, ("nginx-mesh-metrics",)
            ),
            *deployment(
                "nats-server", {"app.kubernetes.io/name": "nats-server"}, ("nginx-mesh-cert-reloader", "nats-server")
            ),
            *deployment(
                "spire-server", {"app.kubernetes.io/name": "spire-server"}, ("spire-server", "k8s-workload-registrar")
            ),
            *daemon_set("spire-agent", {"app.kubernetes.io/name": "spire-agent"}, ("spire-agent",)),
            *role("nginx-mesh-controller", "nginx-mesh-controller"),
            webhooks(
                "Mutating",
                "sidecar-injector-webhook-cfg.internal.builtin.nsm.nginx",
                "nginx-mesh-controller",
                ("",),
                "Fail",
                only={"none": "none"},
                bundled=True,
            ),
            webhooks(
                "Validating",
                "validating-webhook-cfg.internal.builtin.nsm.nginx",
                "nginx-mesh-controller",
                ("nsm.nginx.com",),
                "Fail",
                bundled=True,
            ),
        ],
        [crd(one, labels=labels) for one in (*_SMI_CRDS, *_NSM_CRDS)],
    )
    yield Chart(
        "osm",
        {"1.2.4": "v1.2.4"},
        [
            *(
                o
                for part in ("controller", "injector", "bootstrap")
                for o in deployment(f"osm-{part}", {"app": f"osm-{part}"}, (f"osm-{part}",))
            ),
            *role("osm", "osm-controller"),
            hook_job("osm-cleanup", "post-delete"),
        ],
    )


def write(folder: Path) -> Path:
    """Write all charts and their index into ``folder``; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict[str, Any]]] = {}
    for chart in charts():
        for version, app_version in chart.versions.items():
            head = {"apiVersion": "v2", "name": chart.name, "version": version, "appVersion": app_version}
            content = _archive(chart, head)
            (folder / f"{chart.name}-{version}.tgz").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            entry = {
                **head,
                "urls": [f"{chart.name}-{version}.tgz"],
                "digest": digest,
                "created": "2026-08-20T00:00:00Z",
            }
            entries.setdefault(chart.name, []).append(entry)
    (folder / "index.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "entries": entries}))
    for version in GATEWAY_APIS:
        bundle = yaml.safe_dump_all(gateway_api(version))
        (folder / f"gateway-api-v{version}.yaml").write_text(bundle)
    return folder


def _template(manifest: Manifest) -> str:
    """Return the text for Helm. Whoever starts lenient is turned strict by its controller, which an upgrade leaves so.

    Source: istio 1.30.3, base/templates/defaultrevision-validatingwebhookconfiguration.yaml.
    """
    lenient = re.compile(r"^( *failurePolicy: Ignore)$", re.MULTILINE)
    return lenient.sub(r"{{- if not .Release.IsUpgrade }}\n\1\n{{- end }}", yaml.safe_dump(manifest))


def _archive(chart: Chart, head: Manifest) -> bytes:
    files = {"Chart.yaml": yaml.safe_dump(head), "values.yaml": "{}\n"}
    files |= {f"templates/{number:03}.yaml": _template(one) for number, one in enumerate(chart.templates)}
    files |= {f"crds/{number:03}.yaml": yaml.safe_dump(one) for number, one in enumerate(chart.crds)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{chart.name}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()
