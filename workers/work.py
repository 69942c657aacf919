"""The work order a watcher hands to a runner, and the events the runner answers with: both plain JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

from adapters.contract import HostTuning
from meshgauge.matrix import EnvironmentKey
from meshgauge.plan import Load
from meshgauge.resolved import ResolvedPlan
from meshgauge.trial import Nodes

ORDER_FILE = "order.json"


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """One trial still to be measured, in its turn.

    Attributes:
        load: its label.
        first_nodes: where the block's first trial of such an application and load stood; None: this will be it.
    """

    trial_id: str
    cell: str
    load: str
    first_nodes: Nodes | None = None


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """One attempt at an environment: what to bring up, which trials to measure, where to leave the results.

    Attributes:
        directory: of this attempt alone; the runner leaves each trial's results in a folder of its own below.
        runtime_dir: private and short-lived, for the environment's own files and sockets.
        first_master: HOST:PORT of the first trial's Locust master; load workers are asked to join it before the runner
            has even started, because their start takes as long as the environment's (those of a cluster come later).
        advertise_host: address of this host at which load workers reach it.
        load_image: container image of load workers in a cluster; empty: none was set.
        tuning: as chosen by the run's first environment; None: calibrate.
    """

    environment_id: str
    attempt: int
    site: str
    epoch: int
    key: str
    plan_text: str
    document: Mapping[str, Any]
    resolution: Mapping[str, Any]
    seed: int
    trials: tuple[TrialOrder, ...]
    directory: str
    runtime_dir: str
    cache_dir: str
    first_master: str
    load_engine: str
    quiet_host: bool
    advertise_host: str = "127.0.0.1"
    load_image: str = ""
    tuning: Mapping[str, Any] | None = field(default=None)

    def write(self) -> Path:
        """Write the order into its directory; return the file."""
        path = Path(self.directory) / ORDER_FILE
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the order ``write`` wrote."""
        data = json.loads(path.read_text())
        data["trials"] = tuple(TrialOrder(**trial) for trial in data["trials"])
        return cls(**data)

    def resolved(self) -> ResolvedPlan:
        """Return the run's frozen plan."""
        return ResolvedPlan.restored(self.plan_text, self.document, self.resolution, self.seed)

    def host_tuning(self) -> HostTuning | None:
        """Return the run's tuning, if it was chosen already."""
        return None if self.tuning is None else HostTuning(**self.tuning)


def environment_and_loads(order: WorkOrder) -> tuple[EnvironmentKey, dict[str, Load]]:
    """Return the environment the order names and the plan's loads by label."""
    resolved = order.resolved()
    environment = next(key for key in resolved.matrix.environments if key.key == order.key)
    return environment, {load.label: load for load in resolved.plan.loads}


class EventStream:
    """Writes one JSON line an event to where the watcher reads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @classmethod
    def taking_over_stdout(cls) -> Self:
        """Keep standard output for events alone: what anybody prints goes to standard error instead."""
        stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        return cls(stream)

    def send(self, event: str, **fields: Any) -> None:
        """Send one event; whoever reads sees it at once."""
        self._stream.write(json.dumps({"event": event, **fields}) + "\n")
        self._stream.flush()
