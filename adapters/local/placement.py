"""Which cores belong to the load generator, the proxies and the application."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CORES_TO_PART = 4

SHARED_WARNING = (
    "fewer than 4 cores: proxies and application share what the load generator leaves (all, where there is one core), "
    "so results are indicative (measurement.md 6)"
)


@dataclass(frozen=True, slots=True)
class CpuPlacement:
    """The cores of each party; empty: all. The same for every arm on a host, the baseline included."""

    load: tuple[int, ...] = ()
    proxies: tuple[int, ...] = ()
    app: tuple[int, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Whether any two parties compete for the same cores."""
        return not self.load or self.proxies == self.app


def place(cpus: Iterable[int], siblings: Iterable[tuple[int, ...]] = ()) -> CpuPlacement:
    """Return disjoint sets of ``cpus``: a quarter for load, a quarter for the app, the rest for proxies.

    Hardware threads of one core stay with one party wherever the numbers allow. With two or three cores the load
    generator has one to itself, and what is measured shares the rest: left to the scheduler, every migration moved
    the median (seen on two cores: 37 to 58 us within one window without a mesh, 58 to 59 us when placed).

    Args:
        cpus: the cores this process may use.
        siblings: groups of logical cores that share a physical one.
    """
    order = _siblings_together(sorted(set(cpus)), siblings)
    if len(order) < 2:
        return CpuPlacement()
    if len(order) < CORES_TO_PART:
        rest = tuple(order[1:])
        return CpuPlacement((order[0],), rest, rest)
    quarter = len(order) // 4
    load, app, proxies = order[:quarter], order[quarter : 2 * quarter], order[2 * quarter :]
    return CpuPlacement(tuple(sorted(load)), tuple(sorted(proxies)), tuple(sorted(app)))


def _siblings_together(cpus: list[int], siblings: Iterable[tuple[int, ...]]) -> list[int]:
    rank = {cpu: min(group) for group in siblings for cpu in group}
    return sorted(cpus, key=lambda cpu: (rank.get(cpu, cpu), cpu))


def place_on_this_host() -> CpuPlacement:
    """Return the placement for the cores this process may use."""
    cpus = os.sched_getaffinity(0)
    return place(cpus, [_siblings_of(cpu) for cpu in cpus])


def _siblings_of(cpu: int) -> tuple[int, ...]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return parse_cpu_list(path.read_text()) if path.exists() else (cpu,)


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the cores of a kernel list such as ``0-2,7``."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)
