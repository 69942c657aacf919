"""Texts of a kubelet's /metrics/cadvisor and /metrics/resource, of our own making, in the shape of real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fake:
    """Counters of one container. ``limited``: it has a CPU limit, so that throttling is counted."""

    namespace: str
    pod: str
    container: str
    at_ms: int
    user_s: float
    system_s: float
    memory_bytes: int = 64 << 20
    threads: int = 3
    throttled_s: float = 0.0
    limited: bool = False
    attempt: int = 0

    @property
    def group(self) -> str:
        """Its control group."""
        return f"/kubepods.slice/kubepods-pod{self.pod}.slice/cri-containerd-{self.container}{self.attempt}.scope"


Of = Callable[[Fake], float]


def cadvisor_text(containers: Sequence[Fake], node_at_ms: int, node_cpu_s: float, node_memory_bytes: int) -> str:
    """Return a node's text: its root group, slices, each pod's sum and pause container, and the containers."""
    pods = sorted({(one.namespace, one.pod) for one in containers})
    lines = ["# HELP cadvisor_version_info A metric with a constant '1' value", "# TYPE cadvisor_version_info gauge"]
    lines.append('cadvisor_version_info{cadvisorRevision="",kernelVersion="6.8.0"} 1')
    counters: tuple[tuple[str, Of, float | None], ...] = (
        ("container_cpu_cfs_throttled_seconds_total", lambda c: c.throttled_s, None),
        ("container_cpu_system_seconds_total", lambda c: c.system_s, 0.25),
        ("container_cpu_usage_seconds_total", lambda c: c.user_s + c.system_s, 1.0),
        ("container_cpu_user_seconds_total", lambda c: c.user_s, 0.75),
    )
    for series, of, share in counters:
        lines += [f"# HELP {series} Cumulative time.", f"# TYPE {series} counter"]
        cpu = 'cpu="total",' if series == "container_cpu_usage_seconds_total" else ""
        if share is not None:
            lines.append(_line(series, cpu, "/", value=node_cpu_s * share, at_ms=node_at_ms))
            lines.append(_line(series, cpu, "/kubepods.slice", value=node_cpu_s * share / 2, at_ms=node_at_ms))
            for namespace, pod in pods:
                lines.append(_line(series, cpu, f"/pod{pod}", "", namespace, pod, 9e9, node_at_ms))
                lines.append(_line(series, cpu, f"/pod{pod}/p", "POD", namespace, pod, 9e9, node_at_ms))
        for one in containers:
            if one.limited or share is not None:
                lines.append(_line(series, cpu, one.group, one.container, one.namespace, one.pod, of(one), one.at_ms))
    gauges: tuple[tuple[str, Of], ...] = (
        ("container_memory_working_set_bytes", lambda c: c.memory_bytes),
        ("container_threads", lambda c: c.threads),
    )
    for series, of in gauges:
        lines += [f"# HELP {series} Current value.", f"# TYPE {series} gauge"]
        lines.append(_line(series, "", "/", value=node_memory_bytes, at_ms=node_at_ms))
        for one in containers:
            lines.append(_line(series, "", one.group, one.container, one.namespace, one.pod, of(one), one.at_ms))
    lines += ["# TYPE machine_cpu_cores gauge", 'machine_cpu_cores{boot_id="b",machine_id="m"} 4']
    return "\n".join(lines) + "\n"


def resource_text(containers: Sequence[Fake], node_at_ms: int, node_cpu_s: float, node_memory_bytes: int) -> str:
    """Return what /metrics/resource says of the same."""
    lines = ["# TYPE container_cpu_usage_seconds_total counter"]
    for one in containers:
        of = f'container="{one.container}",namespace="{one.namespace}",pod="{one.pod}"'
        lines.append(f"container_cpu_usage_seconds_total{{{of}}} {one.user_s + one.system_s} {one.at_ms}")
    lines.append("# TYPE container_memory_working_set_bytes gauge")
    for one in containers:
        of = f'container="{one.container}",namespace="{one.namespace}",pod="{one.pod}"'
        lines.append(f"container_memory_working_set_bytes{{{of}}} {float(one.memory_bytes)!r} {one.at_ms}")
    lines += [
        "# TYPE node_cpu_usage_seconds_total counter",
        f"node_cpu_usage_seconds_total {node_cpu_s} {node_at_ms}",
        "# TYPE node_memory_working_set_bytes gauge",
        f"node_memory_working_set_bytes {node_memory_bytes:.12e} {node_at_ms}",
        "# TYPE resource_scrape_error gauge",
        "resource_scrape_error 0",
    ]
    return "\n".join(lines) + "\n"


def _line(
    series: str,
    cpu: str,
    group: str,
    container: str = "",
    namespace: str = "",
    pod: str = "",
    value: float = 0.0,
    at_ms: int = 0,
) -> str:
    image = "registry.example/i@sha256:0" if container else ""
    labels = f'container="{container}",{cpu}id="{group}",image="{image}",name="n",namespace="{namespace}",pod="{pod}"'
    return f"{series}{{{labels}}} {float(value)!r} {at_ms}"
