"""Which of the provider's rights an environment cannot do without, and what is missing without the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adapters.kubernetes import kubelets, metrics_api, nodes
from adapters.kubernetes.api import Permission
from adapters.kubernetes.roles import PROVIDER_PERMISSIONS

# Kinds that are only looked at to compare the cluster before and after (inventory.py).
_COMPARED: Final = frozenset(
    {
        "persistentvolumes",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "apiservices",
        "gatewayclasses",
        "clusterroles",
        "clusterrolebindings",
        "priorityclasses",
    }
)

# Without these something is missing, which the report says; each with what.
OPTIONAL: Final[Mapping[Permission, str]] = {
    **dict.fromkeys(kubelets.PERMISSIONS, "CPU and memory come from metrics.k8s.io, coarser, where the cluster has it"),
    **dict.fromkeys(metrics_api.PERMISSIONS, "CPU and memory come from the kubelets alone"),
    **dict.fromkeys(nodes.CLOCK_PERMISSIONS, "how far the nodes' clocks are off stays unknown"),
    **dict.fromkeys(
        (permission for permission in PROVIDER_PERMISSIONS if permission.resource in _COMPARED),
        "these are left out when the cluster is compared with what it was before",
    ),
}

# Without one of these nothing can be measured: environments are refused.
REQUIRED: Final = tuple(permission for permission in PROVIDER_PERMISSIONS if permission not in OPTIONAL)
