"""What every load engine does: connections in, a schedule in, counters and histograms out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from meshgauge.histogram import Histogram
from meshgauge.trial import Clock, Outcome

EngineName = Literal["native", "python"]
ArrivalKind = Literal["closed", "uniform", "poisson", "burst", "ramp"]
EngineState = Literal["connecting", "running", "draining", "finished", "stopped", "failed"]
ARRIVAL_KINDS: tuple[ArrivalKind, ...] = ("closed", "uniform", "poisson", "burst", "ramp")
ENGINE_STATES: tuple[EngineState, ...] = ("connecting", "running", "draining", "finished", "stopped", "failed")
BATCHES = 12  # equal parts of the window whose p50 the drift gate reads (measurement.md 6)


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what an expected reply is; fixed for the life of an engine.

    Attributes:
        host: numeric IPv4 address.
        request: the whole HTTP/1.1 request, head and body.
        capacity: most connections ever asked for.
        expected_body_bytes: None accepts any size; not looked at where HTTP has no body (HEAD, 204, 304).
        timeout_s: of a request from its send, and of a connect from its start.
        cpu: core the engine thread stays on; None: any.
    """

    host: str
    port: int
    request: bytes
    is_head: bool
    capacity: int
    expected_status: int
    expected_body_bytes: int | None
    timeout_s: float
    requests_per_connection: int | None = None
    fifo_priority: int | None = None
    cpu: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Arrivals of one engine; instants are ``time.monotonic_ns``.

    Attributes:
        rate_rps: this engine's share; None in a closed loop.
        phase: 0 <= phase < 1, the share of a gap by which ``uniform`` and ``ramp`` are shifted, so that the
            arrivals of several workers interleave.
        start_ns, window_start_ns, window_end_ns, end_ns: first arrival, measured window, last arrival.
    """

    kind: ArrivalKind
    rate_rps: float | None
    seed: int
    start_ns: int
    window_start_ns: int
    window_end_ns: int
    end_ns: int
    phase: float = 0.0
    burst_requests: int = 1
    ramp_from_rps: float | None = None

    @property
    def window_s(self) -> float:
        """Length of the measured window."""
        return (self.window_end_ns - self.window_start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Counts:
    """Where an engine stands. The first group covers all phases, the second arrivals of the window."""

    state: EngineState
    failure: str | None
    thread_id: int
    fifo_applied: bool
    connections_open: int
    connections_opened: int
    connect_failures: int
    connect_error: str | None
    requests_total: int
    replies_total: int
    errors_total: int

    offered: int
    sent: int
    done: int
    dropped: int
    waited: int
    backlog_peak: int


@dataclass(frozen=True, slots=True)
class SecondTally:
    """One finished second of the window, by intended start. ``net_ok``: net response of expected replies."""

    second: int
    offered: int
    sent: int
    done: int
    errors: int
    net_ok: Histogram
    engine_cpu_ratio: float | None


@dataclass(frozen=True, slots=True)
class WindowTally:
    """What the window saw. Ratios are of wall time; None where the kernel does not tell."""

    outcomes: Mapping[Outcome, int]
    histograms: Mapping[tuple[Outcome, Clock], Histogram]
    batches: tuple[Histogram, ...]
    engine_cpu_ratio: float | None
    run_delay_ratio: float | None


class Engine(Protocol):
    """One load generator. Its thread starts with it; nothing here blocks but ``close``."""

    name: EngineName
    abi: int | None

    def set_connections(self, connections: int) -> None:
        """Open or close connections until there are so many."""

    def begin(self, schedule: Schedule) -> None:
        """Hand over the schedule, once.

        Raises:
            ConfigurationError: the engine cannot drive that.
        """

    def stop(self) -> None:
        """End at once; what is in flight is abandoned and the window has no result."""

    def close(self) -> None:
        """Stop, wait for the thread, free everything."""

    def counts(self) -> Counts:
        """Return where it stands."""

    def live(self) -> Histogram:
        """Return the net response of expected replies in all phases so far."""

    def finished_seconds(self) -> list[SecondTally]:
        """Return the seconds of the window that finished since the last call, each exactly once."""

    def window(self) -> WindowTally:
        """Return what the window saw.

        Raises:
            MeasurementError: it has not finished.
        """
