"""What is in a cluster, read without any of the product's code: the judge of "leaves nothing"."""

from __future__ import annotations

from typing import Final

from plain_client import Manifest, PlainClient

# Of namespaced kinds those a control plane or a chart leaves behind in other people's namespaces.
_NAMESPACED: Final = frozenset(
    {"configmaps", "secrets", "services", "serviceaccounts", "deployments", "daemonsets", "statefulsets", "jobs",
     "roles", "rolebindings", "persistentvolumeclaims", "networkpolicies", "poddisruptionbudgets",
     "horizontalpodautoscalers"}
)  # fmt: skip
# The cluster makes and drops these by itself: they say nothing of what anybody left.
_PASSING: Final = frozenset(
    {"nodes", "componentstatuses", "csinodes", "ipaddresses", "servicecidrs", "certificatesigningrequests",
     "flowschemas", "prioritylevelconfigurations", "volumeattachments", "resourceslices", "storageversions"}
)  # fmt: skip


def everything(client: PlainClient) -> dict[str, str]:
    """Return uid by name of all cluster-scoped objects, and of the namespaced ones meshes are known to leave."""
    found: dict[str, str] = {}
    for path, resource in _resources(client):
        for manifest in client.items(f"{path}/{resource['name']}"):
            metadata = manifest["metadata"]
            if (metadata.get("labels") or {}).get("kube-aggregator.kubernetes.io/automanaged"):
                continue
            where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
            found[f"{resource['name']} {where}{metadata['name']}"] = metadata.get("uid", "")
    return found


def _resources(client: PlainClient) -> list[tuple[str, Manifest]]:
    """Return every kind to look at with the path of its preferred version."""
    groups = client.get("/apis")
    assert groups is not None
    paths = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups["groups"])]
    return [
        (path, resource)
        for path in paths
        for resource in (client.get(path) or {"resources": ()})["resources"]
        if "list" in resource["verbs"] and _is_looked_at(resource)
    ]


def _is_looked_at(resource: Manifest) -> bool:
    name = resource["name"]
    return name in _NAMESPACED if resource["namespaced"] else name not in _PASSING
