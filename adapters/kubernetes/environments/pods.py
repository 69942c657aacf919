"""What the pods of an environment say of themselves: their containers, restarts, images. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.counting.components import lasting_containers

_FATES = {"OOMKilled": "ran out of memory (OOMKilled): raise its limit", "Evicted": "was evicted by its node"}


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod as it was seen once.

    Attributes:
        restarts: per container, native sidecars included.
    """

    uid: str
    restarts: Mapping[str, int]


def name_of(pod: Manifest) -> str:
    """Return the pod's name."""
    return str(pod["metadata"]["name"])


def is_running(pod: Manifest) -> bool:
    """Return whether its containers run and nobody has asked it to go."""
    return (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")


def containers_of(pod: Manifest) -> frozenset[str]:
    """Return the containers that run beside each other in the pod, native sidecars included."""
    return frozenset(lasting_containers(pod["spec"]))


def statuses_of(pod: Manifest) -> Iterator[Mapping[str, Any]]:
    """Yield the statuses of the containers that last."""
    lasting = containers_of(pod)
    status = pod.get("status") or {}
    for part in ("containerStatuses", "initContainerStatuses"):
        yield from (one for one in status.get(part) or () if one["name"] in lasting)


def seen(pods: Iterable[Manifest]) -> dict[str, PodState]:
    """Return what is remembered of ``pods``, by name."""
    return {
        name_of(pod): PodState(
            pod["metadata"]["uid"], {one["name"]: int(one.get("restartCount", 0)) for one in statuses_of(pod)}
        )
        for pod in pods
    }


def losses(before: Mapping[str, PodState], pods: Iterable[Manifest]) -> list[str]:
    """Return a sentence for each pod that went, and each container that restarted, since ``before``."""
    now = {name_of(pod): pod for pod in pods}
    found = []
    for name, state in before.items():
        pod = now.get(name)
        if pod is None or pod["metadata"]["uid"] != state.uid:
            found.append(f"pod {name} is gone{'' if pod is None else ': another one of that name has taken its place'}")
        elif (pod.get("status") or {}).get("phase") == "Failed":
            status = pod["status"]
            fate = _FATES.get(status.get("reason", ""), status.get("reason") or "failed")
            found.append(f"pod {name} {fate}{': ' + status['message'] if status.get('message') else ''}")
        else:
            found += [
                f"pod {name}: container {one['name']} {_fate(one)}"
                for one in statuses_of(pod)
                if int(one.get("restartCount", 0)) > state.restarts.get(one["name"], 0)
            ]
    return found


def _fate(status: Mapping[str, Any]) -> str:
    last = (status.get("lastState") or {}).get("terminated") or {}
    reason = last.get("reason", "")
    why = _FATES.get(reason) or f"ended with code {last.get('exitCode', '?')}{f' ({reason})' if reason else ''}"
    return f"restarted: it {why}"


def images_of(pods: Iterable[Manifest]) -> dict[str, str]:
    """Return image and digest in use by container, as the kubelet reports them; equal ones once."""
    found: dict[str, set[str]] = {}
    for pod in pods:
        for status in statuses_of(pod):
            found.setdefault(status["name"], set()).add(str(status.get("imageID") or status.get("image", "")))
    return {name: ", ".join(sorted(images)) for name, images in sorted(found.items())}


def nodes_of(pods: Sequence[Manifest]) -> frozenset[str]:
    """Return the names of the nodes the pods run on."""
    return frozenset(str(pod["spec"]["nodeName"]) for pod in pods if pod["spec"].get("nodeName"))
