"""Judges from objects alone whether something is ready, and what ails a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from adapters.kubernetes.api import Manifest
from adapters.kubernetes.mesh import Condition, Injector, Readiness, Rollout, Setting

# Reasons a container waits for that no patience cures. Source: k8s.io/kubernetes pkg/kubelet/images/types.go.
_HOPELESS = {
    "ErrImageNeverPull": "may not be pulled (imagePullPolicy: Never) and is not on the node; load it there",
    "InvalidImageName": "is no valid image name; correct it",
}
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff"})


def missing(readiness: Readiness, objects: Sequence[Manifest]) -> str | None:
    """Return what is still missing, as the end of a sentence that begins with its name; None: it is ready.

    Args:
        objects: those that carry its name, or fit its selector.
    """
    if not objects:
        return "does not exist"
    sentences = (_missing_of(readiness, found) for found in objects)
    return next((sentence for sentence in sentences if sentence), None)


def _missing_of(readiness: Readiness, found: Manifest) -> str | None:
    match readiness:
        case Rollout():
            return _rollout(found)
        case Injector():
            return _bundles(found)
        case Condition():
            return _condition(found, readiness.type)
        case Setting():
            return _setting(found, readiness)


def _rollout(found: Manifest) -> str | None:
    """Return what a rollout lacks, as ``kubectl rollout status`` judges."""
    status, spec = found.get("status") or {}, found["spec"]
    if status.get("observedGeneration", 0) < found["metadata"].get("generation", 1):
        return "is not yet seen by its controller"
    if found["kind"] == "DaemonSet":
        return _daemon_set(status)
    wanted = spec.get("replicas", 1)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    available = status.get("availableReplicas", 0) if found["kind"] == "Deployment" else ready
    if spec.get("updateStrategy", {}).get("type") == "OnDelete":
        updated = wanted
    if updated < wanted or available < wanted:
        return f"rolled out {updated} of {wanted} pods, {available} of them ready"
    if status.get("replicas", 0) > wanted:
        return f"has {status['replicas'] - wanted} old pods to end"
    return None


def _daemon_set(status: Mapping[str, Any]) -> str | None:
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    if not wanted:
        return "fits no node"
    if updated < wanted or available < wanted:
        return f"rolled out on {updated} of {wanted} nodes, ready on {available}"
    return None


def _bundles(found: Manifest) -> str | None:
    webhooks = found.get("webhooks") or []
    without = [hook["name"] for hook in webhooks if not (hook.get("clientConfig") or {}).get("caBundle")]
    if not webhooks:
        return "has no webhooks"
    return f"waits for the CA bundle of {', '.join(without)}" if without else None


def _condition(found: Manifest, wanted: str) -> str | None:
    if not wanted:
        return None
    told = list(_conditions(found))
    if not told or not all(any(condition["type"] == wanted for condition in some) for some in told):
        return f"has no condition {wanted} yet"
    for condition in (condition for some in told for condition in some if condition["type"] == wanted):
        if condition["status"] != "True":
            reason = ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
            return f"is not {wanted}" + (f" ({reason})" if reason else "")
    return None


def _conditions(found: Manifest) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yield the object's conditions, of a route one set for each parent."""
    status = found.get("status") or {}
    if "parents" in status:
        yield from (parent.get("conditions") or [] for parent in status["parents"])
    else:
        yield status.get("conditions") or []


def _setting(found: Manifest, wanted: Setting) -> str | None:
    value: Any = found
    for key in wanted.path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
            break
    words = " ".join(map(str, value)) if isinstance(value, list) else str("" if value is None else value)
    if fnmatchcase(words, wanted.pattern):
        return None
    where, expected = ".".join(map(str, wanted.path)), repr(wanted.pattern) if wanted.pattern else "unset"
    return f"has {where} {'not set' if value is None else repr(words)}, not {expected}: {wanted.advice}"


def beyond_hope(found: Manifest) -> str | None:
    """Return why waiting for this object cannot help, or None."""
    conditions = {condition["type"]: condition for some in _conditions(found) for condition in some}
    failed, progressing = conditions.get("Failed", {}), conditions.get("Progressing", {})
    if found["kind"] == "Job" and failed.get("status") == "True":
        return f"failed: {failed.get('message') or failed.get('reason', 'no reason given')}"
    if progressing.get("reason") == "ProgressDeadlineExceeded" and found["kind"] == "Deployment":
        return f"gave up: {progressing.get('message', 'progress deadline exceeded')}"
    if found["kind"] == "Pod":
        return next((words for words in map(_hopeless, _statuses(found)) if words), None)
    return None


def _hopeless(status: Mapping[str, Any]) -> str | None:
    reason = (status.get("state") or {}).get("waiting", {}).get("reason", "")
    return (
        f"the image {status['image']} of its container {status['name']} {_HOPELESS[reason]}"
        if (reason in _HOPELESS)
        else None
    )


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod serves, or has done its work; one that is being deleted does not count."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = status.get("conditions") or ()
    return status.get("phase") == "Succeeded" or any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )


def ailment(pod: Manifest) -> str | None:
    """Return what keeps a pod from being ready, as far as its own status tells; None: nothing known."""
    status = pod.get("status") or {}
    for container in _statuses(pod):
        if words := _ailment_of(container):
            return words
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"is Pending, {condition.get('reason', 'not scheduled')}: {condition.get('message', '')}".rstrip(
                ": "
            )
    if status.get("phase") == "Failed":
        return f"failed: {status.get('message') or status.get('reason', 'no reason given')}"
    if not status.get("phase") or status["phase"] == "Pending":
        return "is Pending" if pod["spec"].get("nodeName") else "is Pending, no node takes it yet"
    unready = [container["name"] for container in _statuses(pod) if not container.get("ready", True)]
    return f"runs, but is not ready: {', '.join(unready)}" if unready else None


def why_it_cannot_pull(pod: Manifest) -> str | None:
    """Return which image the pod's node cannot pull, and why; None: it does not say that it cannot."""
    return next((words for words in map(_pull_failure, _statuses(pod)) if words), None)


def crashed_containers(pod: Manifest) -> list[str]:
    """Return the containers whose last words are worth reading: they ended with an error, or restart."""
    return [
        status["name"]
        for status in _statuses(pod)
        if (status.get("state") or {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        or (status.get("state") or {}).get("terminated", {}).get("exitCode")
        or (status.get("lastState") or {}).get("terminated", {}).get("exitCode")
    ]


def _ailment_of(status: Mapping[str, Any]) -> str | None:
    name, state = status["name"], status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason = waiting.get("reason", "")
    if words := _pull_failure(status):
        return words
    if reason == "CrashLoopBackOff":
        last = (status.get("lastState") or {}).get("terminated") or {}
        return f"crashes: its container {name} ended with code {last.get('exitCode', '?')}, {last.get('reason', '')}"
    if reason and reason not in ("ContainerCreating", "PodInitializing"):
        return f"waits: its container {name} has {reason}: {waiting.get('message', '')}".rstrip(": ")
    if ended.get("exitCode"):
        return f"ended: its container {name} with code {ended['exitCode']}, {ended.get('reason', '')}"
    return None


def _pull_failure(status: Mapping[str, Any]) -> str | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") not in _PULLING:
        return None
    words = waiting.get("message") or waiting["reason"]
    return f"cannot pull the image {status['image']} of its container {status['name']}: {words}"


def _statuses(pod: Manifest) -> list[Mapping[str, Any]]:
    """Return the statuses of all containers, native sidecars among the init containers."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
