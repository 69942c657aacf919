"""The words of the table of services: what to start, when it is ready, how it is restarted and stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from meshgauge.errors import ConfigurationError

Ready = Callable[[], str | None]
"""A readiness probe: None when ready, else a short phrase on what is still missing. Returns within 2 s."""

Prepare = Callable[[], Mapping[str, str]]
"""Runs before every start (first use, what a crash left); returns additional environment variables."""


def _nothing_to_prepare() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Restart:
    """How soon a service that died is started again: doubling pauses, forgotten after a quiet time."""

    first_s: float = 0.5
    longest_s: float = 30.0
    quiet_s: float = 60.0

    def pause_s(self, deaths: int) -> float:
        """Return the pause before the next start after ``deaths`` deaths in a row, in seconds."""
        return min(self.longest_s, self.first_s * 2.0 ** min(deaths - 1, 16))


@dataclass(frozen=True, slots=True)
class StopStep:
    """A signal, and how long to wait for the end before the next step; after the last comes SIGKILL."""

    signal: signal.Signals
    grace_s: float


@dataclass(frozen=True, slots=True)
class Service:
    """One line of the table.

    kind: a ``daemon`` runs for ever and is restarted; a ``task`` runs once and must exit 0.
    ready_within_s: longest time from start to ready during ``up``; None: as long as it lives (recovery).
    parent_death: signal the kernel sends it when the supervisor dies, however that happens.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    kind: Literal["daemon", "task"] = "daemon"
    ready: Ready | None = None
    ready_within_s: float | None = 60.0
    prepare: Prepare = _nothing_to_prepare
    restart: Restart = field(default_factory=Restart)
    stop: tuple[StopStep, ...] = (StopStep(signal.SIGTERM, 10.0),)
    parent_death: signal.Signals = signal.SIGKILL


def start_order(services: Sequence[Service]) -> list[list[Service]]:
    """Return the services in levels: each level needs only earlier ones. Stopping walks them backwards.

    Raises:
        ConfigurationError: a service waits for one that is not in the table, or for itself.
    """
    known = {service.name for service in services}
    if len(known) != len(services):
        raise ConfigurationError("two services of the table have the same name; names must be unique")
    for service in services:
        if missing := set(service.after) - known:
            raise ConfigurationError(f"service {service.name!r} waits for {sorted(missing)}, not in the table")
    levels: list[list[Service]] = []
    placed: set[str] = set()
    while len(placed) < len(services):
        level = [s for s in services if s.name not in placed and placed.issuperset(s.after)]
        if not level:
            circle = sorted(known - placed)
            raise ConfigurationError(f"services {circle} wait for one another; remove one of their 'after' entries")
        levels.append(level)
        placed.update(service.name for service in level)
    return levels
