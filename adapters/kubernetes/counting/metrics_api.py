"""Counters made from the gauges of metrics.k8s.io, for clusters whose kubelets may not be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.kubernetes.api import Cluster, Kind, Permission
from adapters.kubernetes.counting.cadvisor import Counted, Reading
from adapters.kubernetes.server.quantities import duration_s, moment, quantity

GROUP: Final = "metrics.k8s.io"
_POD_METRICS = Kind(f"{GROUP}/v1beta1", "PodMetrics")
_NODE_METRICS = Kind(f"{GROUP}/v1beta1", "NodeMetrics")
PERMISSIONS: Final = (Permission(GROUP, "pods", ("get", "list")), Permission(GROUP, "nodes", ("get", "list")))


@dataclass(frozen=True, slots=True)
class Gauge:
    """Mean use of CPU over the ``window_s`` that ended at ``at_s`` (the node's clock), and memory at its end."""

    at_s: float
    window_s: float
    cores: float
    memory_bytes: float


@dataclass(slots=True)
class _Sum:
    """What one container has used since it was first seen."""

    last: Gauge
    cpu_s: float = 0.0
    covered_s: float = 0.0
    elapsed_s: float = 0.0


class Integrator:
    """Adds gauges up to a cumulative counter.

    Each gauge stands for all the time since the one before, so that what happened outside its own window is taken to
    be like what happened inside. ``covered_ratio`` says how much of the time was inside one: 1 where windows meet.
    """

    def __init__(self) -> None:
        self._sums: dict[Counted, _Sum] = {}

    def add(self, counted: Counted, gauge: Gauge) -> Reading:
        """Return the counter after ``gauge``; a gauge that was added before changes nothing."""
        known = self._sums.get(counted)
        if known is None:
            known = self._sums[counted] = _Sum(gauge)
        elif gauge.at_s > known.last.at_s:
            gap_s = gauge.at_s - known.last.at_s
            known.cpu_s += gauge.cores * gap_s
            known.covered_s += min(gap_s, gauge.window_s)
            known.elapsed_s += gap_s
            known.last = gauge
        at_ms = round(known.last.at_s * 1000)
        return Reading(at_ms, cpu_s=known.cpu_s, memory_bytes=known.last.memory_bytes, source=GROUP)

    @property
    def covered_ratio(self) -> float | None:
        """Share of the time counted that lay inside a gauge's window; None before two gauges of anything."""
        elapsed_s = sum(known.elapsed_s for known in self._sums.values())
        return sum(known.covered_s for known in self._sums.values()) / elapsed_s if elapsed_s > 0 else None


def pod_gauges(manifest: Mapping[str, Any]) -> Iterator[tuple[Counted, Gauge]]:
    """Yield the gauges of one PodMetrics object, container by container."""
    metadata = manifest["metadata"]
    for container in manifest.get("containers") or ():
        counted = Counted(metadata.get("namespace", ""), metadata["name"], container["name"])
        yield counted, _gauge(manifest, container["usage"])


def node_gauge(manifest: Mapping[str, Any]) -> Gauge:
    """Return the gauge of one NodeMetrics object."""
    return _gauge(manifest, manifest["usage"])


def _gauge(manifest: Mapping[str, Any], usage: Mapping[str, str]) -> Gauge:
    return Gauge(
        moment(manifest["timestamp"]),
        duration_s(manifest["window"]),
        quantity(usage["cpu"]),
        quantity(usage["memory"]),
    )


class MetricsApiSource:
    """Counters by way of the cluster's metrics server: no kubelet is asked, user and system time are not told apart."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._integrator = Integrator()

    def read(self, nodes: Sequence[str], namespaces: Sequence[str]) -> Mapping[Counted, Reading]:
        """Return the counters of these nodes, and of all containers in these namespaces."""
        found: dict[Counted, Reading] = {}
        for manifest in self._cluster.list(_NODE_METRICS):
            name = manifest["metadata"]["name"]
            if name in nodes:
                counted = Counted.node(name)
                found[counted] = self._integrator.add(counted, node_gauge(manifest))
        for namespace in namespaces:
            for manifest in self._cluster.list(_POD_METRICS, namespace):
                for counted, gauge in pod_gauges(manifest):
                    found[counted] = self._integrator.add(counted, gauge)
        return found

    def facts(self) -> Mapping[str, Any]:
        """Return how far the counters hold, for the provenance."""
        return {"gauges_cover_ratio": self._integrator.covered_ratio}
