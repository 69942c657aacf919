"""The load order: what one trial's load is, as plain JSON between runner, Locust master and load workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal, Self


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Everything a Locust master and its load workers need for one trial.

    Attributes:
        target_host, target_port: where requests go (an IPv4 address, or a name that each load worker looks up).
        rate_rps: offered rate over all load workers; None for a closed loop.
        connections: over all load workers; a Locust user is one connection.
        expected_status, expected_body_bytes: any other reply is counted under its own outcome
            (``bad_body`` for the size); None checks no size.
        seed: of the arrival schedule; worker i uses a stream of its own derived from it.
        fifo_priority: SCHED_FIFO priority of the engine thread; None leaves it alone.
        cpus: cores the load workers may use; empty means all.
    """

    trial_id: str
    target_host: str
    target_port: int
    method: str
    path: str
    host_header: str
    headers: dict[str, str]
    body_bytes: int
    expected_status: int
    expected_body_bytes: int | None
    rate_rps: float | None
    connections: int
    arrival: Literal["poisson", "uniform", "burst", "ramp"]
    burst_requests: int
    ramp_from_rps: float | None
    warm_up_s: float
    window_s: float
    cool_down_s: float
    timeout_s: float
    requests_per_connection: int | None
    seed: int
    load_workers: int = 1
    protocol: Literal["http/1.1"] = "http/1.1"
    engine: Literal["auto", "native", "python"] = "auto"
    fifo_priority: int | None = None
    cpus: tuple[int, ...] = field(default=())
    locust_file: str | None = None

    def to_json(self) -> str:
        """Return the order as one JSON document."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the order ``to_json`` wrote."""
        data = json.loads(text)
        data["cpus"] = tuple(data["cpus"])
        return cls(**data)
