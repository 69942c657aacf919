"""Whether the nodes a plan selects have room for what it wants on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from adapters.kubernetes.api import Cluster, Kind, Manifest
from adapters.kubernetes.mesh import Containers
from adapters.kubernetes.server.quantities import quantity

_NODE: Final = Kind("v1", "Node")
_POD: Final = Kind("v1", "Pod")
_RUNNING: Final = "status.phase!=Succeeded,status.phase!=Failed"
_REPELLING: Final = frozenset({"NoSchedule", "NoExecute"})  # taints our pods do not tolerate
_FREE_NODES: Final = "free nodes, or add some"


@dataclass(frozen=True, slots=True)
class Wish:
    """Pods that want room.

    Attributes:
        what: for messages, in the plural.
        count: None: one on every node they may run on.
        cores, memory_bytes: request of each; None: none.
        selector: labels of the nodes they may run on.
        advice: what to do where there is no room, the end of a sentence.
    """

    what: str
    count: int | None
    cores: float | None
    memory_bytes: float | None
    selector: Mapping[str, str]
    advice: str = "make them smaller, or free nodes"

    def with_more(self, requests: Mapping[str, str], words: str) -> Wish:
        """Return the same pods with another container in each; the same wish where that asks for nothing."""
        cores, memory = _amounts(requests)
        if not requests:
            return self
        grown = (self.cores or 0.0) + cores, (self.memory_bytes or 0.0) + memory
        return replace(self, what=f"{self.what} {words}", cores=grown[0], memory_bytes=grown[1])


@dataclass(frozen=True, slots=True)
class Room:
    """A node pods of ours may be put on, and what is free on it: allocatable less the requests of running pods."""

    node: str
    labels: Mapping[str, str]
    cores: float
    memory_bytes: float
    pods: int

    def takes(self, wish: Wish) -> int:
        """Return how many of these pods fit, by themselves."""
        limits = [float(self.pods)]
        if wish.cores:
            limits.append(self.cores / wish.cores + 1e-9)  # 3 x 0.1 has to fit into 0.3
        if wish.memory_bytes:
            limits.append(self.memory_bytes / wish.memory_bytes + 1e-9)
        return max(0, int(min(limits)))

    def less(self, wish: Wish, count: int) -> Room:
        """Return what is left once ``count`` of these pods are there."""
        cores = self.cores - count * (wish.cores or 0.0)
        memory = self.memory_bytes - count * (wish.memory_bytes or 0.0)
        return Room(self.node, self.labels, cores, memory, self.pods - count)


def rooms(cluster: Cluster) -> list[Room]:
    """Return every node that takes pods of ours, with what is free on it."""
    nodes = [node for node in cluster.list(_NODE) if _is_open(node)]
    taken: dict[str, list[Manifest]] = {}
    for pod in cluster.list(_POD, fields=_RUNNING):
        taken.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    return [_room(node, taken.get(node["metadata"]["name"], [])) for node in nodes]


def of_mesh(groups: Iterable[Containers]) -> list[Wish]:
    """Return the pods a mesh makes itself. Pure."""
    found = []
    for group in groups:
        if group.copies != 0 and group.requests:
            cores, memory = _amounts(group.requests)
            what = f"pods of the mesh ({group.labels})"
            found.append(Wish(what, group.copies, cores, memory, {}, _FREE_NODES))
    return found


def shortages(wishes: Sequence[Wish], free: Iterable[Room]) -> list[str]:
    """Return a sentence for each wish there is no room for, taking them in turn. Pure."""
    sentences = []
    left = {room.node: room for room in free}
    if not left and wishes:  # once is enough
        return [f"no node takes pods: {wishes[0].what} have nowhere to run"]
    for wish in wishes:
        selected = [room for room in left.values() if wish.selector.items() <= room.labels.items()]
        labels = ",".join(f"{name}={value}" for name, value in sorted(wish.selector.items()))
        where = f" with labels {labels}" if labels else ""
        if not selected:
            sentences.append(f"no node{where} takes pods: {wish.what} have nowhere to run")
            continue
        if wish.count is None:
            full = [room.node for room in selected if not room.takes(wish)]
            left |= {room.node: room.less(wish, 1) for room in selected}
            if full:
                sentences.append(f"{wish.what} of {_size(wish)} each do not fit on {', '.join(full)}: {wish.advice}")
            continue
        wanting = wish.count
        for room in sorted(selected, key=lambda each: each.takes(wish), reverse=True):
            fits = min(wanting, room.takes(wish))
            left[room.node] = room.less(wish, fits)
            wanting -= fits
        if wanting:
            sentences.append(
                f"{wish.count} {wish.what} of {_size(wish)} each do not fit on the {len(selected)} nodes{where}: "
                f"room for {wish.count - wanting}; {wish.advice}"
            )
    return sentences


def overlap(first: Mapping[str, str], second: Mapping[str, str], free: Iterable[Room]) -> list[str]:
    """Return the nodes both selectors fit, where both are given. Pure."""
    if not first or not second:
        return []
    return [
        room.node for room in free if first.items() <= room.labels.items() and second.items() <= room.labels.items()
    ]


def requested(pod: Manifest) -> tuple[float, float]:
    """Return the cores and bytes a pod's requests take from its node. Pure.

    Source: kubernetes.io, "Sidecar containers", resource sharing within containers: native sidecars count beside the
    containers, other init containers one at a time, each with the sidecars started before it.
    """
    spec = pod["spec"]
    running = [_requests(container) for container in spec.get("containers", ())]
    sidecars: list[tuple[float, float]] = []
    peaks = []
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars.append(_requests(container))
        else:
            peaks.append(_sum([*sidecars, _requests(container)]))
    steady = _sum([*running, *sidecars])
    extra = _amounts(spec.get("overhead") or {})
    cores = max([steady[0], *(peak[0] for peak in peaks)]) + extra[0]
    memory = max([steady[1], *(peak[1] for peak in peaks)]) + extra[1]
    return cores, memory


def _room(node: Manifest, pods: Sequence[Manifest]) -> Room:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    cores, memory = _amounts(allocatable)
    taken = _sum([requested(pod) for pod in pods])
    count = int(quantity(allocatable.get("pods", "110")))  # the kubelet's default maxPods
    labels = node["metadata"].get("labels") or {}
    return Room(node["metadata"]["name"], labels, cores - taken[0], memory - taken[1], count - len(pods))


def _is_open(node: Manifest) -> bool:
    spec, conditions = node.get("spec") or {}, (node.get("status") or {}).get("conditions") or ()
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    repels = any(taint.get("effect") in _REPELLING for taint in spec.get("taints") or ())
    return is_ready and not repels and not spec.get("unschedulable")


def _requests(container: Mapping[str, Any]) -> tuple[float, float]:
    resources = container.get("resources") or {}
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(resources: Mapping[str, Any]) -> tuple[float, float]:
    return quantity(resources.get("cpu", "0")), quantity(resources.get("memory", "0"))


def _sum(amounts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(cores for cores, _ in amounts), sum(memory for _, memory in amounts)


def _size(wish: Wish) -> str:
    cores = f"{wish.cores:g} cores" if wish.cores else ""
    memory = f"{wish.memory_bytes / (1 << 20):g} MiB" if wish.memory_bytes else ""
    return " and ".join(part for part in (cores, memory) if part) or "any size"
