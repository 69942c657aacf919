"""A puppet's control planes: they leave their traces, hand out CA bundles and answer for gateways."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any, Final

from plain_client import APPLY, JSON_PATCH, PlainClient
from puppet_cache import PATHS, View, path_of
from puppet_meshes import CA_BUNDLE, CONTROL_PLANES, GATEWAY_API, ControlPlane, control_plane, definition
from puppet_pods import condition
from puppet_webhooks import Admission
from puppet_workloads import differs

Manifest = dict[str, Any]
WEBHOOKS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
_GATEWAYS: Final = ("gatewayclasses", "gateways", "httproutes")
_ROUTES: Final = ((GATEWAY_API, "httproutes"), ("policy.linkerd.io", "httproutes"))
_CLASSES: Final = f"gatewayclasses.{GATEWAY_API}"


class ControlPlanes:
    """Acts for every control plane whose Deployment is available."""

    def __init__(self, client: PlainClient, view: View, admission: Admission | None) -> None:
        self._admission = admission
        self._client = client
        self._view = view

    def running(self) -> list[tuple[ControlPlane, str]]:
        """Return the control planes that run, with their namespaces."""
        return [
            (found, deployment["metadata"]["namespace"])
            for deployment in self._view.live("deployments")
            if (found := control_plane(deployment["metadata"]["name"])) and _is_available(deployment)
        ]

    def act(self) -> None:
        """Do what is due."""
        self._follow_kinds()
        running = self.running()
        for found, namespace in running:
            self._mind_webhooks(found, namespace)  # first: they may be asked about the traces
            self._leave_traces(found, namespace)
            if found.finalizer:
                self._finalize(*found.finalizer)
        self._answer_gateways(running)

    def _follow_kinds(self) -> None:
        groups = {c.finalizer[0] for c in CONTROL_PLANES if c.finalizer}
        for crd in self._view.live("customresourcedefinitions"):
            spec = crd["spec"]
            group, plural = spec["group"], spec["names"]["plural"]
            if group in groups or (group == GATEWAY_API and plural in _GATEWAYS) or (group, plural) in _ROUTES:
                version = next(v["name"] for v in spec["versions"] if v.get("storage"))
                self._view.follow(f"{plural}.{group}", f"/apis/{group}/{version}/{plural}")

    def _leave_traces(self, found: ControlPlane, namespace: str) -> None:
        for collection, api_version, kind, name in found.here:
            with contextlib.suppress(RuntimeError):  # its kind may not be served yet
                self._make(collection, {"apiVersion": api_version, "kind": kind}, name, namespace)
        for name, labels in found.everywhere.items():
            for where in self._view.live("namespaces"):
                body = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"root-cert.pem": "puppet"}}
                self._make("/api/v1/configmaps", body, name, where["metadata"]["name"], labels)
        for collection, manifest in found.cluster:
            with contextlib.suppress(RuntimeError):  # its kind may not be served yet
                self._make(collection, manifest, manifest["metadata"]["name"], "")
        for made in found.definitions:
            crd = definition(*made)
            self._make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd, crd["metadata"]["name"], "")

        if found.services:
            self._mirror_services(*found.services)

    def _mirror_services(self, collection: str, api_version: str, kind: str, key: str) -> None:
        labels = {m["metadata"]["name"]: m["metadata"].get("labels") or {} for m in self._view.live("namespaces")}
        enrolled = {name for name, held in labels.items() if held.get(key) == "enabled"}
        for service in self._view.live("services"):
            metadata = service["metadata"]
            if metadata["namespace"] in enrolled:
                reference = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"]}
                body = {"apiVersion": api_version, "kind": kind, "spec": {}}
                owned = {"name": metadata["name"], "namespace": metadata["namespace"], "ownerReferences": [reference]}
                self._make(collection, {**body, "metadata": owned}, metadata["name"], metadata["namespace"])

    def _make(
        self, collection: str, body: Manifest, name: str, namespace: str, labels: Mapping[str, str] | None = None
    ) -> None:
        metadata: Manifest = {"name": name, **({"namespace": namespace} if namespace else {})}
        manifest = {**body, "metadata": {**body.get("metadata", {}), **metadata, "labels": dict(labels or {})}}
        root, _, plural = collection.rpartition("/")
        key = plural if PATHS.get(plural) == collection else collection
        self._view.follow(key, collection)
        if not self._view.has(key, namespace, name):
            self._client.post(f"{root}/namespaces/{namespace}/{plural}" if namespace else collection, manifest)

    def _mind_webhooks(self, found: ControlPlane, namespace: str) -> None:
        """Give webhooks of this namespace their CA bundles, and turn those to Fail that start lenient."""
        for plural in WEBHOOKS:
            for manifest in self._view.live(plural):
                if self._admission and (changed := self._admission.redirected(manifest, namespace)):
                    self._take_over(path_of(self._view.path(plural), manifest), changed)
                    continue
                patch = [*_bundles(manifest, namespace), *_strictness(manifest, found)]
                if patch:
                    path = path_of(self._view.path(plural), manifest)
                    self._client.patch(path, patch, JSON_PATCH, fieldManager=f"{found.name}-control-plane")

    def _take_over(self, path: str, manifest: Manifest) -> None:
        """Write a configuration in the name of whoever applied it, so that their next apply is no conflict."""
        metadata = manifest["metadata"]
        appliers = [e["manager"] for e in metadata.get("managedFields") or () if e["operation"] == "Apply"]
        kept = {k: metadata[k] for k in ("name", "labels", "annotations") if k in metadata}
        body = {**manifest, "metadata": kept}
        self._client.patch(path, body, APPLY, fieldManager=appliers[0] if appliers else "puppet", force="true")

    def _finalize(self, group: str, finalizer: str) -> None:
        """Hold every object of the group by a finalizer, and let go what is being deleted."""
        for crd in self._view.of("customresourcedefinitions"):
            plural = f"{crd['spec']['names']['plural']}.{group}"
            if crd["spec"]["group"] != group:
                continue
            for manifest in self._view.of(plural):
                held = manifest["metadata"].get("finalizers") or []
                is_going = "deletionTimestamp" in manifest["metadata"]
                if is_going is (finalizer in held):
                    wanted = [f for f in held if f != finalizer] if is_going else [*held, finalizer]
                    body = {"metadata": {"finalizers": wanted}}
                    self._client.patch(path_of(self._view.path(plural), manifest), body)
                if not is_going:
                    self._answer(plural, manifest, {"conditions": [condition("Synced", True)]})

    def _answer_gateways(self, running: list[tuple[ControlPlane, str]]) -> None:
        for group, plural in _ROUTES:
            for manifest in self._view.live(f"{plural}.{group}") if running else ():
                self._answer(f"{plural}.{group}", manifest, {"parents": _parents(manifest)})
        if _CLASSES not in {m["metadata"]["name"] for m in self._view.live("customresourcedefinitions")}:
            return
        present = {m["metadata"]["name"] for m in self._view.of(_CLASSES)}
        for found, _ in running:
            for name, controller in found.gateway_classes.items():
                if name not in present:
                    spec = {"controllerName": controller}
                    body = {"apiVersion": f"{GATEWAY_API}/v1", "kind": "GatewayClass", "spec": spec}
                    self._client.post(f"/apis/{GATEWAY_API}/v1/gatewayclasses", {**body, "metadata": {"name": name}})
        for plural, conditions in (("gatewayclasses", ("Accepted",)), ("gateways", ("Accepted", "Programmed"))):
            for manifest in self._view.live(f"{plural}.{GATEWAY_API}") if running else ():
                self._answer(
                    f"{plural}.{GATEWAY_API}", manifest, {"conditions": [condition(kind, True) for kind in conditions]}
                )
        waypoints = {found.waypoints for found, _ in running if found.waypoints}
        for gateway in self._view.live(f"gateways.{GATEWAY_API}"):
            if gateway["spec"]["gatewayClassName"] in waypoints:
                for path, manifest in waypoint(gateway):
                    self._client.post(path, manifest)

    def _answer(self, plural: str, manifest: Manifest, status: Manifest) -> None:
        if differs(manifest.get("status") or {}, status):
            self._client.patch(path_of(self._view.path(plural), manifest, "status"), {"status": status})


def _is_available(deployment: Manifest) -> bool:
    status = deployment.get("status") or {}
    return bool(status.get("availableReplicas"))


def _bundles(manifest: Manifest, namespace: str) -> Iterator[Manifest]:
    for number, webhook in enumerate(manifest.get("webhooks") or ()):
        client = webhook["clientConfig"]
        if (client.get("service") or {}).get("namespace") == namespace and not client.get("caBundle"):
            yield {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": CA_BUNDLE}


def _strictness(manifest: Manifest, found: ControlPlane) -> Iterator[Manifest]:
    if any(fnmatch.fnmatch(manifest["metadata"]["name"], pattern) for pattern in found.strict):
        for number, webhook in enumerate(manifest.get("webhooks") or ()):
            if webhook.get("failurePolicy") == "Ignore":
                yield {"op": "replace", "path": f"/webhooks/{number}/failurePolicy", "value": "Fail"}


def _parents(route: Manifest) -> list[Manifest]:
    accepted = [{**condition(kind, True), "observedGeneration": 1} for kind in ("Accepted", "ResolvedRefs")]
    return [
        {"parentRef": parent, "controllerName": "example.com/puppet", "conditions": accepted}
        for parent in route["spec"].get("parentRefs") or ()
    ]


def waypoint(gateway: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Yield the path and manifest of what istiod makes of a waypoint Gateway."""
    metadata = gateway["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    labels = {"gateway.networking.k8s.io/gateway-name": name, "istio.io/gateway-name": name}
    owner = {"apiVersion": gateway["apiVersion"], "kind": "Gateway", "name": name, "uid": metadata["uid"]}
    common = {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    selector = {"gateway.networking.k8s.io/gateway-name": name}
    container = {"name": "istio-proxy", "image": "registry.istio.io/release/proxyv2:puppet"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    yield (
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": common,
         "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": template}},
    )  # fmt: skip
    ports = [{"name": "mesh", "port": 15008, "protocol": "TCP"}]
    yield (
        f"/api/v1/namespaces/{namespace}/services",
        {"apiVersion": "v1", "kind": "Service", "metadata": common, "spec": {"selector": selector, "ports": ports}},
    )
