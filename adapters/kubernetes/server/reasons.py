"""Why pods are not ready: told while they are waited for, and at the end of a time-out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.server.judging import (
    ailment,
    beyond_hope,
    crashed_containers,
    is_ready,
    why_it_cannot_pull,
)
from meshgauge.errors import EnvironmentUpError, MeshgaugeError

OnLine = Callable[[str], None]

# The kubelet tries a pull again after 10, 20 and 40 s: four tries that failed tell a wrong name, a missing right or a
# cluster without a way out from a registry that hiccups. Source: kubelet, imageBackOff, 10 s doubled up to 300 s.
PULL_PATIENCE_S: Final = 90.0

POD: Final = Kind("v1", "Pod")
_EVENT: Final = Kind("v1", "Event")
_LOG_LINES = 8
_PODS_TOLD = 3


class Pulls:
    """Images that nodes cannot pull: each told once, none waited for much longer than its nodes try in earnest."""

    def __init__(self, on_line: OnLine, patience_s: float = PULL_PATIENCE_S) -> None:
        self._on_line = on_line
        self._patience_s = patience_s
        self._since: dict[str, float] = {}  # monotonic s, by uid of the pod

    def look(self, pods: Sequence[Manifest]) -> None:
        """Tell of pods that cannot pull.

        Raises:
            EnvironmentUpError: one of them could not all the time since ``patience_s``.
        """
        failing = {pod["metadata"]["uid"]: (pod, words) for pod in pods if (words := why_it_cannot_pull(pod))}
        self._since = {uid: since for uid, since in self._since.items() if uid in failing}
        for uid, (pod, words) in failing.items():
            if uid not in self._since:
                self._since[uid] = time.monotonic()
                self._on_line(f"{ObjectRef.of(pod)} {words}")
            elif time.monotonic() - self._since[uid] >= self._patience_s:
                raise EnvironmentUpError(
                    f"{ObjectRef.of(pod)} {words}; its node has tried for {self._patience_s:g} s: check the image's "
                    "name, the node's way to the registry and its right to pull, or name a mirror (cluster.images)"
                )


def give_up_on_hopeless(pods: Sequence[Manifest]) -> None:
    """Raise for pods that waiting cannot help.

    Raises:
        EnvironmentUpError: names the pod and says why.
    """
    for pod in pods:
        if reason := beyond_hope(pod):
            raise EnvironmentUpError(f"{ObjectRef.of(pod)} cannot come up: {reason}")


def pods_behind(cluster: Cluster, kind: Kind, found: Sequence[Manifest]) -> list[Manifest]:
    """Return the pods of workloads, or the pods themselves."""
    if kind == POD:
        return list(found)
    pods: list[Manifest] = []
    for thing in found:
        selector = (thing.get("spec") or {}).get("selector")
        wanted = selector.get("matchLabels") if isinstance(selector, Mapping) else None
        if wanted and kind.group in ("apps", "batch"):
            labels = ",".join(f"{name}={value}" for name, value in wanted.items())
            pods += cluster.list(POD, thing["metadata"].get("namespace"), labels)
    return pods


def reasons(cluster: Cluster, pods: Sequence[Manifest]) -> Iterator[str]:
    """Yield what keeps pods from being ready: status, last event, last words. Told at the end of a time-out."""
    unready = [pod for pod in pods if not is_ready(pod)]
    for pod in unready[:_PODS_TOLD]:
        words = ailment(pod) or "is not ready"
        yield f"pod {pod['metadata']['name']} {words}"
        yield from (f"  {line}" for line in _last_event(cluster, pod))
        for container in crashed_containers(pod)[:1]:
            yield from (f"  {container}: {line}" for line in _last_words(cluster, pod, container))
    if len(unready) > _PODS_TOLD:
        yield f"and {len(unready) - _PODS_TOLD} more pods"


def warnings(cluster: Cluster, kind: Kind, found: Sequence[Manifest]) -> Iterator[str]:
    """Yield why a workload has no pods: its controller says so in events (a quota, a webhook that does not answer)."""
    if kind.group not in ("apps", "batch"):
        return
    for thing in found:
        name = thing["metadata"]["name"]
        events = _events(cluster, thing["metadata"].get("namespace"), "type=Warning")
        ours = [event for event in events if str((event.get("involvedObject") or {}).get("name", "")).startswith(name)]
        yield from (f"it has no pods; {_event_words(event)}" for event in ours[-1:])


def _last_event(cluster: Cluster, pod: Manifest) -> Iterator[str]:
    fields = f"involvedObject.name={pod['metadata']['name']},type=Warning"
    yield from map(_event_words, _events(cluster, pod["metadata"].get("namespace"), fields)[-1:])


def _events(cluster: Cluster, namespace: str | None, fields: str) -> list[Manifest]:
    """Return events, the newest last; none where they may not be read, as we are telling another failure already."""
    try:
        events = cluster.list(_EVENT, namespace, fields=fields)
    except MeshgaugeError:
        return []
    return sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def _event_words(event: Manifest) -> str:
    return f"last event: {event.get('reason', '')}: {event.get('message', '')}"


def _last_words(cluster: Cluster, pod: Manifest, container: str) -> Iterator[str]:
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log?container={container}"
    restarted = any(
        status["name"] == container and status.get("restartCount")
        for status in (pod.get("status") or {}).get("containerStatuses") or ()
    )
    try:
        text = cluster.text(f"{path}&tailLines={_LOG_LINES}{'&previous=true' if restarted else ''}")
    except MeshgaugeError as error:
        yield f"its log cannot be read: {error}"
        return
    yield from text.splitlines()[-_LOG_LINES:]
