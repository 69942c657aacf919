"""Counters of containers and nodes out of the kubelet's metrics text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

CADVISOR_PATH = "/api/v1/nodes/{node}/proxy/metrics/cadvisor"
RESOURCE_PATH = "/api/v1/nodes/{node}/proxy/metrics/resource"


class Counted(NamedTuple):
    """Whose counters: a container's; without namespace and container, those of the node called ``pod``."""

    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)

    @classmethod
    def node(cls, name: str) -> Counted:
        """Return the name of a whole node."""
        return cls("", name, "")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of one container (or node) at the instant its kubelet read them. None: this text does not tell.

    Attributes:
        at_ms: that instant by the node's clock, milliseconds since the epoch.
        cpu_s, cpu_user_s, cpu_system_s, throttled_s: cumulative, since the container started.
        memory_bytes: working set: what counts against its limit, page cache in use included.
        source: who told.
    """

    at_ms: int
    cpu_s: float | None = None
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    memory_bytes: float | None = None
    throttled_s: float | None = None
    threads: float | None = None
    source: str = ""


# Field of a Reading by the series that tells it. Source: github.com/google/cadvisor metrics/prometheus.go, and
# kubernetes pkg/kubelet/metrics/collectors/resource_metrics.go for the two of nodes.
_CONTAINER_SERIES = {
    "container_cpu_usage_seconds_total": "cpu_s",
    "container_cpu_user_seconds_total": "cpu_user_s",
    "container_cpu_system_seconds_total": "cpu_system_s",
    "container_memory_working_set_bytes": "memory_bytes",
    "container_cpu_cfs_throttled_seconds_total": "throttled_s",
    "container_threads": "threads",
}
_NODE_SERIES = {"node_cpu_usage_seconds_total": "cpu_s", "node_memory_working_set_bytes": "memory_bytes"}

_LABEL = re.compile(r'(?:^|,)(container|id|namespace|pod|cpu)="([^"]*)"')
_ROOT = "/"
_PAUSE = "POD"  # the container that holds a pod's namespaces: its use belongs to no component


def readings(text: str, node: str, source: str = "") -> Mapping[Counted, Reading]:
    """Return the newest counters of a node and of all its containers.

    Sums over pods and control groups are left out, as are lines without a timestamp: nobody knows when they were true.
    Of a container that restarted, the text may hold the old one as well: the newest counts.

    Args:
        text: of ``/metrics/cadvisor`` or ``/metrics/resource``. It may be megabytes: only series wanted are looked at.
        node: whose text it is.
        source: what to call it.
    """
    found: dict[tuple[Counted, str], dict[str, tuple[float, int]]] = {}
    for field, counted, identity, value, at_ms in _values(text, Counted.node(node)):
        found.setdefault((counted, identity), {})[field] = (value, at_ms)
    newest: dict[Counted, Reading] = {}
    for (counted, _), fields in found.items():
        reading = _reading(fields, source)
        if counted not in newest or newest[counted].at_ms < reading.at_ms:
            newest[counted] = reading
    return newest


def _reading(fields: Mapping[str, tuple[float, int]], source: str) -> Reading:
    """Return one reading at the instant of its CPU counter (memory is read within the same second)."""
    at_ms = fields["cpu_s"][1] if "cpu_s" in fields else max(at for _, at in fields.values())
    return Reading(at_ms, source=source, **{field: value for field, (value, _) in fields.items()})


def _values(text: str, node: Counted) -> Iterator[tuple[str, Counted, str, float, int]]:
    """Yield field, whose it is, the control group it was read from, value and instant of every line that counts."""
    for series, field in _CONTAINER_SERIES.items():
        for line in _lines(text, series + "{"):
            labels, _, rest = line.partition("} ")
            value, _, at_ms = rest.partition(" ")
            of = dict(_LABEL.findall(labels))
            counted = _counted(of, node)
            if counted is not None and at_ms:
                yield field, counted, of.get("id", ""), float(value), int(at_ms)
    for series, field in _NODE_SERIES.items():
        for line in _lines(text, series + " "):
            value, _, at_ms = line.partition(" ")
            if at_ms:
                yield field, node, "", float(value), int(at_ms)


def _counted(labels: Mapping[str, str], node: Counted) -> Counted | None:
    """Return whose line it is; None for sums, pause containers and shares of single processors."""
    if labels.get("cpu", "total") != "total":
        return None
    if labels.get("id") == _ROOT:
        return node
    container = labels.get("container", "")
    if not container or container == _PAUSE or not labels.get("pod"):
        return None
    return Counted(labels.get("namespace", ""), labels["pod"], container)


def _lines(text: str, start: str) -> Iterator[str]:
    """Yield what follows ``start`` in each line that begins with it. All of one series stand together."""
    at = 0 if text.startswith(start) else text.find("\n" + start) + 1
    if at == 0 and not text.startswith(start):
        return
    while text.startswith(start, at):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield text[at + len(start) : end].rstrip()
        at = end + 1
