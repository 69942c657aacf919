"""What master and load workers say to each other, as plain data that msgpack carries. No Locust in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from meshgauge.histogram import Histogram
from meshgauge.trial import Clock, Outcome
from workers.load.engine.contract import Counts, SecondTally, WindowTally

# worker -> master: who I am; master -> worker: the order; worker -> master: understood, or why not
HELLO, PREPARE, PREPARED = "mesh_hello", "mesh_prepare", "mesh_prepared"
# master -> worker: are your connections up? worker -> master: so many
CONNECT, CONNECTED = "mesh_connect", "mesh_connected"
# master -> worker: your share and when to start; worker -> master: how it goes, what came out, what went wrong
BEGIN, PROGRESS, RESULT, FAILED = "mesh_begin", "mesh_progress", "mesh_result", "mesh_failed"

EngineKind = Literal["native", "python", "locust_file"]


def second_to_wire(second: SecondTally) -> dict[str, Any]:
    """Return a finished second as plain data."""
    return {
        "second": second.second,
        "offered": second.offered,
        "sent": second.sent,
        "done": second.done,
        "errors": second.errors,
        "net_ok": second.net_ok.encode(),
        "engine_cpu_ratio": second.engine_cpu_ratio,
    }


def second_from_wire(data: Mapping[str, Any]) -> SecondTally:
    """Return what ``second_to_wire`` wrote."""
    return SecondTally(**{**data, "net_ok": Histogram.decode(data["net_ok"])})


@dataclass(frozen=True, slots=True)
class Progress:
    """How one worker gets on, about once a second. ``live``: replies of this interval, net response."""

    replies: int
    interval_s: float
    live: Histogram
    seconds: tuple[SecondTally, ...]

    def to_wire(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "replies": self.replies,
            "interval_s": self.interval_s,
            "live": self.live.encode(),
            "seconds": [second_to_wire(second) for second in self.seconds],
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Return what ``to_wire`` wrote."""
        seconds = tuple(second_from_wire(second) for second in data["seconds"])
        return cls(data["replies"], data["interval_s"], Histogram.decode(data["live"]), seconds)


@dataclass(frozen=True, slots=True)
class WorkerResult:
    """Everything one load worker measured in the window; its seconds went ahead with Progress."""

    worker: str
    engine: EngineKind
    engine_abi: int | None
    offered: int
    sent: int
    done: int
    dropped: int
    waited: int
    backlog_peak: int
    connections_opened: int
    requests_total: int
    fifo_applied: bool
    outcomes: Mapping[Outcome, int]
    histograms: Mapping[tuple[Outcome, Clock], Histogram]
    batches: tuple[Histogram, ...]
    engine_cpu_ratio: float | None
    run_delay_ratio: float | None

    @classmethod
    def of(cls, worker: str, engine: EngineKind, abi: int | None, counts: Counts, window: WindowTally) -> Self:
        """Put an engine's final counters together."""
        return cls(
            worker=worker,
            engine=engine,
            engine_abi=abi,
            offered=counts.offered,
            sent=counts.sent,
            done=counts.done,
            dropped=counts.dropped,
            waited=counts.waited,
            backlog_peak=counts.backlog_peak,
            connections_opened=counts.connections_opened,
            requests_total=counts.requests_total,
            fifo_applied=counts.fifo_applied,
            outcomes=window.outcomes,
            histograms=window.histograms,
            batches=window.batches,
            engine_cpu_ratio=window.engine_cpu_ratio,
            run_delay_ratio=window.run_delay_ratio,
        )

    def to_wire(self) -> dict[str, Any]:
        """Return plain data; histograms compressed."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["outcomes"] = dict(self.outcomes)
        plain["histograms"] = [[*key, histogram.encode()] for key, histogram in self.histograms.items()]
        plain["batches"] = [batch.encode() for batch in self.batches]
        return plain

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Return what ``to_wire`` wrote."""
        plain = dict(data)
        plain["histograms"] = {(outcome, clock): Histogram.decode(raw) for outcome, clock, raw in plain["histograms"]}
        plain["batches"] = tuple(Histogram.decode(raw) for raw in plain["batches"])
        return cls(**plain)


@dataclass(frozen=True, slots=True)
class Begin:
    """When to start. Hosts agree through their wall clocks where these agree, else through the delay.

    Attributes:
        sent_unix_s: the master's wall clock when it sent this.
        lead_s: start so long after that.
        connections: of all workers in order; ``index`` is the receiver's place.
    """

    sent_unix_s: float
    lead_s: float
    index: int
    connections: list[int]

    def delay_s(self, now_unix_s: float) -> float:
        """Return how long to wait from now.

        With clocks that agree the message has been under way for 0..lead seconds and all workers start at one
        instant. Anything else means that clocks differ: then the lead counts from the receipt, and workers are
        apart by what the network delays the message.
        """
        under_way_s = now_unix_s - self.sent_unix_s
        return self.lead_s - under_way_s if 0 <= under_way_s <= self.lead_s else self.lead_s

    def to_wire(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
