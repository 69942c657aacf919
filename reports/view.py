"""What the page's tables show: texts and marks, ready to be escaped and printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshgauge.matrix import Cell, is_baseline
from meshgauge.run import EnvironmentRecord, RunRecord
from meshgauge.trial import CLOCKS, GateStatus
from reports.analysis import Analysis, Answer
from reports.comparison import Comparison
from reports.figures.canvas import FigurePage
from reports.figures.diary import why_invalid
from reports.figures.gallery import Gallery
from reports.headlines import Headline, headlines
from reports.provenance import flattened, host_facts
from reports.questions import Pair, Scope, arm_name, scope_of, without_control
from reports.readings import MeasuredTrial, Readings
from reports.wording import (
    ABSENT,
    NBSP,
    added,
    blocks_compared,
    companion,
    difference,
    interval,
    level,
    lost,
    on_scale,
    verdict_text,
)


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One metric of one pair, as shown."""

    metric: str
    unit: str
    control: str
    arm: str
    difference: str
    interval: str
    added: str
    n: str
    verdict: str
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class ResultGroup:
    """All lines of one pair. ``unequal`` names the settings in which its two meshes differ; empty when in none."""

    label: str
    unequal: str
    lines: tuple[ResultLine, ...]


@dataclass(frozen=True, slots=True)
class QuestionBlock:
    """One question within a section."""

    headline: Headline
    against: str
    figure: FigurePage | None
    groups: tuple[ResultGroup, ...]
    margins: str


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about one scope."""

    number: int
    scope: Scope
    describes: str
    questions: tuple[QuestionBlock, ...]
    percentiles: FigurePage | None
    cost: FigurePage | None
    clocks: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One feature over all arms; ``differs`` marks what is not equal."""

    feature: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features in play per profile: only arms of one profile are meant to be equal."""

    profile: str
    arms: tuple[str, ...]
    rows: tuple[FeatureRow, ...]


@dataclass(frozen=True, slots=True)
class TrialLine:
    """One trial, as shown."""

    block: int
    turn: int
    arm: str
    scope: str
    status: GateStatus
    state: str
    values: tuple[str, ...]
    notes: tuple[str, ...]


def sections(analysis: Analysis, gallery: Gallery) -> tuple[Section, ...]:
    """Return one section per scope of the run."""
    run = analysis.run
    said = {(h.question, h.scope): h for h in headlines(analysis)}
    scopes = tuple(dict.fromkeys(scope_of(cell) for cell in run.cells))
    return tuple(
        Section(
            at + 1,
            scope,
            _describe(next(cell for cell in run.cells if scope_of(cell) == scope)),
            tuple(
                _question(answer, headline, scope, gallery, run)
                for answer in analysis.answers
                if (headline := said.get((answer.question.title, scope)))
            ),
            gallery.percentiles.get(scope),
            gallery.costs.get(scope),
            tuple(_clock_lines([cell for cell in run.cells if scope_of(cell) == scope], analysis.readings)),
        )
        for at, scope in enumerate(scopes)
    )


def features_table(run: RunRecord) -> tuple[FeatureTable, ...]:
    """Return the features in play of all arms, side by side per profile, rows that differ marked."""
    environments = {
        cell.environment.key: cell.environment for cell in run.cells if not is_baseline(cell.environment.mesh)
    }
    tables = []
    for profile in dict.fromkeys(environment.profile.name for environment in environments.values()):
        arms: dict[str, Mapping[str, str]] = {}
        for key, environment in environments.items():
            if environment.profile.name == profile:
                arms |= _columns(environment.mesh.label, run.features.get(key, {}))
        names = dict.fromkeys(name for features in arms.values() for name in features)
        rows = []
        for name in names:
            values = tuple(features.get(name, "not stated") for features in arms.values())
            rows.append(FeatureRow(name.replace("_", " "), values, len(set(values)) > 1))
        if rows:
            tables.append(FeatureTable(profile, tuple(arms), tuple(sorted(rows, key=lambda row: not row.differs))))
    return tuple(tables)


TRIAL_COLUMNS = ("p50", "p99", "achieved_rps", "errors", "cpu_data_plane", "cpu")


def trial_rows(analysis: Analysis) -> tuple[TrialLine, ...]:
    """Return every trial of the run in order, with what its gates said."""
    return tuple(_trial_line(turn) for turn in analysis.readings.trials)


def failed_environments(run: RunRecord) -> tuple[EnvironmentRecord, ...]:
    """Return the attempts that did not come to a good end."""
    return tuple(environment for environment in run.environments if environment.outcome not in {"done", None})


def run_facts(run: RunRecord) -> tuple[tuple[str, str], ...]:
    """Return what identifies the run."""
    facts = [
        ("run", run.run_id),
        ("plan", f"{run.plan.name}, sha256 {run.plan_sha256}"),
        ("seed of all orders", str(run.seed)),
        ("blocks", f"{run.plan.blocks} planned, {run.blocks} ordered"),
        ("submitted", f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC by {run.submitted_by}"),
        ("started", f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC" if run.started_at else "not yet"),
        ("finished", f"{run.finished_at:%Y-%m-%d %H:%M:%S} UTC" if run.finished_at else "not yet"),
    ]
    facts += [(name, value) for name, value in flattened({k: v for k, v in run.provenance.items() if k != "hosts"})]
    for arm in run.arms:
        hops = ", ".join(
            f"{hop.role} {hop.adapter} {hop.version}{f' from {hop.binary}' if hop.binary else ''}" for hop in arm.hops
        )
        facts.append((f"arm {arm.label}", hops or "no proxy on the path"))
    facts += [(f"left out: {s.mesh}, {s.profile}, {s.infrastructure}", s.reason) for s in run.skipped]
    facts += [(f"nothing to compare with: {cell.key}", "no baseline cell") for cell in without_control(run)]
    return tuple(facts)


def host_tables(run: RunRecord) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return the facts of each host."""
    return tuple((name, tuple(flattened(facts))) for name, facts in sorted(host_facts(run).items()))


def environment_tables(run: RunRecord) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return what each environment was made of, from its newest attempt; facts of the host are told once elsewhere."""
    newest = {environment.key: environment.provenance for environment in run.environments if environment.provenance}
    return tuple(
        (key, tuple(flattened({name: fact for name, fact in facts.items() if name != "host"})))
        for key, facts in newest.items()
    )


def _columns(mesh: str, roles: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Return a column for each proxy of a mesh; proxies that are set alike share one."""
    shared: list[tuple[list[str], Mapping[str, str]]] = []
    for role, features in roles.items():
        like = next((names for names, known in shared if known == features), None)
        if like is None:
            shared.append(([role], features))
        else:
            like.append(role)
    return {f"{mesh} ({', '.join(names)})": features for names, features in shared}


def _describe(cell: Cell) -> str:
    load, spec = cell.load, cell.environment.workload.spec
    rate = "closed loop" if load.rate_rps is None else f"{load.rate_rps:g} requests a second, {load.arrival} arrivals"
    size = "" if spec.reply_bytes is None else f", replies of {spec.reply_bytes} bytes"
    return (
        f"{rate} over {load.connections} connections, {spec.method} over {spec.protocol}{size}; "
        f"{load.warm_up_s:g} s warm-up, {load.window_s:g} s measured"
    )


def _question(answer: Answer, headline: Headline, scope: Scope, gallery: Gallery, run: RunRecord) -> QuestionBlock:
    groups: dict[str, list[Comparison]] = {}
    for c in answer.comparisons:
        if c.pair.scope == scope:
            groups.setdefault(c.pair.label, []).append(c)
    primary = {c.metric.name: c for members in groups.values() for c in members if c.metric.primary}
    return QuestionBlock(
        headline,
        answer.question.against,
        gallery.forests.get((answer.question.key, scope)),
        tuple(
            ResultGroup(label, _unequal_settings(members[0].pair, run), tuple(_line(c) for c in members))
            for label, members in groups.items()
        ),
        ", ".join(f"{name} ±{on_scale(c.metric, c.margin)}" for name, c in primary.items()),
    )


def _unequal_settings(pair: Pair, run: RunRecord) -> str:
    """Return the features that both meshes of a pair state, and state differently (measurement.md 7)."""
    arm, control = (run.features.get(cell.environment.key, {}) for cell in (pair.cell, pair.control))
    differing = {
        name.replace("_", " "): None
        for role in arm
        if role in control
        for name, value in arm[role].items()
        if control[role].get(name, value) != value
    }
    return ", ".join(differing)


def _line(c: Comparison) -> ResultLine:
    note = companion(c) or (lost(c) if c.metric.primary and c.n < c.planned else "")
    return ResultLine(
        c.metric.title,
        c.metric.unit,
        level(c.control_level),
        level(c.arm_level),
        difference(c) if c.metric.scale == "ratio" else difference(c).split(NBSP)[0],
        interval(c),
        added(c) if c.metric.unit == "ms" else "",
        blocks_compared(c),
        verdict_text(c.verdict) if c.verdict else "",
        c.verdict.word if c.verdict else "none",
        note,
    )


def _clock_lines(cells: Sequence[Cell], readings: Readings) -> Iterable[tuple[str, ...]]:
    """Yield per arm: p50 and p99 of every clock, medians over valid runs, in ms."""
    for cell in cells:
        turns = [turn for turns in readings.blocks_of(cell).values() for turn in turns if "latency" not in turn.spoiled]
        found = (_median(turn.clocks[clock][at] for turn in turns) for clock in CLOCKS for at in (0, 1))
        yield (arm_name(cell), *found, str(len(turns)))


def _median(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return level(statistics.median(known)) if known else ABSENT


def _trial_line(turn: MeasuredTrial) -> TrialLine:
    trial = turn.trial
    bad = [gate for gate in trial.gates if gate.status != "ok"]
    status: GateStatus = "invalid" if turn.spoiled else "degraded" if bad else "ok"
    notes = [f"{gate.status}: {gate.message}" for gate in sorted(bad, key=lambda gate: gate.status != "invalid")]
    reason = why_invalid(turn)
    if reason and not any(gate.status == "invalid" for gate in bad):
        notes.insert(0, reason)
    return TrialLine(
        trial.block + 1,
        trial.position + 1,
        arm_name(turn.cell) + (" (second turn)" if trial.replicate else ""),
        str(scope_of(turn.cell)),
        status,
        trial.state,
        tuple(level(turn.reading[name]) for name in TRIAL_COLUMNS),
        tuple(notes),
    )
