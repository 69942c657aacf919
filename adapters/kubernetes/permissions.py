"""Rights the provider itself takes in a cluster, whatever mesh is in it; a mesh adds its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.kubernetes import kubelets, metrics_api, nodes
from adapters.kubernetes.api import Permission
from adapters.kubernetes.rights import manage

_LOOK: Final = ("get", "list", "watch")

# Without one of these nothing can be measured: environments are refused.
PROVIDER: Final[tuple[Permission, ...]] = (
    *manage("", "namespaces", "configmaps", "services", "pods", "serviceaccounts"),
    *manage("", "secrets"),  # Helm keeps its releases in them
    *manage("apps", "deployments"),
    *manage("batch", "jobs"),
    Permission("", "events", ("get", "list")),
    Permission("", "pods/log", ("get",)),
    Permission("", "pods/proxy", ("get",)),  # the proxies' own counters
    Permission("", "nodes", _LOOK),
    Permission("", "persistentvolumeclaims", _LOOK),
    Permission("storage.k8s.io", "storageclasses", _LOOK),
    Permission("apiextensions.k8s.io", "customresourcedefinitions", _LOOK),
)

# Without these something is missing, which the report says; each with what.
OPTIONAL: Final[Mapping[Permission, str]] = {
    **dict.fromkeys(kubelets.PERMISSIONS, "CPU and memory come from metrics.k8s.io, coarser, where the cluster has it"),
    **dict.fromkeys(metrics_api.PERMISSIONS, "CPU and memory come from the kubelets alone"),
    **dict.fromkeys(nodes.CLOCK_PERMISSIONS, "how far the nodes' clocks are off stays unknown"),
    Permission("*", "*", ("list",)): "kinds that may not be listed are left out of the comparison at the end",
}
