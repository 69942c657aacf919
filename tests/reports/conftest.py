"""A seeded synthetic run: lognormal latencies, block effects, and true ratios that are known."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from meshgauge.histogram import BUCKETS, Histogram, bucket_index
from meshgauge.matrix import Cell, Hop, Matrix, MeshArm, block_order, expand
from meshgauge.plan import Plan
from meshgauge.run import EnvironmentRecord, RunRecord
from meshgauge.trial import ComponentUsage, LoadResult, SecondRow, TrialRecord, WorkerHealth
from reports.gates import evaluate_gates

START = dt.datetime(2026, 7, 1, 22, 0, tzinfo=dt.UTC)


@dataclass(frozen=True)
class World:
    """What is true in a synthetic run.

    Attributes:
        ratio: true latency ratio to the baseline per arm label; default 1.
        cores: per arm label, true cores per 1000 rps of each proxy; default 0.2.
        profile_ratio: further latency ratio per profile name.
        block_sd, run_sd: of ln latency, shared by a block and private to a trial.
        spread: sigma of the lognormal body; the tail follows it.
    """

    ratio: Mapping[str, float]
    cores: Mapping[str, float]
    profile_ratio: Mapping[str, float]
    block_sd: float = 0.05
    run_sd: float = 0.02
    spread: float = 0.35
    base_us: float = 350.0
    requests: int = 20_000


def histogram_of(median_us: float, spread: float, requests: int) -> Histogram:
    """Return the histogram of evenly spaced quantiles of a lognormal: its p50 and p99 are known exactly."""
    ps = (np.arange(2000) + 0.5) / 2000
    values = median_us * 1000 * np.exp(spread * ndtri(ps))
    counts = np.bincount(bucket_index(values.astype(np.int64)), minlength=BUCKETS).astype(np.int64)
    return Histogram(counts * (requests // 2000))


def arm(label: str, adapter: str | None = None, version: str = "1.0.0", placement: str = "pair") -> MeshArm:
    """Return a mesh arm of one adapter; no adapter: no proxies."""
    roles = {"pair": ("client", "server"), "client": ("client",), "server": ("server",), "node": ("node",)}[placement]
    hops = tuple(Hop(role, adapter, version) for role in roles) if adapter else ()  # type: ignore[arg-type]
    return MeshArm(label, placement, hops)  # type: ignore[arg-type]


QUICKSTART_ARMS = (
    arm("none"),
    arm("envoy-1.40.0", "envoy", "1.40.0"),
    arm("envoy-1.36.4", "envoy", "1.36.4"),
    arm("nginx-1.31.0", "nginx", "1.31.0"),
    arm("haproxy-2.8.9", "haproxy", "2.8.9"),
)


def plan_of(arms: Sequence[MeshArm], **changes: Any) -> Plan:
    """Return a plan that fits the arms."""
    document: dict[str, Any] = {
        "name": "quickstart",
        "meshes": [{"adapter": a.hops[0].adapter if a.hops else "none", "label": a.label} for a in arms],
        "profiles": ["mtls"],
        "workloads": [{"name": "reply-1k", "app": "fixed-reply", "reply_bytes": 1024}],
        "loads": [{"rate_rps": 1000, "connections": 16, "warm_up_s": 3, "window_s": 20, "cool_down_s": 1}],
        "blocks": 10,
    }
    return Plan.model_validate(document | changes)


def _usage(cell: Cell, cores_per_krps: float, krps: float, window_s: float, noise: float) -> tuple[ComponentUsage, ...]:
    def component(name: str, cores: float, memory_mib: float) -> ComponentUsage:
        used = cores * krps * noise * window_s
        return ComponentUsage(name, window_s, used * 0.6, used * 0.4, memory_mib * 2**20, memory_mib * 2**20, 2, 1000)

    parts = [component("app", 0.08, 12), component("load_generator", 0.05, 90)]
    parts += [component(f"data_plane/{hop.role}", cores_per_krps, 48) for hop in cell.environment.mesh.hops]
    host = component("host", sum(part.cores or 0 for part in parts) / krps / noise + 0.1, 2000)
    return (*parts, replace(host, steal_ratio=0.001, steal_worst_10s_ratio=0.002))


def load_of(
    histogram: Histogram, rate_rps: float, window_s: float, *, errors: int = 0, batch_us: Sequence[float] | None = None
) -> LoadResult:
    """Return a calm load result around one latency histogram, with ``errors`` 503s beside it."""
    total = histogram.total
    lag = Histogram.of(np.full(total, 20_000))
    median_us = (histogram.quantile_ns(0.5) or 0) / 1000
    tail_us = (histogram.quantile_ns(0.99) or 0) / 1000
    per_second = max(round(total / window_s), 1)
    outcomes: dict[Any, int] = {"ok": total} | ({"status_5xx": errors} if errors else {})
    histograms: dict[Any, Histogram] = {("ok", "net"): histogram, ("ok", "response"): histogram, ("ok", "lag"): lag}
    if errors:
        histograms["status_5xx", "net"] = Histogram.of(np.full(errors, 100_000))
    return LoadResult(
        engine="native",
        engine_abi=1,
        locust_version="2.47.0",
        resolution_ns=1,
        window_start=START,
        window_s=total / rate_rps if total else window_s,
        offered=total + errors,
        sent=total + errors,
        done=total + errors,
        dropped=0,
        waited=0,
        backlog_peak=1,
        connections_opened=16,
        outcomes=outcomes,
        histograms=histograms,
        seconds=tuple(
            SecondRow(s, per_second, per_second, per_second, 0, median_us, tail_us, 0.1) for s in range(int(window_s))
        ),
        batch_p50_us=tuple(batch_us or [median_us] * 12),
        workers=(WorkerHealth("worker-1", "native", 0.1, 0.001),),
        requests_total=total + errors,
    )


@dataclass(frozen=True)
class RunFactory:
    """Makes synthetic runs. ``edit`` may replace or drop (None) any trial."""

    def __call__(
        self,
        arms: Sequence[MeshArm] = QUICKSTART_ARMS,
        *,
        seed: int = 1,
        ratio: Mapping[str, float] | None = None,
        cores: Mapping[str, float] | None = None,
        profile_ratio: Mapping[str, float] | None = None,
        state: str = "done",
        host_cores: int = 8,
        edit: Callable[[TrialRecord], TrialRecord | None] | None = None,
        world: Mapping[str, float] | None = None,
        **plan: Any,
    ) -> RunRecord:
        document = plan_of(arms, **plan)
        matrix = expand(document, arms, lambda *_: None)
        truth = World(ratio or {}, cores or {}, profile_ratio or {}, **(world or {}))  # type: ignore[arg-type]
        trials = _trials(document, matrix, truth, seed)
        kept = [t for t in map(edit, trials) if t is not None] if edit else trials
        finished = START + dt.timedelta(minutes=8)
        return RunRecord(
            run_id="0190f0c2-7d3a-7000-8000-000000000001",
            plan=document,
            plan_sha256="ab" * 32,
            arms=tuple(arms),
            cells=matrix.cells,
            skipped=matrix.skipped,
            seed=seed,
            blocks=document.blocks,
            state=state,  # type: ignore[arg-type]
            reason=None,
            submitted_by="tests",
            created_at=START,
            started_at=START,
            finished_at=finished,
            trials=tuple(kept),
            environments=_environments(kept, matrix),
            features=_features(matrix),
            provenance={
                "meshgauge": {"version": "0.1.0", "revision": "0123abc"},
                "revision": "abc1234",
                "hosts": {"bench-1": {"cores": host_cores, "kernel": "6.8.0", "memory_bytes": 16 * 2**30}},
            },
        )


def _trials(plan: Plan, matrix: Matrix, truth: World, seed: int) -> list[TrialRecord]:
    generator = np.random.default_rng(seed)
    at = START
    trials: list[TrialRecord] = []
    block_level: dict[int, float] = {}
    for turn in block_order(matrix, plan.blocks, seed, plan.baseline):
        shared = block_level.setdefault(turn.block, generator.normal(0, truth.block_sd))
        for cell in turn.cells:
            mesh, profile, load = cell.environment.mesh, cell.environment.profile, cell.load
            level = math.exp(shared + generator.normal(0, truth.run_sd))
            ratio = truth.ratio.get(mesh.label, 1.0)
            ratio *= truth.profile_ratio.get(profile.name, 1.0) if mesh.hops else 1.0
            rate_rps = load.rate_rps or 1000.0
            histogram = histogram_of(truth.base_us * ratio * level, truth.spread, truth.requests)
            result = load_of(histogram, rate_rps, load.window_s)
            usage = _usage(
                cell,
                truth.cores.get(mesh.label, 0.2),
                rate_rps / 1000,
                result.window_s,
                math.exp(generator.normal(0, truth.run_sd)),
            )
            trials.append(
                TrialRecord(
                    trial_id=f"trial-{len(trials)}",
                    attempt=1,
                    block=turn.block,
                    replicate=turn.replicate,
                    position=turn.position,
                    cell=cell.key,
                    state="measured",
                    reason=None,
                    started_at=at,
                    finished_at=at + dt.timedelta(seconds=load.duration_s),
                    load=result,
                    usage=usage,
                    gates=evaluate_gates(result, usage, (), (), "poisson"),
                )
            )
            at += dt.timedelta(seconds=load.duration_s + 2)
    return trials


def _environments(trials: Sequence[TrialRecord], matrix: Matrix) -> tuple[EnvironmentRecord, ...]:
    cells = {cell.key: cell for cell in matrix.cells}
    seen: dict[tuple[str, int, int], EnvironmentRecord] = {}
    for trial in trials:
        key = cells[trial.cell].environment.key
        seen.setdefault(
            (key, trial.block, trial.replicate),
            EnvironmentRecord(
                environment_id=f"environment-{len(seen)}",
                attempt=1,
                key=key,
                block=trial.block,
                position=trial.position,
                replicate=trial.replicate,
                worker="worker-1",
                host="bench-1",
                started_at=trial.started_at or START,
                finished_at=trial.finished_at,
                outcome="done",
                reason=None,
                provenance={},
            ),
        )
    return tuple(seen.values())


def _features(matrix: Matrix) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    return {
        environment.key: {
            hop.role: {
                "threads": "1",
                "tls": "1.3, TLS_AES_128_GCM_SHA256, SPIFFE" if hop.adapter == "envoy" else "1.3, chain only",
                "http_upstream": "HTTP/1.1",
                "retries": "off",
            }
            for hop in environment.mesh.hops
        }
        for environment in matrix.environments
    }


@pytest.fixture
def make_run() -> RunFactory:
    """Return the factory of synthetic runs."""
    return RunFactory()


@pytest.fixture
def make_arm() -> Callable[..., MeshArm]:
    """Return ``arm(label, adapter, version, placement)``."""
    return arm


@pytest.fixture
def make_load() -> Callable[..., LoadResult]:
    """Return ``load_of(histogram, rate_rps, window_s, errors=, batch_us=)``."""
    return load_of


@pytest.fixture
def make_histogram() -> Callable[..., Histogram]:
    """Return ``histogram_of(median_us, spread, requests)``."""
    return histogram_of
