"""Waits by watching: until something is ready, until something is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.mesh import Condition, Injector, Readiness, Rollout, Setting
from adapters.kubernetes.server.judging import beyond_hope, is_ready, missing
from adapters.kubernetes.server.reasons import (
    POD,
    OnLine,
    Pulls,
    give_up_on_hopeless,
    pods_behind,
    reasons,
    warnings,
)
from meshgauge.errors import ConfigurationError, EnvironmentUpError

# A watch tells changes at once; this often we look aside, at what a watch does not tell: pods without hope.
_LOOK_EVERY_S = 5.0
_LOOK_AGAIN_S = 0.3  # a kind that is not served yet cannot be watched

_Judge = Callable[[Sequence[Manifest]], str | None]


def wait_ready(
    cluster: Cluster, readiness: Sequence[Readiness], timeout_s: float, on_line: OnLine = lambda _: None
) -> None:
    """Wait until all of it is ready; each is told to ``on_line`` as it becomes so.

    Raises:
        EnvironmentUpError: time is over, or waiting cannot help: says what is missing, and why as far as pods tell.
        ConfigurationError: a setting of somebody else's is not as it has to be.
    """
    deadline = time.monotonic() + timeout_s
    for wanted in readiness:
        kind, namespace, labels, fields, title = _target(wanted)

        def judge(found: Sequence[Manifest], wanted: Readiness = wanted) -> str | None:
            lacking = missing(wanted, found)
            if lacking is not None and isinstance(wanted, Setting):
                raise ConfigurationError(f"{wanted.ref} {lacking}")
            return lacking

        _wait(cluster, _Watched(kind, namespace, labels, fields, title), judge, deadline, timeout_s, on_line)


def wait_pods(
    cluster: Cluster,
    namespace: str,
    labels: str,
    count: int,
    timeout_s: float,
    on_line: OnLine = lambda _: None,
) -> None:
    """Wait until at least ``count`` pods of the selector are Ready (or have Succeeded).

    Raises:
        EnvironmentUpError: as ``wait_ready``.
    """

    def judge(pods: Sequence[Manifest]) -> str | None:
        ready = sum(map(is_ready, pods))
        return None if ready >= count else f"{ready} of {count} are ready"

    watched = _Watched(POD, namespace, labels, None, f"pods {labels} in namespace {namespace}")
    _wait(cluster, watched, judge, time.monotonic() + timeout_s, timeout_s, on_line)


def wait_gone(cluster: Cluster, refs: Sequence[ObjectRef], timeout_s: float) -> None:
    """Wait until none of the objects is there.

    Raises:
        EnvironmentUpError: time is over: names those that are left, and the finalizers they wait for.
    """
    deadline = time.monotonic() + timeout_s
    for ref in refs:
        while cluster.get(ref) is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise EnvironmentUpError(_still_there(cluster, refs, timeout_s))
            fields = f"metadata.name={ref.name}"
            for event in cluster.watch(ref.kind, ref.namespace or None, min(left_s, _LOOK_EVERY_S), fields=fields):
                if event.type == "DELETED":
                    break


class _Watched:
    """What is watched, and what it is called."""

    def __init__(self, kind: Kind, namespace: str | None, labels: str | None, fields: str | None, title: str) -> None:
        self.kind, self.namespace, self.labels, self.fields, self.title = kind, namespace, labels, fields, title


def _target(readiness: Readiness) -> tuple[Kind, str | None, str | None, str | None, str]:
    """Return kind, namespace, label selector, field selector and title of what is waited for."""
    match readiness:
        case Rollout(kind, namespace, name):
            where = f"{kind} {name} in namespace {namespace}"
            by_label = any(sign in name for sign in "=, ")
            labels, fields = (name, None) if by_label else (None, f"metadata.name={name}")
            return Kind("apps/v1", kind), namespace, labels, fields, where
        case Injector(kind, name):
            group = Kind("admissionregistration.k8s.io/v1", kind)
            return group, None, None, f"metadata.name={name}", f"{kind} {name}"
        case Condition(ref) | Setting(ref):
            return ref.kind, ref.namespace or None, None, f"metadata.name={ref.name}", str(ref)


def _wait(
    cluster: Cluster, watched: _Watched, judge: _Judge, deadline: float, timeout_s: float, on_line: OnLine
) -> None:
    told = ""
    for found in _states(cluster, watched, deadline, Pulls(on_line)):
        lacking = judge(found)
        if lacking is None:
            on_line(f"{watched.title}: ready")
            return
        if lacking != told:
            told = lacking
            on_line(f"{watched.title}: {lacking}")
        for thing in found:
            if reason := beyond_hope(thing):
                raise EnvironmentUpError(f"{ObjectRef.of(thing)} {reason}")
        if time.monotonic() >= deadline:
            pods = pods_behind(cluster, watched.kind, found)
            lines = reasons(cluster, pods) if pods else warnings(cluster, watched.kind, found)
            why = "".join(f"\n  {line}" for line in lines)
            raise EnvironmentUpError(f"{watched.title} is not ready after {timeout_s:g} s: {lacking}{why}")


def _states(cluster: Cluster, watched: _Watched, deadline: float, pulls: Pulls) -> Iterator[Sequence[Manifest]]:
    """Yield the objects watched, whenever one changes, and every now and then; for ever."""
    while True:
        listed = cluster.list(watched.kind, watched.namespace, watched.labels, watched.fields)
        found = {item["metadata"]["name"]: item for item in listed}
        pods = pods_behind(cluster, watched.kind, listed)
        give_up_on_hopeless(pods)
        pulls.look(pods)
        yield list(found.values())
        began = time.monotonic()
        slice_s = max(min(deadline - began, _LOOK_EVERY_S), 0.0)
        for event in cluster.watch(watched.kind, watched.namespace, slice_s, watched.labels, watched.fields):
            name = event.object["metadata"]["name"]
            if event.type == "DELETED":
                found.pop(name, None)
            elif found.get(name) != event.object:
                found[name] = event.object
            else:
                continue
            yield list(found.values())
        if time.monotonic() - began < _LOOK_AGAIN_S:
            time.sleep(min(slice_s, _LOOK_AGAIN_S))


def _still_there(cluster: Cluster, refs: Sequence[ObjectRef], timeout_s: float) -> str:
    left = [(ref, found) for ref in refs if (found := cluster.get(ref)) is not None]
    return f"still there after {timeout_s:g} s: {'; '.join(_why_there(ref, found) for ref, found in left)}"


def _why_there(ref: ObjectRef, found: Manifest) -> str:
    finalizers = found["metadata"].get("finalizers") or (found.get("spec") or {}).get("finalizers") or ()
    conditions = (found.get("status") or {}).get("conditions") or ()
    told = [str(each.get("message")) for each in conditions if each.get("status") == "True" and each.get("message")]
    if not found["metadata"].get("deletionTimestamp"):
        return f"{ref} (nobody deleted it, or somebody made it anew)"
    if finalizers and not told:
        told = [f"finalizers {', '.join(finalizers)}"]
    return f"{ref}" + (f" ({'; '.join(told)})" if told else "")
