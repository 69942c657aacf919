"""What a scheduler and a kubelet say of a pod. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

Manifest = dict[str, Any]


def now_text() -> str:
    """Return the time as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_PLATFORM: Final = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}  # what every kubelet says of itself


def node(name: str, labels: Mapping[str, str], cores: int, memory: str, kubelet: str) -> Manifest:
    """Return a node that is ready."""
    capacity = {"cpu": str(cores), "memory": memory, "pods": "110", "ephemeral-storage": "50Gi"}
    info = {
        "kubeletVersion": kubelet, "kernelVersion": "6.1.0-puppet", "osImage": "Puppet", "operatingSystem": "linux",
        "architecture": "amd64", "containerRuntimeVersion": "puppet://1", "machineID": name, "systemUUID": name,
        "bootID": name, "kubeProxyVersion": "",
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **_PLATFORM, **labels}},
        "spec": {},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{**condition("Ready", True), "lastHeartbeatTime": now_text()}],
            "nodeInfo": info,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        },
    }


def condition(kind: str, is_true: bool, reason: str = "Puppet", message: str = "") -> Manifest:
    """Return one entry of ``status.conditions``."""
    status = "True" if is_true else "False"
    now = now_text()  # a condition's message is required by the kinds of custom resources, and may be empty
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}


def place(pod: Manifest, nodes: Sequence[Manifest], loads: Mapping[str, int]) -> str | None:
    """Return the emptiest node the pod may run on, or None."""
    fitting = [n["metadata"]["name"] for n in nodes if _fits(pod["spec"], n)]
    return min(fitting, key=lambda name: (loads.get(name, 0), name), default=None)


def _fits(spec: Manifest, found: Manifest) -> bool:
    labels = found["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    taints = [t for t in found["spec"].get("taints") or () if t["effect"] != "PreferNoSchedule"]
    if not all(any(_tolerates(t, taint) for t in spec.get("tolerations") or ()) for taint in taints):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    return not terms or any(_term_fits(term, found) for term in terms)


def _tolerates(toleration: Manifest, taint: Manifest) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    same = toleration.get("key") == taint["key"]
    return same and bool(toleration.get("value", "") == taint.get("value", ""))


def _term_fits(term: Manifest, found: Manifest) -> bool:
    labels = found["metadata"].get("labels") or {}
    fields = {"metadata.name": found["metadata"]["name"]}
    by_label = all(_expression(entry, labels) for entry in term.get("matchExpressions") or ())
    return by_label and all(_expression(entry, fields) for entry in term.get("matchFields") or ())


def _expression(entry: Manifest, held: Mapping[str, str]) -> bool:
    value, values = held.get(entry["key"]), entry.get("values") or ()
    match entry["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def is_native(container: Manifest) -> bool:
    """Say whether an init container is a sidecar that stays."""
    return container.get("restartPolicy") == "Always"


def _container_status(container: Manifest, state: Manifest, *, is_ready: bool) -> Manifest:
    name, image = container["name"], container.get("image", "")
    return {
        "name": name,
        "image": image,
        "imageID": f"puppet://{image}" if is_ready or "terminated" in state else "",
        "containerID": f"puppet://{name}" if is_ready or "terminated" in state else "",
        "ready": is_ready,
        "started": "running" in state,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }


def _ended(code: int = 0) -> Manifest:
    reason = "Completed" if code == 0 else "Error"
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": now_text(), "finishedAt": now_text()}}


def running(pod: Manifest, address: str, restarted: Sequence[str] = ()) -> Manifest:
    """Return the status of a pod whose every container runs and is ready.

    Args:
        restarted: containers that ended with an error and were started anew, each as often as it is named.
    """
    spec, begun = pod["spec"], {"running": {"startedAt": now_text()}}
    first = [
        _container_status(c, begun, is_ready=True) if is_native(c) else _container_status(c, _ended(), is_ready=True)
        for c in spec.get("initContainers") or ()
    ]
    main = [_container_status(c, begun, is_ready=True) for c in spec["containers"]]
    for status in (*first, *main):
        if count := restarted.count(status["name"]):
            status |= {"restartCount": count, "lastState": _ended(137)}
    return _status(pod, "Running", address, first, main, is_ready=True)


def ended(pod: Manifest, address: str, code: int = 0) -> Manifest:
    """Return the status of a pod whose every container ended with ``code``."""
    spec = pod["spec"]
    first = [_container_status(c, _ended(), is_ready=False) for c in spec.get("initContainers") or ()]
    main = [_container_status(c, _ended(code), is_ready=False) for c in spec["containers"]]
    return _status(pod, "Failed" if code else "Succeeded", address, first, main, is_ready=False)


def waiting(pod: Manifest, reason: str, message: str) -> Manifest:
    """Return the status of a pod whose containers cannot start, ``ImagePullBackOff`` for one."""
    state = {"waiting": {"reason": reason, "message": message}}
    main = [_container_status(c, state, is_ready=False) for c in pod["spec"]["containers"]]
    return _status(pod, "Pending", "", [], main, is_ready=False)


def unschedulable(message: str) -> Manifest:
    """Return the status of a pod no node takes."""
    return {"phase": "Pending", "conditions": [condition("PodScheduled", False, "Unschedulable", message)]}


def _status(
    pod: Manifest, phase: str, address: str, first: list[Manifest], main: list[Manifest], *, is_ready: bool
) -> Manifest:
    conditions = [condition("PodScheduled", True), condition("Initialized", phase != "Pending")]
    conditions += [condition("ContainersReady", is_ready), condition("Ready", is_ready)]
    status = {
        "phase": phase,
        "startTime": pod.get("status", {}).get("startTime") or now_text(),
        "hostIP": "127.0.0.1",
        "conditions": conditions,
        "initContainerStatuses": first,
        "containerStatuses": main,
    }
    return {**status, "podIP": address, "podIPs": [{"ip": address}]} if address else status
