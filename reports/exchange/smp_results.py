"""Results as Service Mesh Performance messages: milliseconds in ``latencies_ms``, real ids, nothing made up."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshgauge.histogram import TAIL_REQUESTS, Histogram
from meshgauge.matrix import Cell, MeshArm, is_baseline
from meshgauge.trial import LoadResult
from reports.analysis import Analysis
from reports.comparing.questions import Scope, scope_of
from reports.exchange import smp_messages as smp
from reports.exchange.smp_messages import BYTES_PER_MB
from reports.provenance import cores_of, host_facts
from reports.readings.metrics import VERDICT_CLOCK, VERDICT_OUTCOME, component_cores, error_percent, is_data_plane
from reports.readings.quantiles import NS_PER_MS
from reports.readings.trials import MeasuredTrial

VERSION = 1
NOTES = (
    "One PerformanceTestResult is one trial; SMP knows no repeats, so the blocks of a cell are results beside each "
    "other that share test_id and mesh_config_id. Do not average their percentiles.",
    "latencies_ms are milliseconds: net response time of expected replies (from the intended start, the generator's "
    "own lateness taken off), bucket edges within 0.1 %.",
    "SMP has no field for requests, errors, validity or further percentiles: they are in labels, as text with unit.",
    "cpu_mcores, mem_mb (1 MB = 1 000 000 bytes) and rps are rounded to whole numbers, as SMP's fields are. They are "
    "means over the valid trials of the cell, of all its sidecars together; bps is left out: bytes are not measured.",
    "mesh_type 0 (INVALID_MESH) stands for no mesh and for a bare data plane: SMP has no word for either.",
    "Trials that failed, or whose latency a gate spoiled, are in left_out with the reason, never among the results.",
)

_NOT_KNOWN = "no latencies, or some beyond 68.7 s: SMP's fields cannot say that they are not known"


def smp_document(analysis: Analysis) -> dict[str, Any]:
    """Return the messages of a run, one list a message type, and what could not be said in them.

    SMP has no message around results. The keys of ours are the names of its messages; each entry is one valid message.
    """
    scopes: dict[Scope, Cell] = {}
    for cell in analysis.run.cells:
        scopes.setdefault(scope_of(cell), cell)
    results, left_out = [], []
    for turn in analysis.readings.trials:
        load, reason = turn.trial.load, _why_not(turn)
        latency = _latency(_histogram(load).unpacked()) if load is not None and reason is None else None
        if load is None or latency is None:
            left_out.append({"trial_id": turn.trial.trial_id, "cell": turn.cell.key, "reason": reason or _NOT_KNOWN})
        else:
            results.append(_result(analysis, turn, load, latency))
    return {
        "format": "meshgauge-smp",
        "version": VERSION,
        "notes": list(NOTES),
        "PerformanceTestConfig": [smp.as_json(_test(analysis, scope, cell)) for scope, cell in scopes.items()],
        "ServiceMeshConfig": [smp.as_json(_mesh_config(analysis, cell)) for cell in analysis.run.cells],
        "EnvironmentConfig": [smp.as_json(_environment(analysis, host)) for host in _hosts(analysis)],
        "PerformanceTestResult": [smp.as_json(result) for result in results],
        "left_out": left_out,
    }


def _why_not(turn: MeasuredTrial) -> str | None:
    load = turn.trial.load
    if load is None:
        return turn.trial.reason or f"trial {turn.trial.state}"
    if "latency" in turn.spoiled:
        failed = [gate.message for gate in turn.trial.gates if gate.status == "invalid" and "latency" in gate.spoils]
        return "; ".join(failed) or turn.trial.reason or f"trial {turn.trial.state}"
    return None


def _histogram(load: LoadResult) -> Histogram:
    return load.clock(VERDICT_CLOCK, VERDICT_OUTCOME)


def _latency(histogram: Histogram) -> smp.Latency | None:
    """Return SMP's six numbers in ms; None where one of them is not known."""
    least, p50, p90, p99 = (float(value) for value in histogram.quantiles_ns((0.0, 0.5, 0.9, 0.99)))
    mean, most = histogram.mean_ns(), histogram.max_ns()
    if mean is None or most is None or math.isnan(p99):
        return None
    return smp.Latency(*(value / NS_PER_MS for value in (least, mean, p50, p90, p99, most)))


def _result(analysis: Analysis, turn: MeasuredTrial, load: LoadResult, latency: smp.Latency) -> smp.TestResult:
    trial, run = turn.trial, analysis.run
    return smp.TestResult(
        id=f"{trial.trial_id}/{trial.attempt}",
        labels=_result_labels(turn, load),
        start_time=_utc(load.window_start),
        end_time=_utc(load.window_start + dt.timedelta(seconds=load.window_s)),
        latencies_ms=latency,
        actual_qps=load.achieved_rps,
        details_uri=f"/runs/{run.run_id}/report",
        test_id=_test_id(analysis, scope_of(turn.cell)),
        mesh_config_id=_mesh_id(analysis, turn.cell),
        env_id="" if turn.host is None else _environment_id(analysis, turn.host),
    )


def _result_labels(turn: MeasuredTrial, load: LoadResult) -> dict[str, str]:
    histogram = _histogram(load)
    above = histogram.total * 0.01
    errors = error_percent(load)
    labels = {
        "cell": turn.cell.key,
        "block": str(turn.trial.block + 1),
        "replicate": str(turn.trial.replicate),
        "state": turn.trial.state,
        "clock": "net response time of expected replies",
        "requests": str(load.done),
        "dropped_requests": str(load.dropped),
    }
    if errors is not None:
        labels["errors_percent"] = f"{errors:.4f}"
    if above < TAIL_REQUESTS:
        labels["p99_remark"] = f"{above:.0f} requests lie above p99, fewer than the {TAIL_REQUESTS} we ask for"
    return {f"meshgauge.{name}": value for name, value in labels.items()}


def _test(analysis: Analysis, scope: Scope, cell: Cell) -> smp.TestConfig:
    load, workload, infrastructure = cell.load, cell.environment.workload.spec, cell.environment.infrastructure
    client = smp.Client(
        internal=False,
        load_generator="meshgauge",
        protocol=smp.PROTOCOL_HTTP,
        connections=load.connections,
        rps=0 if load.rate_rps is None else round(load.rate_rps),
        headers=workload.headers,
        endpoint_urls=() if infrastructure.target_url is None else (infrastructure.target_url,),
    )
    labels = {
        "loop": load.loop,
        "arrival": load.arrival,
        "warm_up_s": f"{load.warm_up_s:g}",
        "blocks": str(analysis.run.blocks),
        "workload": scope.workload,
        "infrastructure": scope.infrastructure,
        "method": workload.method,
        "path": workload.path,
    }
    if load.rate_rps is not None and load.rate_rps != client.rps:
        labels["rate_rps"] = f"{load.rate_rps:g}"
    return smp.TestConfig(
        id=_test_id(analysis, scope),
        name=f"{analysis.run.plan.name}: {scope}",
        labels={f"meshgauge.{name}": value for name, value in labels.items()},
        clients=(client,),
        duration=f"{load.window_s:g}s",
    )


def _mesh_config(analysis: Analysis, cell: Cell) -> smp.MeshConfig:
    environment = cell.environment
    profile, mesh, workload = environment.profile, environment.mesh, environment.workload
    turns = [turn for turns in analysis.readings.blocks_of(cell).values() for turn in turns]
    return smp.MeshConfig(
        id=_mesh_id(analysis, cell),
        labels={"meshgauge.arm": mesh.label, "meshgauge.placement": mesh.placement},
        sidecar=_sidecar(mesh, turns),
        mesh_control_plane=_control_plane(turns),
        mesh_telemetry_enabled=bool(mesh.hops) and (profile.metrics or profile.access_log),
        mtls_enabled=bool(mesh.hops) and profile.mtls,
        proxy_concurrency=profile.proxy_threads if mesh.hops else 0,
        proxy_build=", ".join(dict.fromkeys(f"{hop.adapter} {hop.binary or hop.version}" for hop in mesh.hops)),
        exp_group_uuid=analysis.run.run_id,
        profile=profile.name,
        mesh_type=_mesh_type(mesh),
        application_metadata=smp.Application(
            workload.spec.app or workload.spec.name,
            workload.command.version if workload.command else "",
            smp.PROTOCOL_HTTP,
        ),
    )


def _mesh_type(mesh: MeshArm) -> smp.ServiceMesh:
    adapters = {hop.adapter for hop in mesh.hops}
    versions = ", ".join(dict.fromkeys(hop.version for hop in mesh.hops))
    kind = smp.MESH_TYPES.get(next(iter(adapters)), smp.INVALID_MESH) if len(adapters) == 1 else smp.INVALID_MESH
    what = "no mesh" if is_baseline(mesh) else ", ".join(f"{hop.role}: {hop.adapter}" for hop in mesh.hops)
    return smp.ServiceMesh(kind, versions, {"meshgauge.what": what})


def _sidecar(mesh: MeshArm, turns: Sequence[MeasuredTrial]) -> smp.Sidecar | None:
    """Return the means over trials whose CPU and memory are both valid; None without a proxy or such a trial."""
    found = [used for turn in turns if (used := _used(turn, is_data_plane_of=True)) is not None]
    if not mesh.hops or not found:
        return None
    cores, memory, rates = (statistics.fmean(column) for column in zip(*found, strict=True))
    hops = len(mesh.hops)
    return smp.Sidecar(hops, round(cores * 1000), round(memory / BYTES_PER_MB), round(rates * hops))


def _control_plane(turns: Sequence[MeasuredTrial]) -> smp.ControlPlane | None:
    found = [used for turn in turns if (used := _used(turn, is_data_plane_of=False)) is not None]
    if not found:
        return None
    cores, memory, _ = (statistics.fmean(column) for column in zip(*found, strict=True))
    return smp.ControlPlane(1, round(cores * 1000), round(memory / BYTES_PER_MB))


def _used(turn: MeasuredTrial, *, is_data_plane_of: bool) -> tuple[float, float, float] | None:
    """Return cores, bytes and replies a second of the proxies (or of the control plane); None where one is missing."""
    load = turn.trial.load
    if load is None or {"cpu", "memory"} & turn.spoiled:
        return None

    def wanted(component: str) -> bool:
        return is_data_plane(component) if is_data_plane_of else component == "control_plane"

    cores = [value for name, value in component_cores(turn.trial).items() if wanted(name)]
    memory = [usage.memory_mean_bytes for usage in turn.trial.usage if wanted(usage.component)]
    known_cores = [value for value in cores if value is not None]
    known_memory = [value for value in memory if value is not None]
    if not cores or len(known_cores) < len(cores) or len(known_memory) < len(memory):
        return None
    return sum(known_cores), sum(known_memory), load.achieved_rps


def _hosts(analysis: Analysis) -> Iterator[str]:
    return iter(dict.fromkeys(turn.host for turn in analysis.readings.trials if turn.host is not None))


def _environment(analysis: Analysis, host: str) -> smp.EnvironmentConfig:
    facts: Mapping[str, Any] = host_facts(analysis.run).get(host, {})
    cores, memory = cores_of(facts), facts.get("memory_bytes")
    node = (
        ()
        if cores is None or memory is None
        else (smp.Node(str(facts.get("cpu_model", "")), cores, round(memory / BYTES_PER_MB)),)
    )
    told = {name: str(facts[name]) for name in ("kernel", "distribution", "virtualisation") if facts.get(name)}
    return smp.EnvironmentConfig(
        _environment_id(analysis, host), {f"meshgauge.{name}": text for name, text in told.items()}, node
    )


def _test_id(analysis: Analysis, scope: Scope) -> str:
    return f"{analysis.run.run_id}/test/{scope.workload}/{scope.infrastructure}/{scope.load}"


def _mesh_id(analysis: Analysis, cell: Cell) -> str:
    return f"{analysis.run.run_id}/mesh/{cell.key}"


def _environment_id(analysis: Analysis, host: str) -> str:
    return f"{analysis.run.run_id}/host/{host}"


def _utc(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
