"""A run as one JSON document that says everything, versioned, with its JSON Schema.

Left out because other exports hold them better: histograms (``hdr``) and per-second rows (table ``seconds``).
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import JsonValue, TypeAdapter

from meshgauge.matrix import MeshArm, Skipped
from meshgauge.run import EnvironmentRecord
from meshgauge.trial import ComponentUsage, GateResult, LoadResult, TrialRecord, WorkerHealth
from reports.analysis import Analysis
from reports.comparing.remarks import Remark
from reports.headlines import headlines
from reports.readings.metrics import METRICS
from reports.readings.trials import MeasuredTrial
from reports.summary import ResultRow, result_rows

VERSION: Literal[1] = 1  # raised when a field changes its meaning, unit or name; added fields leave it as it is


@dataclass(frozen=True, slots=True)
class CellEntry:
    """One point of the matrix; the labels name entries of the plan and of ``arms``."""

    key: str
    mesh: str
    profile: str
    workload: str
    infrastructure: str
    load: str


@dataclass(frozen=True, slots=True)
class MetricEntry:
    """What a name in ``readings`` means. ``scale``: compared as ratio or as difference."""

    name: str
    title: str
    unit: str
    scale: str


@dataclass(frozen=True, slots=True)
class LoadEntry:
    """What the load of one trial saw in its window: counts of requests; times in the unit of their name."""

    engine: str
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
    outcomes: Mapping[str, int]
    batch_p50_us: tuple[float | None, ...]
    workers: tuple[WorkerHealth, ...]
    requests_total: int
    scheduling: str


@dataclass(frozen=True, slots=True)
class GateEntry:
    """One validity check of a trial: what was seen and its bound, in ``unit``, and what a bad answer spoils."""

    gate: str
    status: str
    spoils: tuple[str, ...]
    value: float | None
    limit: float | None
    unit: str
    message: str


@dataclass(frozen=True, slots=True)
class TrialEntry:
    """One trial, the attempt that counts.

    Attributes:
        block, turn: from 1. replicate: 1 for the control's second turn in a block.
        readings: per metric, in the unit ``metrics`` gives; null: not measured. Read before gates are looked at.
        clocks_ms: p50 and p99 of each clock, milliseconds.
        spoiled: kinds of metric no comparison may use; ``gates`` say why.
    """

    trial_id: str
    attempt: int
    cell: str
    block: int
    turn: int
    replicate: int
    state: str
    reason: str | None
    host: str | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    readings: Mapping[str, float | None]
    clocks_ms: Mapping[str, tuple[float | None, float | None]]
    spoiled: tuple[str, ...]
    degraded: tuple[str, ...]
    load: LoadEntry | None
    usage: tuple[ComponentUsage, ...]
    gates: tuple[GateEntry, ...]
    provenance: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class AnswerEntry:
    """The first line of an answer: a question about one workload, infrastructure and load, in words."""

    question: str
    workload: str
    infrastructure: str
    load: str
    text: str


@dataclass(frozen=True, slots=True)
class RunDocument:
    """Everything about one run.

    Attributes:
        format, version: what this is; readers refuse a version they do not know.
        plan: as validated, defaults written out; ``plan_sha256`` is of its verbatim text.
        arms: meshes with the exact versions measured.
        features: per environment, per hop, the value of each feature in play.
        environments: every attempt, failed ones included.
        results: one row a comparison, with interval, n and verdict.
        indicative, withheld: why verdicts are only indicative, or not given; null otherwise.
    """

    format: Literal["meshgauge-run"]
    version: Literal[1]
    run_id: str
    state: str
    reason: str | None
    submitted_by: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    plan: Mapping[str, JsonValue]
    plan_sha256: str
    seed: int
    blocks: int
    arms: tuple[MeshArm, ...]
    cells: tuple[CellEntry, ...]
    skipped: tuple[Skipped, ...]
    features: Mapping[str, Mapping[str, Mapping[str, str]]]
    metrics: tuple[MetricEntry, ...]
    answers: tuple[AnswerEntry, ...]
    indicative: str | None
    withheld: str | None
    remarks: tuple[Remark, ...]
    results: tuple[ResultRow, ...]
    trials: tuple[TrialEntry, ...]
    environments: tuple[EnvironmentRecord, ...]
    provenance: Mapping[str, JsonValue]


@functools.cache
def adapter() -> TypeAdapter[RunDocument]:
    """Return the (de)serialiser of the document."""
    return TypeAdapter(RunDocument)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    schema = adapter().json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:meshgauge:run:{VERSION}",
        **schema,
        "title": f"Meshgauge run, version {VERSION}",
    }


def run_json(analysis: Analysis) -> bytes:
    """Return the document of a run as UTF-8 JSON."""
    return adapter().dump_json(run_document(analysis), indent=2) + b"\n"


def run_document(analysis: Analysis) -> RunDocument:
    """Return everything about a run; null where nothing was measured."""
    run = analysis.run
    return RunDocument(
        format="meshgauge-run",
        version=VERSION,
        run_id=run.run_id,
        state=run.state,
        reason=run.reason,
        submitted_by=run.submitted_by,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        plan=run.plan.model_dump(mode="json"),
        plan_sha256=run.plan_sha256,
        seed=run.seed,
        blocks=run.blocks,
        arms=run.arms,
        cells=tuple(
            CellEntry(
                cell.key,
                cell.environment.mesh.label,
                cell.environment.profile.name,
                cell.environment.workload.label,
                cell.environment.infrastructure.name,
                cell.load.label,
            )
            for cell in run.cells
        ),
        skipped=run.skipped,
        features=run.features,
        metrics=tuple(MetricEntry(metric.name, metric.title, metric.unit, metric.scale) for metric in METRICS),
        answers=tuple(
            AnswerEntry(line.question, line.scope.workload, line.scope.infrastructure, line.scope.load, line.text)
            for line in headlines(analysis)
        ),
        indicative=analysis.indicative,
        withheld=analysis.withheld,
        remarks=analysis.remarks,
        results=result_rows(analysis),
        trials=tuple(_trial(turn) for turn in analysis.readings.trials),
        environments=run.environments,
        provenance=run.provenance,
    )


def _trial(turn: MeasuredTrial) -> TrialEntry:
    trial: TrialRecord = turn.trial
    return TrialEntry(
        trial_id=trial.trial_id,
        attempt=trial.attempt,
        cell=trial.cell,
        block=trial.block + 1,
        turn=trial.position + 1,
        replicate=trial.replicate,
        state=trial.state,
        reason=trial.reason,
        host=turn.host,
        started_at=trial.started_at,
        finished_at=trial.finished_at,
        readings=turn.reading,
        clocks_ms={str(clock): levels for clock, levels in turn.clocks.items()},
        spoiled=tuple(sorted(turn.spoiled)),
        degraded=tuple(sorted(turn.degraded)),
        load=None if trial.load is None else _load(trial.load),
        usage=trial.usage,
        gates=tuple(map(_gate, trial.gates)),
        provenance=trial.provenance,
    )


def _gate(gate: GateResult) -> GateEntry:
    spoils = tuple(sorted(gate.spoils))
    return GateEntry(gate.gate, gate.status, spoils, gate.value, gate.limit, gate.unit, gate.message)


def _load(load: LoadResult) -> LoadEntry:
    return LoadEntry(**{field.name: getattr(load, field.name) for field in fields(LoadEntry)})
