"""A puppet of scheduler, controllers, kubelet and mesh controllers, over HTTP alone.

``with Puppet(kubeconfig, controllers=True): ...`` brings a fake API server to life; against a real one that has a
controller manager of its own, ``controllers=False``.
"""

from __future__ import annotations

import contextlib
import fnmatch
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import puppet_pods
import puppet_workloads
from plain_client import PlainClient
from puppet_cache import View, path_of
from puppet_control import ControlPlanes
from puppet_meshes import injected
from puppet_webhooks import Admission

Manifest = dict[str, Any]
_IDLE_S: Final = 1.0
_BEAT_S: Final = 10.0
_STORAGE_CLASS: Final[Manifest] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "puppet", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "example.com/puppet",
}


@dataclass(frozen=True, slots=True)
class Hold:
    """Pods to keep from running: pattern of ``namespace/name`` or of an image, and what they say."""

    pattern: str
    reason: str

    def takes(self, pod: Manifest) -> bool:
        """Say whether this pod is one."""
        metadata = pod["metadata"]
        names = [
            f"{metadata['namespace']}/{metadata['name']}",
            *(c.get("image", "") for c in pod["spec"]["containers"]),
        ]
        return any(fnmatch.fnmatch(name, self.pattern) for name in names)


@dataclass(slots=True)
class Running:
    """How a pod runs. ``address``: its IP; ``exit_code``: of its containers, None while they run."""

    address: str
    exit_code: int | None = None


def _pretend(pod: Manifest) -> Running:
    """Run a pod by saying so: what is to end, ended well."""
    return Running("127.0.0.1", 0 if pod["spec"].get("restartPolicy", "Always") != "Always" else None)


@dataclass
class Puppet:
    """Strings on a cluster.

    Attributes:
        nodes: name -> labels.
        controllers: whether to make pods of workloads, too.
        admission: answers the meshes' webhooks, where the API server calls them.
        run: starts a pod, or tells how it fares when asked again.
        stop: ends what ``run`` started for the pod ``namespace/name``.
        complaints: refusals and lost connections so far; a test may look at them.
    """

    kubeconfig: Path | str
    controllers: bool = True
    nodes: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"node-1": {}, "node-2": {}})
    context: str | None = None
    cores: int = 8
    kubelet: str = "v1.34.1"
    run: Callable[[Manifest], Running] = _pretend
    stop: Callable[[str], None] = lambda _: None
    admission: Admission | None = None
    idle_s: float = _IDLE_S
    holds: list[Hold] = field(default_factory=list)
    restarts: list[tuple[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __enter__(self) -> Puppet:
        self._client = PlainClient(self.kubeconfig, self.context)
        for name, labels in self.nodes.items():
            body = puppet_pods.node(name, labels, self.cores, "16Gi", self.kubelet)
            self._client.post("/api/v1/nodes", body)
            self._client.patch(f"/api/v1/nodes/{name}/status", {"status": body["status"]})
        classes = "/apis/storage.k8s.io/v1/storageclasses"
        self._has_class = not self._client.items(classes) and self._client.post(classes, _STORAGE_CLASS) is not None
        self._view = View(self._client)
        self._view.wait()
        self._control = ControlPlanes(self._client, self._view, self.admission)
        if self.admission:
            self.admission.let_in = self._let_in
        self._ended = threading.Event()
        self._next_beat_s = 0.0
        self._thread = threading.Thread(target=self._loop, name="puppet", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._view.changed.set()
        self._thread.join(30)
        self._view.stop()
        for pod in self._view.of("pods"):
            self.stop(_name(pod))
        with contextlib.suppress(httpx.HTTPError, RuntimeError):  # the cluster may be gone already
            if self._has_class:
                self._client.delete(f"/apis/storage.k8s.io/v1/storageclasses/{_STORAGE_CLASS['metadata']['name']}")
            for name in self.nodes:
                self._client.delete(f"/api/v1/nodes/{name}")
                self._client.delete(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")
        self._client.close()

    def hold(self, pattern: str, reason: str = "ImagePullBackOff") -> None:
        """Keep pods from starting whose ``namespace/name`` or image fits ``pattern``.

        Args:
            reason: what their containers say; ``Unschedulable``: no node takes them.
        """
        self.holds.append(Hold(pattern, reason))

    def release(self, pattern: str) -> None:
        """Let go what was held by ``pattern``."""
        self.holds[:] = [hold for hold in self.holds if hold.pattern != pattern]
        self._view.changed.set()

    def restart(self, pattern: str, container: str) -> None:
        """Have a container end with an error and start anew, in pods whose ``namespace/name`` fits ``pattern``."""
        self.restarts.append((pattern, container))
        self._view.changed.set()

    def _loop(self) -> None:
        while not self._ended.is_set():
            self._view.changed.wait(self.idle_s)
            self._view.changed.clear()
            for act in (self._keep_nodes, self._control.act, self._make_pods, self._schedule, self._kubelet):
                if self._ended.is_set():
                    return
                try:
                    act()
                except (httpx.HTTPError, RuntimeError) as error:  # failures on purpose, races: the next turn mends them
                    self.complaints.append(f"{act.__name__}: {error}")

    def _keep_nodes(self) -> None:
        """Keep nodes ready: what a kubelet's heartbeat is for. A node that is silent for 50 s loses its pods."""
        is_due = time.monotonic() >= self._next_beat_s and not self.controllers
        if is_due:
            self._next_beat_s = time.monotonic() + _BEAT_S
        for found in self._view.of("nodes"):
            conditions = found.get("status", {}).get("conditions") or ()
            is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            if found["metadata"]["name"] in self.nodes and (is_due or not is_ready):
                beat = {**puppet_pods.condition("Ready", True), "lastHeartbeatTime": puppet_pods.now_text()}
                self._client.patch(path_of("/api/v1/nodes", found, "status"), {"status": {"conditions": [beat]}})

    # Controllers.

    def _make_pods(self) -> None:
        if not self.controllers:
            return
        for claim in self._view.live("persistentvolumeclaims"):
            if claim.get("status", {}).get("phase") != "Bound":
                path = path_of("/api/v1/persistentvolumeclaims", claim, "status")
                self._client.patch(path, {"status": {"phase": "Bound"}})
        for workload in self._view.live("deployments"):
            self._deployment(workload)
        for workload in self._view.live("statefulsets"):
            for claim in puppet_workloads.claims(workload):
                self._create("/api/v1/persistentvolumeclaims", claim, self._view.of("persistentvolumeclaims"))
            pods = self._settle(workload, list(puppet_workloads.stateful_pods(workload)))
            self._report("statefulsets", workload, puppet_workloads.stateful_status(workload, pods))
        for workload in self._view.live("daemonsets"):
            wanted = list(puppet_workloads.daemon_pods(workload, self._view.live("nodes")))
            pods = self._settle(workload, wanted)
            self._report("daemonsets", workload, puppet_workloads.daemon_status(workload, pods, len(wanted)))
        for job in self._view.live("jobs"):
            self._job(job)

    def _deployment(self, workload: Manifest) -> None:
        wanted = puppet_workloads.replica_set(workload)
        current = None
        for replicas in puppet_workloads.owned(self._view.live("replicasets"), workload):
            if replicas["metadata"]["name"] == wanted["metadata"]["name"]:
                current = replicas
            else:
                self._client.delete(path_of("/apis/apps/v1/replicasets", replicas), propagationPolicy="Background")
        if current is None:
            self._create("/apis/apps/v1/replicasets", wanted, ())
            return
        current = {**current, "spec": wanted["spec"]}  # its replicas follow the Deployment's at once
        pods = self._settle(current, list(puppet_workloads.replica_pods(current)))
        self._report("deployments", workload, puppet_workloads.deployment_status(workload, pods))

    def _job(self, job: Manifest) -> None:
        conditions = job.get("status", {}).get("conditions") or ()
        if any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions):
            return
        if job["spec"].get("suspend"):
            return
        pods = self._settle(job, list(puppet_workloads.job_pods(job)))
        self._report("jobs", job, puppet_workloads.job_status(job, pods))

    def _settle(self, workload: Manifest, wanted: Sequence[Manifest]) -> list[Manifest]:
        """Make the pods that are missing, delete those too many or of an old template; return those that stand."""
        there = puppet_workloads.owned(self._view.live("pods"), workload)
        names = {pod["metadata"]["name"]: _revision(pod) for pod in wanted}
        for pod in wanted:
            self._create("/api/v1/pods", self._let_in(pod), self._view.of("pods"))
        stand = []
        for pod in there:
            if names.get(pod["metadata"]["name"]) == _revision(pod) and pod["metadata"]["name"] in names:
                stand.append(pod)
            else:
                self._client.delete(path_of("/api/v1/pods", pod))
        return stand

    def _let_in(self, pod: Manifest) -> Manifest:
        """Return the pod as the injectors that run would change it."""
        namespaces = {m["metadata"]["name"]: m for m in self._view.of("namespaces")}
        namespace = namespaces.get(pod["metadata"]["namespace"], {"metadata": {}})
        return injected(pod, namespace, [found.name for found, _ in self._control.running()])

    def _create(self, collection: str, manifest: Manifest, there: Sequence[Manifest]) -> None:
        metadata = manifest["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if all((m["metadata"]["namespace"], m["metadata"]["name"]) != key for m in there):
            root, _, plural = collection.rpartition("/")
            self._client.post(f"{root}/namespaces/{metadata['namespace']}/{plural}", manifest)

    def _report(self, plural: str, workload: Manifest, status: Manifest) -> None:
        if puppet_workloads.differs(workload.get("status") or {}, status):
            self._client.patch(path_of(self._view.path(plural), workload, "status"), {"status": status})

    # Scheduler and kubelet.

    def _schedule(self) -> None:
        nodes, loads = self._view.live("nodes"), self._loads()
        for pod in self._view.live("pods"):
            if pod["spec"].get("nodeName") or _is_over(pod):
                continue
            held = any(hold.reason == "Unschedulable" and hold.takes(pod) for hold in self.holds)
            node = None if held else puppet_pods.place(pod, nodes, loads)
            if node is None:
                self._say(pod, puppet_pods.unschedulable(f"0/{len(nodes)} nodes are available: none fits."))
                continue
            loads[node] = loads.get(node, 0) + 1
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            body = {
                "apiVersion": "v1",
                "kind": "Binding",
                "target": target,
                "metadata": {"name": pod["metadata"]["name"]},
            }
            self._client.post(path_of("/api/v1/pods", pod, "binding"), body)

    def _loads(self) -> dict[str, int]:
        loads: dict[str, int] = {}
        for pod in self._view.live("pods"):
            if node := pod["spec"].get("nodeName"):
                loads[node] = loads.get(node, 0) + 1
        return loads

    def _kubelet(self) -> None:
        for pod in self._view.of("pods"):
            if pod["spec"].get("nodeName") not in self.nodes:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                self.stop(_name(pod))
                self._client.delete(path_of("/api/v1/pods", pod), gracePeriodSeconds=0)
            elif not _is_over(pod):
                self._say(pod, self._status(pod))

    def _status(self, pod: Manifest) -> Manifest:
        held = next((hold for hold in self.holds if hold.takes(pod)), None)
        if held:
            return puppet_pods.waiting(pod, held.reason, f"the puppet holds pods like {held.pattern}")
        fares = self.run(pod)
        if fares.exit_code is None:
            again = [container for pattern, container in self.restarts if fnmatch.fnmatch(_name(pod), pattern)]
            return puppet_pods.running(pod, fares.address, again)
        return puppet_pods.ended(pod, fares.address, fares.exit_code)

    def _say(self, pod: Manifest, status: Manifest) -> None:
        if puppet_workloads.differs(pod.get("status") or {}, status):
            self._client.patch(path_of("/api/v1/pods", pod, "status"), {"status": status})


def _revision(pod: Manifest) -> str:
    return str((pod["metadata"].get("labels") or {}).get("controller-revision-hash", ""))


def _name(pod: Manifest) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _is_over(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


@contextlib.contextmanager
def living_cluster(**options: Any) -> Iterator[tuple[Any, Puppet]]:
    """Yield a fake API server and a puppet that brings it to life."""
    from fake_api import FakeCluster  # noqa: PLC0415 (a puppet works on others, too)

    with FakeCluster() as cluster, Puppet(cluster.kubeconfig, **options) as puppet:
        yield cluster, puppet
