"""The validity gates of a trial: pure functions of what was measured. No gate reads the latency level of an arm."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from meshgauge.histogram import Histogram
from meshgauge.plan import Arrival
from meshgauge.trial import ComponentUsage, GateResult, GateStatus, LoadResult, Nodes, Spoils

EVERYTHING: frozenset[Spoils] = frozenset({"latency", "cpu", "memory", "throughput", "errors"})
_LATENCY: frozenset[Spoils] = frozenset({"latency"})
DRIFT_P = 0.01
FEWEST_PARTS = 8  # of 12: a slope over fewer says nothing
OVERFLOW_PERCENTILE = 0.99  # the highest percentile that gets a verdict


class TreatmentCheck(Protocol):
    """What the treatment checks of adapters look like from here."""

    @property
    def name(self) -> str: ...
    @property
    def passed(self) -> bool: ...
    @property
    def expected(self) -> str: ...
    @property
    def seen(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """Bounds of one gate, both for a value that should be small; ``falling`` ones should be large.

    Attributes:
        what: the start of its sentence.
        spoils: what a bad answer biases, and only that.
    """

    what: str
    unit: str
    degraded: float
    invalid: float
    spoils: frozenset[Spoils]
    falling: bool = False


# Source of every bound: the table of measurement.md 6. What each spoils, and why:
# - a rate that was not reached changes the cost of a request (fewer requests share a wake-up) and its latency;
# - a late or starved generator shifts latency, and when it runs out of CPU also the throughput it can ask for;
# - stolen time delays requests, and leaves caches cold, which costs CPU;
# - drift and growth mean that the window had no single latency to report.
THRESHOLDS: Mapping[str, Threshold] = {
    "achieved_ratio": Threshold("achieved / offered", "", 0.995, 0.99, frozenset({"latency", "cpu"}), falling=True),
    "send_lag_p50": Threshold("send lag p50", "ms", 0.1, 0.5, _LATENCY),
    "send_lag_p99": Threshold("send lag p99", "ms", 2.0, 50.0, _LATENCY),
    "run_delay": Threshold("load generator waited for a CPU, share of wall time", "%", 2.0, 10.0, _LATENCY),
    "engine_cpu": Threshold("CPU of the engine thread, share of a core", "%", 60.0, 80.0, _LATENCY | {"throughput"}),
    "steal_mean": Threshold("host steal, mean", "%", 2.0, 10.0, _LATENCY | {"cpu"}),
    "steal_worst_10s": Threshold("host steal, worst 10 s", "%", 5.0, 20.0, _LATENCY | {"cpu"}),
    "growth": Threshold("p50 of the second half / first half", "", 1.10, 1.20, _LATENCY),
    "drift": Threshold("drift of p50 over 12 parts of the window", "%", 5.0, 10.0, _LATENCY),
    "errors": Threshold("share of errors", "%", 0.01, 0.1, _LATENCY),
    "overflow": Threshold(
        "requests beyond the histogram, share", "%", 0.0, 100 * (1 - OVERFLOW_PERCENTILE) / 10, _LATENCY
    ),
    # The table names the label and no number: 1 % is what p99, the highest percentile with a verdict, would feel.
    "connection_limited": Threshold("arrivals without a free connection", "%", 1.0, math.inf, _LATENCY),
}
# Errors are mostly cheap, so many of them make a request look cheap: beyond 1 % the bias nears the margin of 3 %.
COSTLY_ERRORS_PERCENT = 1.0


def evaluate_gates(
    load: LoadResult,
    usage: Sequence[ComponentUsage],
    checks: Sequence[TreatmentCheck],
    lost: Sequence[str],
    arrival: Arrival,
    limited: Collection[str] = (),
    nodes: Nodes | None = None,
    first_nodes: Nodes | None = None,
) -> tuple[GateResult, ...]:
    """Return the answer of every gate for one trial.

    Args:
        checks: treatment checks before, during and after the trial.
        lost: a sentence for each component that died or restarted.
        limited: components whose CPU the plan limits: their throttling is what is measured, and no fault.
        nodes: where application and load of this trial stood; None: on one host, which is always the same.
        first_nodes: where they stood in the trial that is the measure for its block; None: this is the one.
        arrival: a ``ramp`` is meant to change within the window, so its growth and drift are not held against it.

    Source: measurement.md 6.
    """
    return (
        _held("achieved_ratio", load.done / load.offered if load.offered else None),
        _dropped(load.dropped),
        *_generator(load),
        *_steal(usage),
        *(() if arrival == "ramp" else _steadiness(load.batch_p50_us)),
        _errors(load),
        _overflow(load),
        _connection_limited(load),
        _lost(lost),
        _throttled(usage, limited),
        _treatment(checks),
        *([] if nodes is None else [_nodes(nodes, first_nodes)]),
    )


def growth(batch_p50_us: Sequence[float | None]) -> float | None:
    """Return the geometric mean p50 of the second half over that of the first; None when a half is empty."""
    half = len(batch_p50_us) // 2
    halves = [[math.log(v) for v in part if v] for part in (batch_p50_us[:half], batch_p50_us[half:])]
    if not all(halves):
        return None
    return math.exp(sum(halves[1]) / len(halves[1]) - sum(halves[0]) / len(halves[0]))


def drift_percent(batch_p50_us: Sequence[float | None]) -> float | None:
    """Return the fitted change of ln p50 over the window in per cent, 0 unless p < 0.01; None with too few parts.

    Source: slope over 12 batch means, reference/statistics.md 3.10 (Mann-Kendall on seconds is false in 50 %).
    """
    known = [(at, math.log(value)) for at, value in enumerate(batch_p50_us) if value]
    if len(known) < FEWEST_PARTS:
        return None
    at, logs = np.array([k[0] for k in known], dtype=float), np.array([k[1] for k in known])
    if np.ptp(logs) == 0:
        return 0.0
    slope, p_value = _slope(at, logs)
    change = 100 * abs(math.expm1(slope * (len(batch_p50_us) - 1)))
    return change if p_value < DRIFT_P else 0.0


def _slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the least-squares slope of y on x and its two-sided p.

    ``scipy.stats.linregress`` gives the same; every trial's runner would pay 0.8 s of CPU to import it.
    """
    freedom = len(x) - 2
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    error = math.sqrt(float(residual @ residual) / freedom / float(centred @ centred))
    return slope, (2 * float(stdtr(freedom, -abs(slope) / error)) if error > 0 else 0.0)


def _held(gate: str, value: float | None, spoils: frozenset[Spoils] | None = None) -> GateResult:
    """Hold a value against the table. A value nobody measured is degraded: the check could not be made."""
    bound = THRESHOLDS[gate]
    spoils = bound.spoils if spoils is None else spoils
    if value is None:
        return GateResult(gate, "degraded", spoils, None, bound.degraded, bound.unit, f"{bound.what}: not measured")
    status: GateStatus = "ok"
    limit = bound.degraded
    if _beyond(value, bound.degraded, bound.falling):
        status = "degraded"
    if _beyond(value, bound.invalid, bound.falling):
        status, limit = "invalid", bound.invalid
    unit = f" {bound.unit}" if bound.unit else ""
    side = "at least" if bound.falling else "at most"
    message = f"{bound.what} {value:.4g}{unit}, {side} {limit:g}{unit} wanted"
    return GateResult(gate, status, spoils, value, limit, bound.unit, message)


def _beyond(value: float, bound: float, falling: bool) -> bool:
    return value < bound if falling else value > bound


def _dropped(dropped: int) -> GateResult:
    message = f"{dropped} arrivals were never sent" if dropped else "every arrival was sent"
    spoils: frozenset[Spoils] = frozenset({"latency", "cpu", "throughput"})
    return GateResult("dropped", "invalid" if dropped else "ok", spoils, float(dropped), 0.0, "arrivals", message)


def _generator(load: LoadResult) -> Iterator[GateResult]:
    lag = Histogram.merged(histogram for (_, clock), histogram in load.histograms.items() if clock == "lag")
    p50, p99 = lag.quantile_ns(0.5), lag.quantile_ns(0.99)
    yield _held("send_lag_p50", None if p50 is None else p50 / 1e6)
    yield _held("send_lag_p99", None if p99 is None else p99 / 1e6)
    yield _held("run_delay", _worst_percent(worker.run_delay_ratio for worker in load.workers))
    yield _held("engine_cpu", _worst_percent(worker.engine_cpu_ratio for worker in load.workers))


def _worst_percent(ratios: Iterable[float | None]) -> float | None:
    """Return the largest ratio as per cent; None when one of them, perhaps the worst, is unknown."""
    values = list(ratios)
    known = [value for value in values if value is not None]
    return 100 * max(known) if known and len(known) == len(values) else None


def _steal(usage: Sequence[ComponentUsage]) -> Iterator[GateResult]:
    hosts = [component for component in usage if component.component == "host"]
    yield _held("steal_mean", _worst_percent(host.steal_ratio for host in hosts))
    yield _held("steal_worst_10s", _worst_percent(host.steal_worst_10s_ratio for host in hosts))


def _steadiness(batch_p50_us: Sequence[float | None]) -> Iterator[GateResult]:
    yield _held("growth", growth(batch_p50_us))
    yield _held("drift", drift_percent(batch_p50_us))


def _errors(load: LoadResult) -> GateResult:
    if load.done == 0:
        message = "no request got a reply"
        return GateResult("errors", "invalid", _LATENCY | {"cpu", "throughput"}, None, None, "%", message)
    percent = 100 * (load.done - load.outcomes.get("ok", 0)) / load.done
    spoils: frozenset[Spoils] = frozenset({"latency", "cpu", "throughput"})
    if percent <= COSTLY_ERRORS_PERCENT:
        spoils = _LATENCY
    return _held("errors", percent, spoils)


def _overflow(load: LoadResult) -> GateResult:
    slowest = Histogram.merged(histogram for (_, clock), histogram in load.histograms.items() if clock == "net")
    return _held("overflow", 100 * slowest.overflow / slowest.total if slowest.total else None)


def _connection_limited(load: LoadResult) -> GateResult:
    return _held("connection_limited", 100 * load.waited / load.offered if load.offered else None)


def _lost(lost: Sequence[str]) -> GateResult:
    # A crash makes real errors: their count stays a finding, the rest is not the measurement that was planned.
    message = "; ".join(lost) or "no component died or restarted"
    spoils = EVERYTHING - {"errors"}
    return GateResult("components", "invalid" if lost else "ok", spoils, float(len(lost)), 0.0, "components", message)


def _throttled(usage: Sequence[ComponentUsage], limited: Collection[str]) -> GateResult:
    throttled = {u.component: u.throttled_s for u in usage if u.component != "host" and u.throttled_s}
    message = "; ".join(
        f"{name} was throttled for {seconds:.3g} s{' by the limit the plan sets' if name in limited else ''}"
        for name, seconds in throttled.items()
    )
    return GateResult(
        "throttling",
        "invalid" if throttled.keys() - set(limited) else "ok",
        frozenset({"latency", "cpu", "throughput"}),
        sum(throttled.values()),
        0.0,
        "s",
        message or "no throttling was reported",
    )


def _treatment(checks: Sequence[TreatmentCheck]) -> GateResult:
    failed = [f"{check.name}: expected {check.expected}, saw {check.seen}" for check in checks if not check.passed]
    status: GateStatus = "invalid" if failed else "ok"
    message = "; ".join(failed) or f"all {len(checks)} checks passed"
    return GateResult("treatment", status, EVERYTHING, float(len(failed)), 0.0, "failed checks", message)


def _nodes(nodes: Nodes, first: Nodes | None) -> GateResult:
    """Hold the nodes against those of the block's first: its arms would differ by them, too."""
    expected = nodes if first is None else first
    sides = sorted(nodes.keys() | expected.keys())
    moved = [side for side in sides if set(nodes.get(side, ())) != set(expected.get(side, ()))]
    if moved:
        where = "; ".join(f"{side} on {_named(nodes, side)}, there on {_named(expected, side)}" for side in moved)
        message = (
            f"stood on other nodes than the first of its block: {where}. Pin both with the cluster's app_nodes and "
            "load_nodes, to labels that only as many nodes carry as are always filled (kubernetes.io/hostname: NAME)"
        )
    else:
        where = "; ".join(f"{side} on {_named(nodes, side)}" for side in sides)
        message = f"{where}: {'the first of its block' if first is None else 'as the first of its block'}"
    return GateResult("nodes", "invalid" if moved else "ok", EVERYTHING, float(len(moved)), 0.0, "sides", message)


def _named(nodes: Nodes, side: str) -> str:
    return ", ".join(sorted(nodes.get(side, ()))) or "no node"
