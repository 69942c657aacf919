"""A run as one night of its schedule: a point for every series and primary metric, gaps included."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from meshgauge.matrix import Cell
from meshgauge.run import EnvironmentRecord, RunRecord
from meshgauge.selected import SelectedArm, is_pinned_version, selected_arms, versions_in_words
from meshgauge.trend import Point, SeriesName
from reports.comparing.comparison import Comparison, compare, observe, refusal
from reports.comparing.questions import Pair, questions_of, scope_of
from reports.comparing.remarks import aa_alarm
from reports.provenance import flattened
from reports.readings.metrics import METRICS, Metric
from reports.readings.trials import Readings

LEAST_BLOCKS_RATIO = (
    2 / 3
)  # of the planned ones: 2 of a night's 3. Fewer make a night much noisier than its neighbours.

# Facts of a host that may move its numbers and do not change by themselves from night to night.
_HOST_FACTS = (
    "cpu_model", "architecture", "cores_online", "cores_usable", "threads_per_core", "governor", "turbo",
    "clock_source", "kernel", "distribution", "virtualisation", "memory_bytes"
)  # fmt: skip
_TUNING_FACTS = ("idle_spinners", "fifo_priority")


def night_points(run: RunRecord, at: dt.datetime) -> tuple[Point, ...]:
    """Return one point per series and primary metric of a finished run.

    A series is an arm by its selector against the baseline; where the plan also names an exact version of the same
    mesh, a second one against that, which tells changes of the mesh from changes of the control. A point without a
    value is a gap and says why: too few valid blocks, an alarm of the night's A/A arm, or what a gate refused.

    Args:
        at: when the night was due.

    Raises:
        MeasurementError: a trial is counted twice.
    """
    readings = Readings(run)
    alarm = _aa_alarm(run, readings)
    named = {selected.arm.label: selected for selected in selected_arms(run.plan, run.arms)}
    points = []
    for name, pair in _pairs(run, named):
        facts = _facts(run, readings, pair)
        arm = _arm(run, pair, named[pair.cell.environment.mesh.label])
        for metric in METRICS:
            if not metric.primary:
                continue
            seen = observe(pair, metric, readings, run.plan.blocks, run.plan.margins)
            reason = _why_no_value(run, seen, readings, alarm)
            differences = seen.differences
            points.append(
                Point(
                    run_id=run.run_id,
                    at=at,
                    series=name,
                    metric=metric.name,
                    value=None if reason else statistics.fmean(differences),
                    sd=statistics.stdev(differences) if len(differences) > 1 else None,
                    blocks=seen.n,
                    arm_level=seen.arm_level,
                    control_level=seen.control_level,
                    reason=reason,
                    arm=arm,
                    environment=fingerprint(facts),
                    facts=facts,
                )
            )
    return tuple(points)


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return a short hash of facts, the same whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _pairs(run: RunRecord, named: Mapping[str, SelectedArm]) -> Iterator[tuple[SeriesName, Pair]]:
    """Yield every series of the plan with its two cells."""
    by_scope: dict[object, list[Cell]] = {}
    for cell in run.cells:
        by_scope.setdefault(scope_of(cell), []).append(cell)
    question = next((q for q in questions_of(run) if q.key == "baseline"), None)
    for pair in question.pairs if question else ():
        arm = named.get(pair.cell.environment.mesh.label)
        if arm is None:  # the A/A arm of a baseline that is a mesh
            continue
        control = named[pair.control.environment.mesh.label]
        yield _name(arm, pair, control), pair
        for other in by_scope[pair.scope]:
            pinned = named.get(other.environment.mesh.label)
            same_profile = other.environment.profile.name == pair.cell.environment.profile.name
            if pinned and same_profile and pinned is not control and is_pinned_version(pinned, of=arm):
                label = f"{pair.label} vs {other.environment.mesh.label}"
                yield _name(arm, pair, pinned), Pair(pair.cell, other, label, pair.scope)


def _name(arm: SelectedArm, pair: Pair, control: SelectedArm) -> SeriesName:
    profile = pair.cell.environment.profile.name
    return SeriesName(
        arm.name, profile, pair.scope.workload, pair.scope.infrastructure, pair.scope.load, control.name
    )  # fmt: skip


def _aa_alarm(run: RunRecord, readings: Readings) -> str | None:
    question = next((q for q in questions_of(run) if q.key == "aa"), None)
    if question is None:
        return None
    return aa_alarm(compare(question, readings, run.plan.blocks, run.plan.margins))


def _why_no_value(run: RunRecord, seen: Comparison, readings: Readings, alarm: str | None) -> str | None:
    if run.state == "cancelled":
        return "the run was cancelled"
    least = max(1, math.ceil(LEAST_BLOCKS_RATIO * run.plan.blocks - 1e-9))
    if seen.n < least:
        lost = f" ({'; '.join(seen.losses)})" if seen.losses else ""
        return f"{seen.n} of {run.plan.blocks} blocks are valid, {least} are needed{lost}"
    if alarm is not None:
        return f"A/A alarm: {alarm}"
    # Too few blocks for a verdict is what a night has by design; any other refusal stands.
    refused = refusal(seen, readings)
    return None if refused is None or refused.open else refused.reason


def _arm(run: RunRecord, pair: Pair, selected: SelectedArm) -> dict[str, Any]:
    hashes = _hashes(run, pair.cell)
    hops = [
        {"role": hop.role, "adapter": hop.adapter, "version": hop.version, "sha256": hashes.get(hop.role)}
        for hop in selected.arm.hops
    ]
    control = pair.control.environment
    return {
        "label": selected.arm.label,
        "version": versions_in_words(selected.arm),
        "hops": hops,
        "configuration": {
            "arm": run.features.get(pair.cell.environment.key, {}),
            "control": {"version": versions_in_words(control.mesh), **run.features.get(control.key, {})},
        },
    }


def _hashes(run: RunRecord, cell: Cell) -> dict[str, str]:
    """Return the hash of each proxy's binary by role, as the environments of the cell reported it."""
    found: dict[str, str] = {}
    for environment in run.environments:
        if environment.key == cell.environment.key:
            for role, facts in environment.provenance.get("hops", {}).items():
                if facts.get("sha256"):
                    found[role] = facts["sha256"]
    return found


def _facts(run: RunRecord, readings: Readings, pair: Pair) -> dict[str, Any]:
    """Return what should be the same from night to night where these two cells ran; None: it did not say."""
    keys = {pair.cell.environment.key, pair.control.environment.key}
    environments = [environment for environment in run.environments if environment.key in keys]
    loads = [
        turn.trial.load
        for cell in (pair.cell, pair.control)
        for turns in readings.blocks_of(cell).values()
        for turn in turns
        if turn.trial.load is not None
    ]
    return {
        "hosts": _hosts(run, environments),
        "tuning": {name: _said(environments, name) for name in _TUNING_FACTS},
        "load_engine": _joined(f"{load.engine} {load.engine_abi or ''}".strip() for load in loads),
        "engine_scheduling": _joined(load.scheduling for load in loads),
        "meshgauge": dict(flattened(run.provenance)).get("meshgauge.version"),
    }


def _hosts(run: RunRecord, environments: list[EnvironmentRecord]) -> dict[str, dict[str, Any]]:
    known = run.provenance.get("hosts", {})
    hosts: dict[str, dict[str, Any]] = {}
    for environment in environments:
        facts = environment.provenance.get("host") or known.get(environment.host) or {}
        hosts[environment.host] = {name: facts.get(name) for name in _HOST_FACTS if name in facts}
    return hosts


def _said(environments: list[EnvironmentRecord], name: str) -> str | None:
    tunings = [environment.provenance.get("tuning") for environment in environments]
    return _joined(str(tuning.get(name)) for tuning in tunings if tuning)


def _joined(values: Iterator[str]) -> str | None:
    return ", ".join(sorted(set(values))) or None


def primary_metrics() -> tuple[Metric, ...]:
    """Return the metrics that are followed, in the order of reading."""
    return tuple(metric for metric in METRICS if metric.primary)
