"""Which container belongs to which component: application, data plane by role, control plane, load generator. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.counting.cadvisor import Counted
from adapters.kubernetes.mesh import Containers

APP, LOAD, CONTROL_PLANE, COLLECTOR = "app", "load_generator", "control_plane", "trace_collector"

# Returns the pods of a namespace that a label selector chooses.
PodsOf = Callable[[str, str], Sequence[Manifest]]


@dataclass(frozen=True, slots=True)
class Watched:
    """Containers that make up one component, or some of them.

    Attributes:
        names: of containers; empty: all that no earlier entry claims.
        where_in_play: only on nodes that application or load run on: elsewhere a node's data plane serves others.
    """

    component: str
    namespace: str
    labels: str
    names: tuple[str, ...] = ()
    where_in_play: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One container (or node) that is counted for a component, and the node it runs on."""

    component: str
    counted: Counted
    node: str


def watched(
    containers: Iterable[Containers], namespace: str, app: str, load: str | None, collector: str | None = None
) -> tuple[Watched, ...]:
    """Return what to count, those first that claim containers by name.

    Args:
        containers: what the mesh says of its own.
        namespace: of the environment.
        app, load: label selectors of the pods of application and load generator; None: load comes from elsewhere.
        collector: of the pods that take spans; None: nobody does.
    """
    sides = {"client": load, "server": app}
    data_plane, control_plane = [], []
    for group in containers:
        where = group.namespace or namespace
        if group.role is None:
            control_plane.append(Watched(CONTROL_PLANE, where, group.labels, group.names))
        elif where != namespace:
            data_plane.append(Watched(f"data_plane/{group.role}", where, group.labels, group.names, True))
        elif (labels := group.labels or sides.get(group.role)) is not None:
            data_plane.append(Watched(f"data_plane/{group.role}", where, labels, group.names))
    ours = ((APP, app), (LOAD, load), (COLLECTOR, collector))
    return (*data_plane, *control_plane, *(Watched(name, namespace, labels) for name, labels in ours if labels))


def parts(wanted: Sequence[Watched], pods_of: PodsOf) -> tuple[Part, ...]:
    """Return every container to count, each once; and each node in play, as a part of the host."""
    pods = {(one.namespace, one.labels): _counting(pods_of(one.namespace, one.labels)) for one in wanted}
    in_play = {_node(pod) for one in wanted if one.component in (APP, LOAD) for pod in pods[one.namespace, one.labels]}
    claimed: dict[Counted, Part] = {}
    for one in wanted:
        for pod in pods[one.namespace, one.labels]:
            if not one.where_in_play or _node(pod) in in_play:
                for part in _parts_of(one, pod):
                    claimed.setdefault(part.counted, part)
    return (*claimed.values(), *(Part("host", Counted.node(node), node) for node in sorted(in_play)))


def _parts_of(one: Watched, pod: Manifest) -> Iterator[Part]:
    metadata = pod["metadata"]
    for name in lasting_containers(pod["spec"]):
        if not one.names or name in one.names:
            yield Part(one.component, Counted(metadata["namespace"], metadata["name"], name), _node(pod))


def lasting_containers(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a pod's containers, native sidecars included, containers that only prepare it left out."""
    yield from (container["name"] for container in spec.get("containers") or ())
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container["name"]


def _counting(pods: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Return those that run: others have no counters, or will not have them for long."""
    return tuple(
        pod
        for pod in pods
        if (pod.get("status") or {}).get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
        and _node(pod)
    )


def _node(pod: Manifest) -> str:
    return str(pod["spec"].get("nodeName") or "")
