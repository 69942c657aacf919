"""Rights the provider itself takes in a cluster, whatever mesh is in it; a mesh adds its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.kubernetes.api import Permission
from adapters.kubernetes.counting import kubelets, metrics_api, nodes
from adapters.kubernetes.mesh_parts.rights import RBAC_GROUP, manage

_READ: Final = ("get", "list")
_LOOK: Final = (*_READ, "watch")

# Without one of these nothing can be measured: environments are refused.
PROVIDER: Final[tuple[Permission, ...]] = (
    *manage("", "namespaces", "configmaps", "services", "pods", "serviceaccounts"),
    *manage("", "secrets"),  # Helm keeps its releases in them
    *manage("apps", "deployments"),
    *manage("batch", "jobs"),
    Permission("apps", "daemonsets", _LOOK),
    Permission("apps", "statefulsets", _LOOK),
    Permission("", "events", _READ),
    Permission("", "pods/log", ("get",)),
    Permission("", "pods/proxy", ("get",)),  # the proxies' own counters
    Permission("", "nodes", _READ),
    Permission("", "persistentvolumeclaims", _READ),
    Permission("storage.k8s.io", "storageclasses", _READ),
    Permission("apiextensions.k8s.io", "customresourcedefinitions", _LOOK),
)

# Cluster-scoped kinds meshes are made of, looked at to compare the cluster before and after (inventory.py).
_COMPARED: Final = (
    Permission("", "persistentvolumes", _READ),
    Permission("admissionregistration.k8s.io", "mutatingwebhookconfigurations", _READ),
    Permission("admissionregistration.k8s.io", "validatingwebhookconfigurations", _READ),
    Permission("apiregistration.k8s.io", "apiservices", _READ),
    Permission("gateway.networking.k8s.io", "gatewayclasses", _READ),
    Permission("scheduling.k8s.io", "priorityclasses", _READ),
    Permission(RBAC_GROUP, "clusterroles", _READ),
    Permission(RBAC_GROUP, "clusterrolebindings", _READ),
)

# Without these something is missing, which the report says; each with what.
OPTIONAL: Final[Mapping[Permission, str]] = {
    **dict.fromkeys(kubelets.PERMISSIONS, "CPU and memory come from metrics.k8s.io, coarser, where the cluster has it"),
    **dict.fromkeys(metrics_api.PERMISSIONS, "CPU and memory come from the kubelets alone"),
    **dict.fromkeys(nodes.CLOCK_PERMISSIONS, "how far the nodes' clocks are off stays unknown"),
    **dict.fromkeys(_COMPARED, "they are left out when the cluster is compared with what it was before"),
}
