"""Nodes: facts for the provenance, and how far their clocks are from ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from adapters.kubernetes.api import Cluster, Kind, Manifest, Permission, WatchEvent
from adapters.kubernetes.server.quantities import moment, quantity

_NODE: Final = Kind("v1", "Node")
_LEASE: Final = Kind("coordination.k8s.io/v1", "Lease")
_LEASES_OF_NODES: Final = "kube-node-lease"
# A kubelet renews its Lease every 10 s: a quarter of nodeLeaseDurationSeconds, 40 by default.
# Source: kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1
LEASE_PERIOD_S: Final = 10.0
PERMISSIONS: Final = (Permission("", "nodes", ("get", "list")),)
CLOCK_PERMISSIONS: Final = (Permission("coordination.k8s.io", "leases", ("list", "watch")),)


@dataclass(frozen=True, slots=True)
class Node:
    """What a node says of itself. None: it does not say.

    Attributes:
        cores, memory_bytes: all it has; ``allocatable_cores`` and ``allocatable_memory_bytes``: left for pods.
    """

    name: str
    kernel: str | None
    os_image: str | None
    architecture: str | None
    kubelet: str | None
    container_runtime: str | None
    cores: float | None
    allocatable_cores: float | None
    memory_bytes: float | None
    allocatable_memory_bytes: float | None
    instance_type: str | None
    region: str | None
    zone: str | None
    boot_id: str | None

    def facts(self) -> Mapping[str, Any]:
        """Return all of it but the name, as plain JSON."""
        return {name: value for name, value in asdict(self).items() if name != "name"}


def node_of(manifest: Manifest) -> Node:
    """Return what the object says of its node. Pure."""
    status = manifest.get("status") or {}
    system, labels = status.get("nodeInfo") or {}, manifest["metadata"].get("labels") or {}
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    return Node(
        name=manifest["metadata"]["name"],
        kernel=system.get("kernelVersion"),
        os_image=system.get("osImage"),
        architecture=system.get("architecture"),
        kubelet=system.get("kubeletVersion"),
        container_runtime=system.get("containerRuntimeVersion"),
        cores=_known(capacity.get("cpu")),
        allocatable_cores=_known(allocatable.get("cpu")),
        memory_bytes=_known(capacity.get("memory")),
        allocatable_memory_bytes=_known(allocatable.get("memory")),
        instance_type=labels.get("node.kubernetes.io/instance-type"),
        region=labels.get("topology.kubernetes.io/region"),
        zone=labels.get("topology.kubernetes.io/zone"),
        boot_id=system.get("bootID"),
    )


def _known(text: str | None) -> float | None:
    return None if text is None else quantity(text)


def nodes_of(cluster: Cluster) -> Mapping[str, Node]:
    """Return every node of the cluster by name."""
    return {manifest["metadata"]["name"]: node_of(manifest) for manifest in cluster.list(_NODE)}


def clock_offsets(
    cluster: Cluster,
    nodes: Collection[str],
    timeout_s: float = 1.5 * LEASE_PERIOD_S,
    now: Callable[[], float] = time.time,
) -> Mapping[str, float]:
    """Return how many seconds each node's clock is ahead of ours; a node that renewed no Lease in time is not there.

    A kubelet writes the time into its Lease every 10 s, and we hear of it at once: the difference is the offset, less
    the way through the API server (some 10 ms). Of several, the largest difference had the shortest way.
    """
    found: dict[str, float] = {}
    for name, offset_s in _differences(cluster.watch(_LEASE, _LEASES_OF_NODES, timeout_s), now):
        if name in nodes:
            found[name] = max(offset_s, found.get(name, offset_s))
        if len(found) == len(nodes):
            break
    return found


def _differences(events: Iterator[WatchEvent], now: Callable[[], float]) -> Iterator[tuple[str, float]]:
    """Yield node and difference whenever a Lease is renewed. What stood there at first was written some time ago."""
    renewed: dict[str, str] = {}
    for event in events:
        heard_at = now()
        name, written = event.object["metadata"]["name"], (event.object.get("spec") or {}).get("renewTime")
        if event.type != "DELETED" and written:
            if event.type == "MODIFIED" and renewed.get(name, written) != written:
                yield name, moment(written) - heard_at
            renewed[name] = written
