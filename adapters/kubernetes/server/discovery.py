"""Reads what an API server says it serves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.kubernetes.api import Kind, ServedKind

# All groups in one reply; API servers before 1.26 give the plain list of groups.
# Source: kubernetes.io/docs/concepts/overview/kubernetes-api, "Aggregated discovery".
ACCEPT = ",".join(
    [
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json",
    ]
)


def is_aggregated(document: Mapping[str, Any]) -> bool:
    """Return whether the reply tells kinds, not only groups."""
    return document.get("kind") == "APIGroupDiscoveryList"


def may_be_aggregated(api_version: str) -> bool:
    """Return whether another server than the API server itself may serve this group.

    Its own groups have no dot or end in ``k8s.io``, a suffix kept for the Kubernetes project, whose only servers
    beside it are those of metrics. Source: kubernetes.io/docs/reference/using-api, "API groups"; k8s.io/metrics.
    """
    group, _, _ = api_version.rpartition("/")
    return "." in group and (not group.endswith(".k8s.io") or group.endswith("metrics.k8s.io"))


def aggregated(document: Mapping[str, Any]) -> list[list[ServedKind]]:
    """Return the kinds of each group and version, preferred versions first within their group."""
    found = []
    for group in document.get("items", ()):
        name = group.get("metadata", {}).get("name", "")
        for version in group.get("versions", ()):
            api_version = f"{name}/{version['version']}" if name else version["version"]
            resources = version.get("resources", ())
            found.append([_served(api_version, resource) for resource in resources if resource.get("responseKind", {})])
    return found


def _served(api_version: str, resource: Mapping[str, Any]) -> ServedKind:
    kind = Kind(api_version, resource["responseKind"]["kind"])
    return ServedKind(kind, resource["resource"], resource["scope"] == "Namespaced", frozenset(resource["verbs"]))


def group_versions(document: Mapping[str, Any]) -> list[str]:
    """Return every group and version of a plain list of groups, preferred versions first within their group."""
    found = []
    for group in document.get("groups", ()):
        preferred = group.get("preferredVersion", {}).get("groupVersion")
        versions = [version["groupVersion"] for version in group.get("versions", ())]
        found += sorted(versions, key=lambda version: version != preferred)
    return found


def plain(document: Mapping[str, Any]) -> list[ServedKind]:
    """Return the kinds of one group and version; subresources aside."""
    return [
        ServedKind(
            Kind(document["groupVersion"], resource["kind"]),
            resource["name"],
            resource["namespaced"],
            frozenset(resource.get("verbs", ())),
        )
        for resource in document.get("resources", ())
        if "/" not in resource["name"]
    ]


def preferred(versions: Sequence[Sequence[ServedKind]]) -> Iterator[ServedKind]:
    """Yield every kind that can be listed once, in the first version of its group that has it."""
    seen: set[tuple[str, str]] = set()
    for version in versions:
        for served in version:
            name = (served.kind.group, served.kind.name)
            if "list" in served.verbs and name not in seen:
                seen.add(name)
                yield served
