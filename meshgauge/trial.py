"""What was measured: trials with their histograms, usage and gates, and the run they belong to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from meshgauge.histogram import Histogram

# response = reply - intended start; service = reply - actual send; lag = send - max(intended, connection free);
# net = response - lag, the clock verdicts use (measurement.md 1).
Clock = Literal["response", "service", "lag", "net"]
CLOCKS: tuple[Clock, ...] = ("response", "service", "lag", "net")

# "ok" is the expected status with the expected body.
Outcome = Literal[
    "ok", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "timeout", "reset", "connect_failure", "bad_body"
]
OUTCOMES: tuple[Outcome, ...] = (
    "ok",
    "status_2xx",
    "status_3xx",
    "status_4xx",
    "status_5xx",
    "timeout",
    "reset",
    "connect_failure",
    "bad_body",
)

GateStatus = Literal["ok", "degraded", "invalid"]
Spoils = Literal["latency", "cpu", "memory", "throughput", "errors"]
TrialState = Literal["pending", "running", "measured", "invalid", "failed", "cancelled"]

# Components of an environment whose resources are counted. A data-plane component names its hop.
COMPONENTS = (
    "app",
    "data_plane/client",
    "data_plane/server",
    "data_plane/node",
    "control_plane",
    "load_generator",
    "trace_collector",
    "host",
)


@dataclass(frozen=True, slots=True)
class SecondRow:
    """One second of the measured window. Latencies are net response of expected replies."""

    second: int
    offered: int
    sent: int
    done: int
    errors: int
    p50_us: float | None
    p99_us: float | None
    engine_cpu_ratio: float | None


@dataclass(frozen=True, slots=True)
class UsageSample:
    """Cumulative counters of one component, or of one part of it, at one instant. None: not counted here.

    Attributes:
        at_s: when the counters had these values, after the window's start (as read: ``time.monotonic()``).
        cpu_s: user and system time together, where the split is unknown; None: their sum.
        part: one of the component's parts, each counted at instants of its own (a container); None: all of it.
        source: who counted; None: this host's kernel.
    """

    component: str
    at_s: float
    cpu_user_s: float | None
    cpu_system_s: float | None
    memory_bytes: int | None
    threads: int | None
    context_switches: int | None
    steal_s: float | None = None  # host only
    cpu_s: float | None = None
    throttled_s: float | None = None
    part: str | None = None
    source: str | None = None

    @property
    def cpu_total_s(self) -> float | None:
        """User and system time together."""
        return _total(self.cpu_s, self.cpu_user_s, self.cpu_system_s)


@dataclass(frozen=True, slots=True)
class ComponentUsage:
    """What one component used between the edges of the measured window. None: not measured.

    Attributes:
        window_s: between the first and the last instant of the window at which all of it was counted.
        cpu_s: user and system time together; None (as in old results): their sum.
        source: who counted; None: the host's own kernel.
        note: what a reader has to know of it: why it was not measured, or how far the number holds.
    """

    component: str
    window_s: float
    cpu_user_s: float | None
    cpu_system_s: float | None
    memory_mean_bytes: float | None
    memory_peak_bytes: float | None
    threads: int | None
    context_switches: int | None
    throttled_s: float | None = None
    steal_ratio: float | None = None  # host only
    steal_worst_10s_ratio: float | None = None  # host only
    cpu_s: float | None = None
    source: str | None = None
    note: str | None = None

    @property
    def cores(self) -> float | None:
        """Mean number of cores in use over the window."""
        total = _total(self.cpu_s, self.cpu_user_s, self.cpu_system_s)
        return None if total is None else total / self.window_s


def _total(both: float | None, user: float | None, system: float | None) -> float | None:
    if both is not None:
        return both
    return None if user is None or system is None else user + system


@dataclass(frozen=True, slots=True)
class GateResult:
    """The answer of one validity check.

    Attributes:
        spoils: the kinds of metric a bad answer makes unusable; the others stay valid.
        value, limit: what was seen and the bound it was held against, in ``unit``; None where there is no number.
    """

    gate: str
    status: GateStatus
    spoils: frozenset[Spoils]
    value: float | None
    limit: float | None
    unit: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """How one load worker fared. Ratios are of wall time over the window."""

    worker: str
    engine: Literal["native", "python", "locust_file"]
    engine_cpu_ratio: float | None
    run_delay_ratio: float | None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the load of one trial saw during the measured window, all load workers merged exactly.

    Attributes:
        histograms: one per outcome and clock that occurred.
        outcomes: requests per outcome; sums to ``done``.
        offered: arrivals whose intended start fell in the window; ``dropped`` of them were never sent.
        waited: arrivals that found no free connection.
        batch_p50_us: p50 (net, ok) of 12 equal parts of the window; None where a part is empty.
    """

    engine: Literal["native", "python", "locust_file"]
    engine_abi: int | None
    locust_version: str
    resolution_ns: int
    window_start: dt.datetime
    window_s: float
    offered: int
    sent: int
    done: int
    dropped: int
    waited: int
    backlog_peak: int
    connections_opened: int
    outcomes: Mapping[Outcome, int]
    histograms: Mapping[tuple[Outcome, Clock], Histogram]
    seconds: tuple[SecondRow, ...]
    batch_p50_us: tuple[float | None, ...]
    workers: tuple[WorkerHealth, ...]
    requests_total: int  # warm-up and cool-down included: what the proxies should have counted
    scheduling: str = "normal"

    @property
    def achieved_rps(self) -> float:
        """Replies a second inside the window."""
        return self.done / self.window_s

    def clock(self, clock: Clock, outcome: Outcome = "ok") -> Histogram:
        """Return one histogram; the empty one when nothing of that outcome occurred."""
        return self.histograms.get((outcome, clock), Histogram())


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One attempt at a trial, as stored. ``load`` is None when the trial never got as far."""

    trial_id: str
    attempt: int
    block: int
    replicate: int  # 0, or 1 for the control's second turn in a block
    position: int  # turn of its environment within the block, from 0
    cell: str  # Cell.key
    state: TrialState
    reason: str | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    load: LoadResult | None
    usage: tuple[ComponentUsage, ...]
    gates: tuple[GateResult, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def invalid_for(self) -> frozenset[str]:
        """The kinds of metric that a gate of this trial spoils; all when it was not measured."""
        if self.load is None:
            return frozenset({"latency", "cpu", "memory", "throughput", "errors"})
        return frozenset().union(*(gate.spoils for gate in self.gates if gate.status == "invalid"))


# Names of the nodes of a cluster that each side (app, load) of a trial stood on, sorted.
Nodes = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class MeasuredTrial:
    """The answer of one attempt at a trial, on its way from the worker to the store.

    Attributes:
        checks: the treatment checks made before, during and after it, as plain JSON.
        nodes: None: it was not measured, or in no cluster.
    """

    trial_id: str
    state: Literal["measured", "invalid", "failed"]
    reason: str | None
    load: LoadResult | None
    samples: tuple[UsageSample, ...]
    usage: tuple[ComponentUsage, ...]
    gates: tuple[GateResult, ...]
    checks: tuple[Mapping[str, Any], ...]
    nodes: Nodes | None = None
