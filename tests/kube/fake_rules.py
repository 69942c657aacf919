"""What the API server does to objects of built-in kinds on their way in: defaults, checks, generated names."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from fake_answers import RefusalError, invalid
from fake_kinds import Manifest, Resource

_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_MOST_BYTES: Final = 1 << 20  # k8s.io/api/core/v1 MaxSecretSize
_ONE_LABEL: Final = frozenset({"Namespace", "Service"})  # their names become DNS labels
_FREE_NAMES: Final = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
_STATUS_FIRST: Final[Mapping[str, Manifest]] = {
    "Namespace": {"phase": "Active"},
    "Pod": {"phase": "Pending", "qosClass": "BestEffort"},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "Service": {"loadBalancer": {}},
}
_IMMUTABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "Deployment": ("selector",),
    "DaemonSet": ("selector",),
    "ReplicaSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "volumeClaimTemplates"),
    "Job": ("selector", "template", "completionMode"),
}


def check_name(resource: Resource, name: str) -> None:
    """Refuse what is no name."""
    pattern, longest = (_LABEL, 63) if resource.kind in _ONE_LABEL else (_SUBDOMAIN, 253)
    if resource.kind in _FREE_NAMES:
        if "/" in name or "%" in name or not name:
            raise invalid(resource, name, "metadata.name", f'Invalid value: "{name}": may not contain "/" or "%"')
    elif not pattern.fullmatch(name) or len(name) > longest:
        why = f'Invalid value: "{name}": a lowercase RFC 1123 name of at most {longest} characters is required'
        raise invalid(resource, name, "metadata.name", why)


def check_labels(resource: Resource, manifest: Manifest) -> None:
    """Refuse label keys and values the API server refuses; a classic mistake of generated names."""
    metadata = manifest["metadata"]
    template = (manifest.get("spec") or {}).get("template") or {}
    places = (
        ("metadata.labels", metadata.get("labels")),
        ("spec.template.labels", (template.get("metadata") or {}).get("labels") if not resource.custom else None),
    )
    for path, labels in places:
        for key, value in (labels or {}).items():
            if not isinstance(value, str) or len(value) > 63 or not _VALUE.fullmatch(value):
                why = f'Invalid value: "{value}": a valid label has at most 63 characters, A-Z a-z 0-9 . _ -'
                raise invalid(resource, metadata["name"], path, why)
            _check_key(resource, metadata["name"], path, key)
    for key, value in (metadata.get("annotations") or {}).items():
        _check_key(resource, metadata["name"], "metadata.annotations", key)
        if not isinstance(value, str):
            raise RefusalError(
                400, f"{resource.kind} in version {resource.version!r} cannot be handled: annotation {key}"
            )


def _check_key(resource: Resource, name: str, path: str, key: str) -> None:
    prefix, slash, last = key.rpartition("/")
    ok = _VALUE.fullmatch(last) and 0 < len(last) <= 63 and (not slash or _SUBDOMAIN.fullmatch(prefix.lower()))
    if not ok:
        raise invalid(resource, name, path, f'Invalid value: "{key}": name part must be at most 63 characters')


def check_size(resource: Resource, manifest: Manifest) -> None:
    """Refuse Secrets and ConfigMaps that are too long: Helm's releases are the ones that get there."""
    if resource.stored_as not in (("", "secrets"), ("", "configmaps")):
        return
    values = [*(manifest.get("data") or {}).values(), *(manifest.get("binaryData") or {}).values()]
    is_coded = resource.kind == "Secret"  # counted without its base64
    if sum(len(base64.b64decode(v)) if is_coded else len(v) for v in values) > _MOST_BYTES:
        why = f"Too long: may not be more than {_MOST_BYTES} bytes"
        raise invalid(resource, manifest["metadata"]["name"], "data", why)


def check_unchanged(resource: Resource, old: Manifest, new: Manifest) -> None:
    """Refuse a change of what cannot change."""
    if resource.custom:
        return
    name = old["metadata"]["name"]
    for field in _IMMUTABLE.get(resource.kind, ()):
        if (old.get("spec") or {}).get(field) != (new.get("spec") or {}).get(field):
            raise invalid(resource, name, f"spec.{field}", "Invalid value: field is immutable")
    if old.get("immutable") and old.get("data") != new.get("data"):
        raise invalid(resource, name, "data", "Forbidden: field is immutable when `immutable` is set")


def with_defaults(resource: Resource, manifest: Manifest) -> None:
    """Fill in, in place, what the API server fills in when an object is created or replaced."""
    if resource.custom:
        return
    kind, metadata = resource.kind, manifest["metadata"]
    if kind == "Secret":
        for key, value in (manifest.pop("stringData", None) or {}).items():
            manifest.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
        manifest.setdefault("type", "Opaque")
    elif kind == "Namespace":
        metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    elif kind in ("Deployment", "StatefulSet", "ReplicaSet"):
        manifest["spec"].setdefault("replicas", 1)
    elif kind == "Service":
        for port in manifest.get("spec", {}).get("ports") or ():
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
    template = manifest if kind == "Pod" else (manifest.get("spec") or {}).get("template")
    if template and isinstance(template.get("spec"), dict):
        _pod_defaults(template["spec"])


def _pod_defaults(spec: Manifest) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("securityContext", {})
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        container.setdefault("resources", {})
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")


def newborn(resource: Resource, manifest: Manifest, number: int) -> None:
    """Fill in, in place, what only creation fills in: first status, cluster address, a Job's selector."""
    kind = resource.kind
    if resource.custom:
        return
    if kind in _STATUS_FIRST:
        manifest["status"] = dict(_STATUS_FIRST[kind])
    elif resource.subresources.get("status"):
        manifest["status"] = {}
    if kind == "Namespace":
        manifest.setdefault("spec", {})["finalizers"] = ["kubernetes"]
    elif kind == "Service" and manifest["spec"].get("type", "ClusterIP") != "ExternalName":
        manifest["spec"].setdefault("type", "ClusterIP")
        # On loopback, so that a test may serve what the Service stands for.
        manifest["spec"].setdefault("clusterIP", f"127.96.{number // 250 % 250}.{number % 250 + 1}")
    elif kind == "Job":
        _select_own_pods(manifest)
    elif kind == "CustomResourceDefinition":
        manifest["metadata"]["finalizers"] = ["customresourcecleanup.apiextensions.k8s.io"]
        manifest["status"] = _definition_status(manifest)


def _select_own_pods(job: Manifest) -> None:
    spec, uid = job["spec"], job["metadata"].setdefault("uid", str(uuid.uuid4()))
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    if not spec.get("manualSelector"):
        labels |= {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        labels |= {"controller-uid": uid, "job-name": job["metadata"]["name"]}
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    spec.setdefault("completions", 1)
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)


def _definition_status(crd: Manifest) -> Manifest:
    names = crd["spec"]["names"]
    return {
        "acceptedNames": names,
        "storedVersions": [v["name"] for v in crd["spec"]["versions"] if v.get("storage")],
        "conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found"},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "accepted"},
        ],
    }


def checked_kind(resource: Resource, manifest: Any, namespace: str) -> Manifest:
    """Return the body if it is an object of this resource in this namespace."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("metadata", {}), dict):
        raise RefusalError(400, "the object provided is unrecognized (must be of type Object)")
    manifest.setdefault("metadata", {})
    if (manifest.get("apiVersion"), manifest.get("kind")) != (resource.api_version, resource.kind):
        stated = f"{manifest.get('apiVersion')}, Kind={manifest.get('kind')}"
        raise RefusalError(
            400, f"the object provided ({stated}) does not match {resource.api_version}, Kind={resource.kind}"
        )
    stated_namespace = manifest["metadata"].get("namespace") or ""
    if resource.namespaced and stated_namespace not in ("", namespace):
        raise RefusalError(400, "the namespace of the provided object does not match the namespace sent on the request")
    if resource.namespaced:
        manifest["metadata"]["namespace"] = namespace
    elif stated_namespace:
        manifest["metadata"].pop("namespace")
    return manifest
