"""Objects stand-in charts are made of. ``{{ .Release.Namespace }}`` is left for Helm to fill in."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Manifest = dict[str, Any]
NAMESPACE: Final = "{{ .Release.Namespace }}"
_BUNDLE: Final = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nstand-in\n-----END CERTIFICATE-----\n").decode()


@dataclass(frozen=True, slots=True)
class Crd:
    """One kind. The first version is the stored one."""

    group: str
    kind: str
    versions: tuple[str, ...]
    scope: Literal["Namespaced", "Cluster"] = "Namespaced"
    status: bool = False

    @property
    def plural(self) -> str:
        """As the real ones are called."""
        lower = self.kind.lower()
        if lower.endswith(("defaults", "intentions")):
            return lower
        if lower.endswith("y") and lower[-2] not in "aeiou":
            return f"{lower[:-1]}ies"
        return f"{lower}es" if lower.endswith(("s", "h", "x")) else f"{lower}s"


def crd(one: Crd, annotations: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None) -> Manifest:
    """Return a CustomResourceDefinition that takes everything."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": one.plural, "singular": one.kind.lower(), "kind": one.kind, "listKind": f"{one.kind}List"}
    below: Manifest = {"subresources": {"status": {}}} if one.status else {}
    versions = [
        {"name": name, "served": True, "storage": number == 0, "schema": schema, **below}
        for number, name in enumerate(one.versions)
    ]
    metadata: Manifest = {"name": f"{one.plural}.{one.group}"}
    if annotations:
        metadata["annotations"] = dict(annotations)
    if labels:
        metadata["labels"] = dict(labels)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {"group": one.group, "scope": one.scope, "names": names, "versions": versions},
    }


def _account(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}


def _service(name: str, labels: Mapping[str, str]) -> Manifest:
    ports = [{"name": "https", "port": 443, "targetPort": 8443}]
    metadata = {"name": name, "namespace": NAMESPACE, "labels": dict(labels)}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": dict(labels), "ports": ports},
    }


def _workload(kind: str, name: str, labels: Mapping[str, str], containers: Sequence[str]) -> Manifest:
    image = "example.invalid/stand-in/{}:{{{{ .Chart.AppVersion }}}}"
    spec = {"serviceAccountName": name, "containers": [{"name": c, "image": image.format(c)} for c in containers]}
    template = {"metadata": {"labels": dict(labels)}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(labels)},
        "spec": {"selector": {"matchLabels": dict(labels)}, "template": template},
    }


def deployment(name: str, labels: Mapping[str, str], containers: Sequence[str]) -> list[Manifest]:
    """Return a Deployment of one, its Service and its account."""
    one = _workload("Deployment", name, labels, containers)
    one["spec"]["replicas"] = 1
    return [_account(name), _service(name, labels), one]


def daemon_set(name: str, labels: Mapping[str, str], containers: Sequence[str]) -> list[Manifest]:
    """Return a DaemonSet and its account."""
    return [_account(name), _workload("DaemonSet", name, labels, containers)]


def stateful_set(name: str, labels: Mapping[str, str], containers: Sequence[str], claim: str = "") -> list[Manifest]:
    """Return a StatefulSet of one with its Service and account. ``claim``: the name of its volume claim, if any."""
    one = _workload("StatefulSet", name, labels, containers)
    one["spec"] |= {"replicas": 1, "serviceName": name}
    if claim:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
        one["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": claim, "labels": dict(labels)}, "spec": spec}]
    return [_account(name), _service(name, labels), one]


def role(name: str, account: str) -> list[Manifest]:
    """Return a ClusterRole and who holds it."""
    api = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    rules = [{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "watch"]}]
    held = {"apiGroup": api, "kind": "ClusterRole", "name": name}
    binding = {"apiVersion": f"{api}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}}
    return [
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {**binding, "roleRef": held, "subjects": [subject]},
    ]


def webhooks(
    sort: Literal["Mutating", "Validating"],
    name: str,
    service: str,
    groups: Sequence[str],
    failure_policy: str,
    *,
    only: Mapping[str, str] | None = None,
    bundled: bool = False,
) -> Manifest:
    """Return a webhook configuration with one webhook.

    Args:
        groups: whose objects it sees; of the core group pods alone.
        only: labels of the namespaces it sees.
        bundled: whether the chart brings the CA bundle.
    """
    client: Manifest = {"service": {"name": service, "namespace": NAMESPACE, "path": "/admit"}}
    rule = {"apiVersions": ["*"], "operations": ["CREATE", "UPDATE"]}
    webhook: Manifest = {
        "name": f"{name.replace('.', '-')}.stand-in.example",
        "clientConfig": {**client, "caBundle": _BUNDLE} if bundled else client,
        "rules": [{**rule, "apiGroups": [g], "resources": ["*" if g else "pods"]} for g in groups],
        "failurePolicy": failure_policy,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    if only:
        webhook["namespaceSelector"] = {"matchLabels": dict(only)}
    kind = f"{sort}WebhookConfiguration"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


def hook_job(name: str, hook: str) -> Manifest:
    """Return a Job Helm runs at ``hook`` and removes when it has succeeded."""
    notes = {"helm.sh/hook": hook, "helm.sh/hook-delete-policy": "hook-succeeded,before-hook-creation"}
    container = {"name": name, "image": f"example.invalid/stand-in/{name}:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": name, "namespace": NAMESPACE, "annotations": notes}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 0, "template": template},
    }
