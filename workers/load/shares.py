"""What one load worker does of an order: its request, its connections, its part of the arrivals."""

from __future__ import annotations

from dataclasses import dataclass

from meshgauge.errors import ConfigurationError
from workers.load.engine.contract import Schedule, Target
from workers.load.order import LoadOrder

_NS_PER_S = 1_000_000_000
_SEED_STEP = 0x9E3779B97F4A7C15  # golden ratio: streams of neighbouring workers share nothing
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's part.

    Attributes:
        index: 0 <= index < workers.
        connections, connections_before: its connections, and those of the workers before it.
        connections_total: of all workers.
    """

    index: int
    connections: int
    connections_before: int
    connections_total: int
    burst_requests: int

    @property
    def ratio(self) -> float:
        """Its part of the rate: arrivals follow connections."""
        return self.connections / self.connections_total


def shares_of(order: LoadOrder, connections: list[int]) -> list[Share]:
    """Split an order among workers that hold so many ``connections`` each.

    Raises:
        ConfigurationError: a burst is too small to be split.
    """
    total = sum(connections)
    if order.arrival == "burst" and order.rate_rps is not None and order.burst_requests < len(connections):
        raise ConfigurationError(
            f"bursts of {order.burst_requests} requests cannot be split among {len(connections)} load workers:"
            " raise burst_requests or lower load_workers"
        )
    shares, before = [], 0
    for index, own in enumerate(connections):
        each, rest = divmod(order.burst_requests, len(connections))
        shares.append(Share(index, own, before, total, each + (index < rest)))
        before += own
    return shares


def request_of(order: LoadOrder) -> bytes:
    """Return the request every connection sends, head and body.

    Raises:
        ConfigurationError: a header would break out of its line.
    """
    headers = {"Host": order.host_header, **order.headers}
    if order.body_bytes:
        headers["Content-Length"] = str(order.body_bytes)
    lines = [f"{order.method} {order.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ConfigurationError(f"the request line or header {line!r} contains a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + b"x" * order.body_bytes


def target_of(order: LoadOrder, index: int) -> Target:
    """Return where worker ``index`` sends and what it expects."""
    cpu = order.cpus[index % len(order.cpus)] if order.cpus else None
    return Target(
        host=order.target_host,
        port=order.target_port,
        request=request_of(order),
        is_head=order.method == "HEAD",
        capacity=-(-order.connections // order.load_workers),
        expected_status=order.expected_status,
        expected_body_bytes=order.expected_body_bytes,
        timeout_s=order.timeout_s,
        requests_per_connection=order.requests_per_connection,
        fifo_priority=order.fifo_priority,
        cpu=cpu,
    )


def schedule_of(order: LoadOrder, share: Share, start_ns: int) -> Schedule:
    """Return the arrivals of one worker from ``start_ns`` (``time.monotonic_ns``) on.

    Bursts of all workers coincide; uniform arrivals interleave; Poisson streams are independent, so that their
    sum is Poisson again.
    """
    window_start_ns = start_ns + round(order.warm_up_s * _NS_PER_S)
    window_end_ns = window_start_ns + round(order.window_s * _NS_PER_S)
    rate_rps, ramp_from_rps, ratio = order.rate_rps, order.ramp_from_rps, share.ratio
    if order.arrival == "burst":
        ratio = share.burst_requests / order.burst_requests
    return Schedule(
        kind="closed" if rate_rps is None else order.arrival,
        rate_rps=None if rate_rps is None else rate_rps * ratio,
        ramp_from_rps=None if ramp_from_rps is None else ramp_from_rps * ratio,
        burst_requests=share.burst_requests,
        phase=share.connections_before / share.connections_total,
        seed=(order.seed + (share.index + 1) * _SEED_STEP) & _U64,
        start_ns=start_ns,
        window_start_ns=window_start_ns,
        window_end_ns=window_end_ns,
        end_ns=window_end_ns + round(order.cool_down_s * _NS_PER_S),
    )
