"""What is read from each trial: one number per metric, or None where it was not measured or is spoiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from meshgauge.histogram import Histogram
from meshgauge.matrix import Cell, is_baseline
from meshgauge.plan import Margins
from meshgauge.trial import CLOCKS, Clock, LoadResult, Spoils, TrialRecord
from reports.comparing.statistics import LN_SD_FLOOR
from reports.readings.quantiles import reportable_quantiles_ms

MIB = 2**20
LATENCY_PERCENTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

# Verdicts stand on these two; everything else is shown beside them (measurement.md 1 and 4).
VERDICT_CLOCK: Literal["net"] = "net"
VERDICT_OUTCOME: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of number read from a trial.

    Attributes:
        scale: ``ratio`` is compared as ln(arm / control), shown as per cent; ``difference`` as arm - control, for
            what the control has none of (the CPU of proxies) or where ratios mean nothing (errors).
        spoiled_by: the kind of gate that makes it unusable.
        margin: picks the difference too small to matter; None: no verdict is given, only an interval.
        words: verdict when the arm has more of it, and when it has less.
        resolution: floor of the standard deviation, on the scale of the comparison.
    """

    name: str
    title: str
    unit: str
    scale: Literal["ratio", "difference"]
    spoiled_by: Spoils
    margin: Callable[[Margins], float] | None = None
    words: tuple[Literal["slower", "more"], Literal["faster", "less"]] = ("more", "less")
    resolution: float = LN_SD_FLOOR

    @property
    def primary(self) -> bool:
        """Whether it gets a verdict."""
        return self.margin is not None

    def __reduce__(self) -> tuple[Callable[[str], Metric], tuple[str]]:
        """Travel between processes by name: there is one object for each metric, and functions do not travel."""
        return metric_named, (self.name,)


CORES_PER_KRPS = "cores per 1000 rps"

# The primary CPU metric is a ratio, so it needs a control that is not zero: app and data plane together, which is
# what one request costs where it is served. The data plane alone is a plain difference (statistics.md 4.5).
METRICS: tuple[Metric, ...] = (
    Metric("p50", "median latency (p50)", "ms", "ratio", "latency", lambda m: m.p50_ratio, ("slower", "faster")),
    Metric("p99", "tail latency (p99)", "ms", "ratio", "latency", lambda m: m.p99_ratio, ("slower", "faster")),
    Metric("cpu", "CPU of app and data plane", CORES_PER_KRPS, "ratio", "cpu", lambda m: m.cpu_ratio),
    Metric("p90", "latency p90", "ms", "ratio", "latency"),
    Metric("p999", "latency p99.9", "ms", "ratio", "latency"),
    # 0.1 ms of CPU a second: what a scheduler tick or a clock of /proc can still tell apart over a window
    Metric("cpu_data_plane", "CPU of the data plane", CORES_PER_KRPS, "difference", "cpu", resolution=1e-4),
    Metric("cpu_control_plane", "CPU of the control plane", CORES_PER_KRPS, "difference", "cpu", resolution=1e-4),
    Metric("cpu_host", "CPU of the whole host, load generator included", CORES_PER_KRPS, "ratio", "cpu"),
    # one page of memory
    Metric("memory_data_plane", "memory of the data plane", "MiB", "difference", "memory", resolution=4096 / MIB),
    Metric("achieved_rps", "replies a second", "rps", "ratio", "throughput"),
    # one request in 100 000; per-run differences keep their error rate here, pooled proportions do not (3.8)
    Metric("errors", "share of errors", "% points", "difference", "errors", resolution=1e-3),
)
METRIC_OF: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


def metric_named(name: str) -> Metric:
    """Return a metric by its name."""
    return METRIC_OF[name]


Reading = Mapping[str, float | None]
ClockLevels = Mapping[Clock, tuple[float | None, float | None]]


def read_trial(trial: TrialRecord, cell: Cell) -> Reading:
    """Return every metric of one trial in its unit, gates left aside; None where it was not measured."""
    if trial.load is None:
        return {metric.name: None for metric in METRICS}
    return {
        **_latencies(trial.load),
        **_costs(trial, trial.load, cell),
        "memory_data_plane": _data_plane_memory_mib(trial, cell),
        "achieved_rps": trial.load.achieved_rps,
        "errors": error_percent(trial.load),
    }


def clock_levels(load: LoadResult | None, other_than: Clock | None = None) -> ClockLevels:
    """Return p50 and p99 of each clock over expected replies, in ms; None with too few requests.

    Args:
        other_than: a clock to leave out, whose levels are known.
    """
    levels: dict[Clock, tuple[float | None, float | None]] = {}
    for clock in CLOCKS:
        if clock != other_than:
            histogram = Histogram() if load is None else load.clock(clock, VERDICT_OUTCOME)
            p50, p99 = reportable_quantiles_ms(histogram, (0.5, 0.99))
            levels[clock] = (p50, p99)
    return levels


def usable(reading: float | None, metric: Metric, spoiled: frozenset[str]) -> float | None:
    """Return the reading when it may enter a comparison: measured, not spoiled, positive where its ln is taken."""
    if reading is None or not math.isfinite(reading) or metric.spoiled_by in spoiled:
        return None
    return None if metric.scale == "ratio" and reading <= 0 else reading


def spoiled_kinds(trial: TrialRecord) -> frozenset[str]:
    """Return the kinds of metric of a trial that no comparison may use."""
    everything = frozenset({"latency", "cpu", "memory", "throughput", "errors"})
    if trial.state not in {"measured", "invalid"}:
        return everything
    spoiled = trial.invalid_for
    return everything if trial.state == "invalid" and not spoiled else spoiled


def degraded_kinds(trial: TrialRecord) -> frozenset[str]:
    """Return the kinds of metric that a gate calls degraded: they count, and make a verdict indicative."""
    return frozenset().union(*(gate.spoils for gate in trial.gates if gate.status == "degraded"))


def error_percent(load: LoadResult) -> float | None:
    """Return the share of replies that were not the expected ones, in per cent; None without replies."""
    if load.done == 0:
        return None
    return 100 * (load.done - load.outcomes.get(VERDICT_OUTCOME, 0)) / load.done


def component_cores(trial: TrialRecord) -> Mapping[str, float | None]:
    """Return the mean cores in use over the window per component; None where a part of it was not measured."""
    cores: dict[str, float | None] = {}
    for usage in trial.usage:
        known, more = cores.get(usage.component, 0.0), usage.cores
        cores[usage.component] = None if known is None or more is None else known + more
    return cores


def cores_per_krps(cores: float | None, load: LoadResult) -> float | None:
    """Return cores per 1000 replies a second; None without either."""
    return None if cores is None or load.done == 0 else cores / load.achieved_rps * 1000


def is_data_plane(component: str) -> bool:
    """Return whether the component is a proxy on the path."""
    return component.startswith("data_plane")


def _latencies(load: LoadResult) -> dict[str, float | None]:
    histogram = load.clock(VERDICT_CLOCK, VERDICT_OUTCOME)
    values = reportable_quantiles_ms(histogram, tuple(LATENCY_PERCENTILES.values()))
    return dict(zip(LATENCY_PERCENTILES, values, strict=True))


def _costs(trial: TrialRecord, load: LoadResult, cell: Cell) -> dict[str, float | None]:
    cores = component_cores(trial)
    data_plane = _sum_of_data_plane(cores, cell)
    app = cores.get("app")
    serving = None if app is None or data_plane is None else app + data_plane
    return {
        "cpu": cores_per_krps(serving, load),
        "cpu_data_plane": cores_per_krps(data_plane, load),
        "cpu_control_plane": cores_per_krps(cores.get("control_plane"), load),
        "cpu_host": cores_per_krps(cores.get("host"), load),
    }


def _sum_of_data_plane(per_component: Mapping[str, float | None], cell: Cell) -> float | None:
    """Return the proxies' sum. Without a proxy on the path it is 0 by construction, not by lack of a reading."""
    if is_baseline(cell.environment.mesh):
        return 0.0
    parts = [value for component, value in per_component.items() if is_data_plane(component)]
    known = [value for value in parts if value is not None]
    return sum(known) if parts and len(known) == len(parts) else None


def _data_plane_memory_mib(trial: TrialRecord, cell: Cell) -> float | None:
    memory = {usage.component: usage.memory_mean_bytes for usage in trial.usage}
    total = _sum_of_data_plane(memory, cell)
    return None if total is None else total / MIB
