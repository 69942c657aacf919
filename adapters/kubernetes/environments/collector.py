"""The trace collector of an environment: a pod of ours that takes the proxies' spans, and tells how many came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.contract import Check
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Manifest
from adapters.kubernetes.counting.components import COLLECTOR
from adapters.kubernetes.environments.application import APP, LOAD, PREFERRED
from adapters.kubernetes.environments.load_jobs import POD, OwnPods, own_container, own_pod
from adapters.kubernetes.environments.pods import is_running, name_of
from adapters.kubernetes.environments.treatment import SpanOrder, check_spans
from adapters.kubernetes.mesh import COLLECTOR_NAME, Rollout
from adapters.kubernetes.mesh_parts import parity, tracing
from adapters.kubernetes.server.waiting import wait_ready
from adapters.span_sink import COUNT_PATH, HEALTH_PATH
from meshgauge.errors import MeasurementError, MeshgaugeError
from meshgauge.matrix import Role

COLLECTOR_PODS: Final = f"{LABEL_COMPONENT}={COLLECTOR}"

_PULL_S: Final = 600.0  # the image of the load workers, onto a node that may be fresh
_ARRIVAL_S: Final = tracing.FLUSH_S + 1.0  # of the last spans, once the load has ended
_AGAIN_S: Final = 0.5

# What Zipkin calls the span a proxy reports. Measured with Envoy 1.38.3: CLIENT from listeners whose direction is
# outbound, SERVER from all others.
KINDS: Final[Mapping[Role, str]] = {"client": "CLIENT", "server": "SERVER"}


def collector_objects(pods: OwnPods, name: str, labels: Mapping[str, str]) -> list[Manifest]:
    """Return the collector and the Service it is found by.

    Args:
        name: of both, as the mesh was told (``MeshOrder.collector``).
        labels: what keeps pods and Services out of the mesh.
    """
    own = {**pods.labels, **labels, LABEL_COMPONENT: COLLECTOR, "app.kubernetes.io/name": name}
    metadata = {"name": name, "namespace": pods.namespace, "labels": own}
    selector = {LABEL_COMPONENT: COLLECTOR}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": dict(own)}, "spec": _pod(pods)},
    }
    port = {"name": "http-zipkin", "port": tracing.COLLECTOR_PORT, "targetPort": tracing.COLLECTOR_PORT}
    service = {"selector": selector, "ports": [port | {"appProtocol": "http"}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    ]


def _pod(pods: OwnPods) -> dict[str, Any]:
    command = ["python", "-m", "adapters.span_sink", "--port", str(tracing.COLLECTOR_PORT)]
    requests = {"cpu": parity.cpu_quantity(tracing.COLLECTOR_CORES), "memory": str(tracing.COLLECTOR_MEMORY_BYTES)}
    container = own_container(pods, "collector", command) | {
        "ports": [{"name": "zipkin", "containerPort": tracing.COLLECTOR_PORT}],
        "readinessProbe": {"httpGet": {"path": HEALTH_PATH, "port": tracing.COLLECTOR_PORT}, "periodSeconds": 1},
        "resources": {"requests": requests},
    }
    elsewhere = _elsewhere(pods)
    return own_pod(container, token=False) | {"restartPolicy": "Always", "affinity": elsewhere}


def _elsewhere(pods: OwnPods) -> dict[str, Any]:
    """Return that the collector goes where neither application nor load runs, or will run, if there is such a node.

    It comes first: schedulers keep later pods away from one that wants no company, as far as they can.
    """
    terms = [
        {
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": {"matchLabels": {LABEL_COMPONENT: component}},
                "topologyKey": "kubernetes.io/hostname",
            },
        }
        for component in (APP, LOAD)
    ]
    others = [
        {
            "weight": 100,
            "preference": {"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]},
        }
        for chosen in (pods.cluster.app_nodes, pods.cluster.load_nodes)
        for key, value in chosen.items()
    ]
    return {"podAntiAffinity": {PREFERRED: terms}} | ({"nodeAffinity": {PREFERRED: others}} if others else {})


@dataclass(frozen=True, slots=True)
class Reading:
    """What one collector had counted at one moment: spans by kind, requests it could not read."""

    spans: Mapping[str, int]
    refused: int

    @classmethod
    def of(cls, text: str) -> Reading:
        """Read the collector's own words.

        Raises:
            MeasurementError: they are none.
        """
        try:
            told = json.loads(text)
            return cls({str(kind): int(count) for kind, count in told["spans"].items()}, int(told["refused"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MeasurementError(f"the trace collector said {text[:80]!r}: is it the one of this release?") from error


class Collector:
    """The collector of one environment, and the proof that it gets what it should.

    Args:
        proxies: the most proxies of each role that report at the same time.
    """

    def __init__(
        self, cluster: Cluster, pods: OwnPods, order: SpanOrder, proxies: Mapping[Role, int], name: str = COLLECTOR_NAME
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._name = name
        self._order = order
        self._proxies = proxies
        self._objects: list[Manifest] = []
        self._before: Reading | None = None

    @property
    def objects(self) -> Sequence[Manifest]:
        """The collector's objects as they were applied."""
        return self._objects

    def start(self, labels: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        """Start it and wait until it takes spans.

        Args:
            labels: what keeps pods and Services out of the mesh.

        Raises:
            EnvironmentUpError: it does not come up.
        """
        on_line("starting the trace collector")
        self._objects = collector_objects(self._pods, self._name, labels)
        for manifest in self._objects:
            self._cluster.apply(manifest)
        wait_ready(self._cluster, [Rollout("Deployment", self._pods.namespace, self._name)], _PULL_S, on_line)

    def remember(self) -> list[Check]:
        """Take the reading that later ones are compared with; return a failed check where there is none."""
        try:
            self._before = self._read()
        except MeshgaugeError as error:
            self._before = None
            return [Check("traces: collector", False, "tells its counts", str(error))]
        return []

    def checks(self, requests_sent: int) -> Sequence[Check]:
        """Return whether the spans of ``requests_sent`` requests came, after the last had the time to.

        Args:
            requests_sent: since ``remember``, warm-up and cool-down included.
        """
        before = self._before
        if before is None:
            return [Check("traces: collector", False, "a count from before the trial", "none")]
        deadline_s = time.monotonic() + _ARRIVAL_S
        while True:
            try:
                found = self._compare(before, self._read(), requests_sent)
            except MeshgaugeError as error:
                return [Check("traces: collector", False, "tells its counts", str(error))]
            if all(check.passed for check in found) or time.monotonic() >= deadline_s:
                return found
            time.sleep(_AGAIN_S)

    def _compare(self, before: Reading, now: Reading, requests_sent: int) -> list[Check]:
        refused = now.refused - before.refused
        checks = [Check("traces: refused", refused == 0, "0", str(refused))]
        for role, proxies in self._proxies.items():
            kind = KINDS[role]
            came = now.spans.get(kind, 0) - before.spans.get(kind, 0)
            checks.append(check_spans(role, came, requests_sent, self._order, proxies))
        return checks

    def _read(self) -> Reading:
        pods = [pod for pod in self._cluster.list(POD, self._pods.namespace, COLLECTOR_PODS) if is_running(pod)]
        if len(pods) != 1:
            raise MeasurementError(f"{len(pods)} trace collectors run, not 1")
        where = f"/api/v1/namespaces/{self._pods.namespace}/pods/{name_of(pods[0])}:{tracing.COLLECTOR_PORT}/proxy"
        return Reading.of(self._cluster.text(f"{where}{COUNT_PATH}"))


def reporting(roles: Iterable[Role], replicas: int, load_workers: int) -> dict[Role, int]:
    """Return how many proxies of each role report spans at once, for those whose spans can be told apart."""
    counts: dict[Role, int] = {"client": load_workers, "server": replicas}
    return {role: counts[role] for role in roles if role in KINDS}
