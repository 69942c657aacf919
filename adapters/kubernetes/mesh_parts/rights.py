"""Rights that installing a chart takes: whoever creates an object needs them, and removes it with them."""

from __future__ import annotations

from typing import Final

from adapters.kubernetes.api import Permission

# Helm applies (create, patch; before Helm 4 also update), waits (get, list, watch) and deletes what it made.
MANAGE: Final = ("create", "delete", "get", "list", "patch", "update", "watch")

# A Role may only be written by who holds all its rights, and bound by who holds them, unless these are granted.
# Source: Kubernetes documentation, "Using RBAC Authorization", privilege escalation prevention.
_BEYOND_ONES_OWN: Final = ("bind", "escalate")

RBAC_GROUP: Final = "rbac.authorization.k8s.io"


def manage(group: str, *resources: str) -> tuple[Permission, ...]:
    """Return the rights to create, change, watch and delete ``resources`` (plurals) of ``group``."""
    return tuple(Permission(group, resource, MANAGE) for resource in resources)


def manage_roles() -> tuple[Permission, ...]:
    """Return the rights to hand a mesh's own pods the roles its chart has, whatever these hold."""
    roles = (Permission(RBAC_GROUP, kind, (*MANAGE, *_BEYOND_ONES_OWN)) for kind in ("clusterroles", "roles"))
    return (*roles, *manage(RBAC_GROUP, "clusterrolebindings", "rolebindings"))


def bring_gateway_api() -> tuple[Permission, ...]:
    """Return the rights to bring the Gateway API into a cluster that has none: kinds, and the policy beside them."""
    return (
        *manage("apiextensions.k8s.io", "customresourcedefinitions"),
        *manage("admissionregistration.k8s.io", "validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    )
