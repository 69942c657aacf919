"""Cumulative counters of every component of an environment in a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from adapters.kubernetes.api import Cluster, Kind, Manifest, Permission
from adapters.kubernetes.counting import kubelets, metrics_api, nodes
from adapters.kubernetes.counting.cadvisor import Counted, Reading
from adapters.kubernetes.counting.components import Part, Watched, parts
from adapters.kubernetes.counting.kubelets import KubeletSource
from adapters.kubernetes.counting.metrics_api import MetricsApiSource
from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError
from meshgauge.trial import UsageSample

# A kubelet counts every 10 to 20 s: asking twice as often as that misses nothing, and costs little.
PERIOD_S: Final = 5.0
_SLACK_S: Final = 0.1  # of whoever calls once a second
_POD: Final = Kind("v1", "Pod")
_MOST_REMEMBERED = 20

# Preflight asks for these; without the first the second do, see ``metrics_api``.
PERMISSIONS: Final = kubelets.PERMISSIONS
FALLBACK_PERMISSIONS: Final = metrics_api.PERMISSIONS


class KubernetesMeter:
    """Reads the counters of an environment's containers and nodes, each with the instant it was counted at.

    Every container is a part of its component: kubelets count each at instants of its own, so only who sees the whole
    window can sum them (``workers.usage``). A component's containers are looked up anew at each read.

    A data plane that a node shares is counted on the nodes in play only; what it did there for others is in it.

    Args:
        wanted: as ``components.watched`` gives it.
    """

    def __init__(self, cluster: Cluster, wanted: Sequence[Watched], period_s: float = PERIOD_S) -> None:
        self._cluster = cluster
        self._wanted = tuple(wanted)
        self._period_s = period_s
        self._source: KubeletSource | MetricsApiSource | None = None
        self._why: str | None = None
        self._offsets: Mapping[str, float] = {}
        self._offsets_missing: str | None = "not known yet"
        self._facts: Mapping[str, nodes.Node] = {}
        self._read_at_s: float | None = None
        self._newest_ms: dict[Counted, int] = {}
        self._gaps: list[str] = []
        self._in_play: tuple[str, ...] = ()
        self._ever_in_play: set[str] = set()
        self._clocks = threading.Thread(target=self._compare_clocks, name="node-clocks", daemon=True)

    def start(self) -> None:
        """Find out whom to ask, and begin to compare the nodes' clocks with ours. Called once the pods run.

        Raises:
            ServiceUnavailableError: the API server does not answer.
        """
        self._facts = nodes.nodes_of(self._cluster)
        self._choose()
        self._take_note(self._parts())
        self._clocks.start()

    @property
    def problem(self) -> str | None:
        """Why no CPU and memory can be measured here, and what to do; None: they can."""
        return self._why if self._source is None else None

    @property
    def host_cores(self) -> float:
        """Cores of all nodes that application or load run on."""
        known = [self._facts[name].cores for name in self._in_play if name in self._facts]
        return sum(cores for cores in known if cores is not None) or 1.0

    def sample(self) -> Sequence[UsageSample]:
        """Return counters that were not returned before; nothing, when it is too soon for new ones.

        A container without any counter comes once a read without CPU, as does a component without containers.
        """
        now = time.monotonic()
        if self._read_at_s is not None and now - self._read_at_s < self._period_s - _SLACK_S:
            return ()
        self._read_at_s = now
        try:
            wanted = self._parts()
            self._take_note(wanted)
            return tuple(self._samples(wanted, self._read(wanted)))
        except MeshgaugeError as error:
            # The load goes on, and so does the trial: with fewer samples, or without CPU and memory.
            self._note_gap(str(error))
            return ()

    def facts(self) -> Mapping[str, Any]:
        """Return who counted and how far it holds: for the provenance, as plain JSON."""
        asked = self._source
        failures = self._gaps + (asked.failures if isinstance(asked, KubeletSource) else [])
        return {
            "source": _name(asked),
            "reason": self._why,
            "clock_offsets_s": {name: round(self._offsets[name], 3) for name in sorted(self._offsets)},
            "clock_offsets_missing": self._offsets_missing,
            "shared_data_plane": self._sharing(),
            "reads_failed": failures[:_MOST_REMEMBERED],
            **(asked.facts() if isinstance(asked, MetricsApiSource) else {}),
        }

    def nodes(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the facts of every node that application or load ran on, as plain JSON."""
        return {name: self._facts[name].facts() for name in sorted(self._ever_in_play) if name in self._facts}

    def close(self) -> None:
        """End what was begun. Idempotent."""
        if isinstance(self._source, KubeletSource):
            self._source.close()

    def _take_note(self, wanted: Sequence[Part]) -> None:
        self._in_play = _nodes_of(wanted, "host")
        self._ever_in_play.update(self._in_play)

    def _choose(self) -> None:
        missing = self._cluster.missing(PERMISSIONS)
        if not missing:
            self._source = KubeletSource(self._cluster)
        else:
            self._fall_back(f"no right to {_listed(missing)}")

    def _fall_back(self, why: str) -> None:
        """Ask the metrics server instead; without it, nobody."""
        self.close()
        missing = self._cluster.missing(FALLBACK_PERMISSIONS)
        self._why = why
        self._source = None
        if missing:
            self._why = f"{why}; no right to {_listed(missing)}: grant one of both, then CPU and memory are measured"
        elif not self._cluster.list(Kind(f"{metrics_api.GROUP}/v1beta1", "NodeMetrics")):
            self._why = f"{why}; and the cluster has no metrics server: grant the right, or install metrics-server"
        else:
            self._source = MetricsApiSource(self._cluster)

    def _parts(self) -> tuple[Part, ...]:
        def pods_of(namespace: str, labels: str) -> Sequence[Manifest]:
            return self._cluster.list(_POD, namespace, labels or None)

        return parts(self._wanted, pods_of)

    def _read(self, wanted: Sequence[Part]) -> Mapping[Counted, Reading]:
        if self._source is None:
            return {}
        where = sorted({part.node for part in wanted})
        namespaces = sorted({part.counted.namespace for part in wanted if part.counted.namespace})
        try:
            return self._source.read(where, namespaces)
        except (ConfigurationError, EnvironmentUpError) as error:
            if isinstance(self._source, MetricsApiSource):
                raise
            # Some clusters promise the right and refuse it all the same (GKE Autopilot); some nodes have no kubelet.
            self._fall_back(str(error))
            return {}

    def _samples(self, wanted: Sequence[Part], found: Mapping[Counted, Reading]) -> Iterator[UsageSample]:
        now, ahead_s = time.monotonic(), time.time() - time.monotonic()
        for component in sorted({one.component for one in self._wanted} - {part.component for part in wanted}):
            yield UsageSample(component, now, *(None,) * 5, part="all of its containers")
        for part in wanted:
            reading = found.get(part.counted)
            if reading is None:
                if part.counted not in self._newest_ms:
                    yield UsageSample(part.component, now, *(None,) * 5, part=str(part.counted))
            elif self._newest_ms.get(part.counted, -1) < reading.at_ms:
                self._newest_ms[part.counted] = reading.at_ms
                at_s = reading.at_ms / 1000 - self._offsets.get(part.node, 0.0) - ahead_s
                yield _sample(part, reading, at_s)

    def _compare_clocks(self) -> None:
        try:
            self._offsets = nodes.clock_offsets(self._cluster, self._facts)
        except MeshgaugeError as error:
            self._offsets_missing = f"taken for 0: {error}"
        else:
            silent = sorted(set(self._facts) - set(self._offsets))
            self._offsets_missing = f"taken for 0, no Lease was renewed: {', '.join(silent)}" if silent else None

    def _sharing(self) -> str | None:
        shared = sorted({one.component for one in self._wanted if one.where_in_play})
        if not shared:
            return None
        where = ", ".join(sorted(self._ever_in_play)) or "no node"
        return (
            f"{', '.join(shared)} is shared by whole nodes: counted on {where}, "
            "what it did there for other workloads included"
        )

    def _note_gap(self, message: str) -> None:
        if len(self._gaps) < _MOST_REMEMBERED:
            self._gaps.append(message)


def _sample(part: Part, reading: Reading, at_s: float) -> UsageSample:
    return UsageSample(
        component=part.component,
        at_s=at_s,
        cpu_user_s=reading.cpu_user_s,
        cpu_system_s=reading.cpu_system_s,
        memory_bytes=None if reading.memory_bytes is None else int(reading.memory_bytes),
        threads=None if reading.threads is None else int(reading.threads),
        context_switches=None,
        cpu_s=reading.cpu_s,
        throttled_s=reading.throttled_s,
        part=str(part.counted),
        source=reading.source,
    )


def _nodes_of(wanted: Iterable[Part], component: str) -> tuple[str, ...]:
    return tuple(sorted({part.node for part in wanted if part.component == component}))


def _name(source: KubeletSource | MetricsApiSource | None) -> str | None:
    if isinstance(source, KubeletSource):
        return ", ".join(source.endpoints()) or kubelets.CADVISOR
    return None if source is None else metrics_api.GROUP


def _listed(permissions: Iterable[Permission]) -> str:
    return ", ".join(map(str, permissions))
