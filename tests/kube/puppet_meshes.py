"""What the control planes do in a cluster that no chart shows: traces they leave, sidecars they inject. A table.

Source: reference/adapters.md 0.2 (containers), 0.3 (injection keys), 0.6 (what is left).
"""

from __future__ import annotations

import base64
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Manifest = dict[str, Any]
CA_BUNDLE: Final = base64.b64encode(b"-----BEGIN CERTIFICATE-----\npuppet\n-----END CERTIFICATE-----\n").decode()
GATEWAY_API: Final = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """One mesh's controller.

    Attributes:
        deployment: pattern of the name of the Deployment it runs in, ``*-connect-injector``.
        here: objects it makes in its own namespace: (collection path, apiVersion, kind, name).
        everywhere: ConfigMaps it puts into every namespace, with their labels.
        gateway_classes: made as soon as the Gateway API is served, and made again when deleted.
        waypoints: gateway class whose Gateways become a Deployment and a Service.
        cluster: cluster-scoped objects it makes: (collection path, manifest).
        definitions: CustomResourceDefinitions it makes: (plural, kind, group, scope, version).
        finalizer: what it puts on objects of the group, and takes off when they are deleted: (group, finalizer).
            It tells them ``Synced``, too.
        services: what it makes of each Service of a labelled namespace: (collection path, apiVersion, kind, label).
        strict: patterns of validating webhooks it turns from Ignore to Fail.
    """

    name: str
    deployment: str
    here: tuple[tuple[str, str, str, str], ...] = ()
    everywhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gateway_classes: Mapping[str, str] = field(default_factory=dict)
    waypoints: str = ""
    cluster: tuple[tuple[str, Manifest], ...] = ()
    definitions: tuple[tuple[str, str, str, str, str], ...] = ()
    finalizer: tuple[str, str] | None = None
    services: tuple[str, str, str, str] | None = None
    strict: tuple[str, ...] = ()


_LEASES: Final = ("/apis/coordination.k8s.io/v1/leases", "coordination.k8s.io/v1", "Lease")
_MAPS: Final = ("/api/v1/configmaps", "v1", "ConfigMap")
_SECRETS: Final = ("/api/v1/secrets", "v1", "Secret")

_ADMISSION: Final = "admissionregistration.k8s.io"


def webhook(kind: str, name: str, namespace: str) -> Manifest:
    """Return a webhook configuration a controller makes for itself; it sees nothing a test makes."""
    one = {
        "name": f"{name}.puppet.example",
        # No Service: a real API server's webhooks that name one are redirected to the puppet, which made none of these.
        "clientConfig": {"url": f"https://{namespace}.invalid/", "caBundle": CA_BUNDLE},
        "rules": [],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {"apiVersion": f"{_ADMISSION}/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [one]}


CONTROL_PLANES: Final = (
    ControlPlane(
        "istio",
        "istiod*",
        here=(
            (*_MAPS, "istio-leader"),
            (*_MAPS, "istio-namespace-controller-election"),
            (*_MAPS, "istio-gateway-status-leader"),
            (*_LEASES, "istio-gateway-deployment-default"),
            (*_SECRETS, "istio-ca-secret"),
        ),
        everywhere={"istio-ca-root-cert": {"istio.io/config": "true"}},
        gateway_classes={
            "istio": "istio.io/gateway-controller",
            "istio-remote": "istio.io/unmanaged-gateway",
            "istio-waypoint": "istio.io/mesh-controller",
        },
        waypoints="istio-waypoint",
        strict=("istio-validator-*", "istiod-default-validator"),
    ),
    ControlPlane("linkerd", "linkerd-destination", here=((*_LEASES, "policy-controller-write"),)),
    ControlPlane(
        "consul",
        "*-connect-injector",
        here=((*_SECRETS, "consul-connect-inject-acl-token"),),
        finalizer=("consul.hashicorp.com", "finalizers.consul.hashicorp.com"),
    ),
    ControlPlane(
        "kuma",
        "kuma-control-plane",
        here=((*_SECRETS, "zone-token-signing-key-1"), (*_LEASES, "cp-leader-lease"), (*_MAPS, "kuma-cp-leader")),
        cluster=(
            ("/apis/kuma.io/v1alpha1/meshes",
             {"apiVersion": "kuma.io/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}, "spec": {}}),
        ),
        services=(
            "/apis/kuma.io/v1alpha1/meshservices", "kuma.io/v1alpha1", "MeshService", "kuma.io/sidecar-injection",
        ),
    ),
    ControlPlane(
        "cilium",
        "cilium-operator",
        here=((*_LEASES, "cilium-operator-resource-lock"),),
        gateway_classes={"cilium": "io.cilium/gateway-controller"},
        definitions=(
            ("ciliumnetworkpolicies", "CiliumNetworkPolicy", "cilium.io", "Namespaced", "v2"),
            ("ciliumidentities", "CiliumIdentity", "cilium.io", "Cluster", "v2"),
            ("ciliumnodes", "CiliumNode", "cilium.io", "Cluster", "v2"),
        ),
    ),
    ControlPlane(
        "osm",
        "osm-controller",
        here=(
            (*_SECRETS, "osm-ca-bundle"),
            ("/apis/config.openservicemesh.io/v1alpha2/meshconfigs", "config.openservicemesh.io/v1alpha2", "MeshConfig",
             "osm-mesh-config"),
        ),
        cluster=tuple(
            (f"/apis/{_ADMISSION}/v1/{kind.lower()}s", webhook(kind, name, "osm-system"))
            for kind, name in (("MutatingWebhookConfiguration", "osm-webhook-osm"),
                               ("ValidatingWebhookConfiguration", "osm-validator-mesh-osm"))
        ),
        definitions=(
            ("meshconfigs", "MeshConfig", "config.openservicemesh.io", "Namespaced", "v1alpha2"),
            ("egresses", "Egress", "policy.openservicemesh.io", "Namespaced", "v1alpha1"),
            ("trafficsplits", "TrafficSplit", "split.smi-spec.io", "Namespaced", "v1alpha2"),
        ),
    ),
)  # fmt: skip


def control_plane(deployment: str) -> ControlPlane | None:
    """Return whose control plane a Deployment of that name is, or None."""
    return next((c for c in CONTROL_PLANES if fnmatch.fnmatch(deployment, c.deployment)), None)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """How one mesh injects. ``key``: label or annotation; the pod's own value goes over its namespace's."""

    container: str
    image: str
    native: bool
    first: tuple[str, ...]  # init containers that run once
    on_namespace: tuple[str, str, str]  # (labels or annotations, key, value); empty kind: never by namespace
    on_pod: tuple[str, str, str]
    marks: Mapping[str, str] = field(default_factory=dict)  # annotations it writes on the pod

    def wants(self, pod: Manifest, namespace: Manifest) -> bool:
        """Say whether this injector takes the pod."""
        where, key, value = self.on_pod
        own = (pod["metadata"].get(where) or {}).get(key)
        if own is not None:
            return bool(own == value)
        where, key, value = self.on_namespace
        return bool(where) and (namespace["metadata"].get(where) or {}).get(key) == value


SIDECARS: Final[Mapping[str, Sidecar]] = {
    "istio": Sidecar(
        "istio-proxy", "registry.istio.io/release/proxyv2:puppet", True, ("istio-init",),
        ("labels", "istio-injection", "enabled"), ("labels", "sidecar.istio.io/inject", "true"),
        {"sidecar.istio.io/status": '{"initContainers":["istio-init","istio-proxy"],"containers":null}'},
    ),
    "linkerd": Sidecar(
        "linkerd-proxy", "cr.l5d.io/linkerd/proxy:puppet", True, ("linkerd-init",),
        ("annotations", "linkerd.io/inject", "enabled"), ("annotations", "linkerd.io/inject", "enabled"),
        {"linkerd.io/proxy-version": "puppet"},
    ),
    "consul": Sidecar(
        "consul-dataplane", "hashicorp/consul-dataplane:puppet", False, ("consul-connect-inject-init",),
        ("", "", ""), ("annotations", "consul.hashicorp.com/connect-inject", "true"),
        {"consul.hashicorp.com/connect-inject-status": "injected"},
    ),
    "kuma": Sidecar(
        "kuma-sidecar", "docker.io/kumahq/kuma-dp:puppet", True, ("kuma-init",),
        ("labels", "kuma.io/sidecar-injection", "enabled"), ("labels", "kuma.io/sidecar-injection", "enabled"),
        {"kuma.io/sidecar-injected": "true"},
    ),
    "osm": Sidecar(
        "envoy", "envoyproxy/envoy-distroless:puppet", False, ("osm-init",),
        ("annotations", "openservicemesh.io/sidecar-injection", "enabled"),
        ("annotations", "openservicemesh.io/sidecar-injection", "enabled"),
    ),
    "nginx-service-mesh": Sidecar(
        "nginx-mesh-sidecar", "nsm/nginx-mesh-sidecar:puppet", False, ("nginx-mesh-init",),
        ("labels", "injector.nsm.nginx.com/auto-inject", "enabled"),
        ("labels", "injector.nsm.nginx.com/auto-inject", "enabled"),
        {"injector.nsm.nginx.com/status": "injected"},
    ),
}  # fmt: skip


def injected(pod: Manifest, namespace: Manifest, meshes: Sequence[str]) -> Manifest:
    """Return the pod as the injectors of ``meshes`` (those whose control planes run) would let it in."""
    for mesh in meshes:
        sidecar = SIDECARS.get(mesh)
        if sidecar and sidecar.wants(pod, namespace) and not _has(pod, sidecar.container):
            pod = _with_sidecar(pod, sidecar)
    return pod


def _has(pod: Manifest, container: str) -> bool:
    spec = pod["spec"]
    return any(c["name"] == container for c in (*spec["containers"], *(spec.get("initContainers") or ())))


def _with_sidecar(pod: Manifest, sidecar: Sidecar) -> Manifest:
    spec, metadata = dict(pod["spec"]), dict(pod["metadata"])
    proxy: Manifest = {"name": sidecar.container, "image": sidecar.image}
    first = [{"name": name, "image": sidecar.image} for name in sidecar.first]
    if sidecar.native:
        first.append({**proxy, "restartPolicy": "Always"})
    else:
        spec["containers"] = [*spec["containers"], proxy]
    spec["initContainers"] = [*first, *(spec.get("initContainers") or ())]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **sidecar.marks}
    return {**pod, "metadata": metadata, "spec": spec}


def definition(plural: str, kind: str, group: str, scope: str, version: str) -> Manifest:
    """Return a CustomResourceDefinition without a schema worth the name."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": plural, "kind": kind, "listKind": f"{kind}List", "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": names,
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }
