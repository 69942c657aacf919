"""Which meshes work together: every combination of client and server mesh, what became of it and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meshgauge.matrix import Cell, MeshArm
from meshgauge.run import RunRecord
from reports.analysis import Analysis
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Scope, scope_of
from reports.readings.trials import MeasuredTrial

State = Literal["works", "check failed", "does not come up", "not measured", "not supported", "not in the plan"]


@dataclass(frozen=True, slots=True)
class Combination:
    """One client mesh with one server mesh.

    Attributes:
        reason: why it does not work or was not measured; empty where there is nothing to say.
        against_none: per metric, the comparison with the run's baseline; empty without one.
    """

    client: str
    server: str
    state: State
    reason: str
    cell: Cell | None
    against_none: Mapping[str, Comparison]

    @property
    def mixed(self) -> bool:
        """Whether the two sides are different meshes."""
        return self.client != self.server


@dataclass(frozen=True, slots=True)
class InteroperabilityMatrix:
    """All combinations of one profile in one scope; ``fields`` holds one for each client and server."""

    profile: str
    scope: Scope
    clients: tuple[str, ...]
    servers: tuple[str, ...]
    fields: Mapping[tuple[str, str], Combination]
    against: str | None

    @property
    def tried(self) -> tuple[Combination, ...]:
        """The combinations that were brought up, or that somebody tried to."""
        untried = {"not measured", "not supported", "not in the plan"}
        return tuple(field for field in self.fields.values() if field.state not in untried)


def matrices_of(analysis: Analysis) -> tuple[InteroperabilityMatrix, ...]:
    """Return a matrix for each profile and scope that has a pair of two different meshes."""
    run = analysis.run
    names = _names(run.arms)
    groups: dict[tuple[str, Scope], dict[str, Cell]] = {}
    for cell in run.cells:
        mesh = cell.environment.mesh
        if mesh.label in names:
            groups.setdefault((cell.environment.profile.name, scope_of(cell)), {}).setdefault(mesh.label, cell)
    baseline = next((answer for answer in analysis.answers if answer.question.key == "baseline"), None)
    compared: dict[str, dict[str, Comparison]] = {}
    for c in baseline.comparisons if baseline else ():
        compared.setdefault(c.pair.cell.key, {})[c.metric.name] = c
    turns: dict[str, list[MeasuredTrial]] = {}
    for turn in analysis.readings.trials:
        turns.setdefault(turn.cell.key, []).append(turn)
    found = []
    for (profile, scope), cells in groups.items():
        if not any(client != server for label in cells for client, server in [names[label]]):
            continue
        clients, servers = _sides(names.values(), 0), _sides(names.values(), 1)
        fields = {
            (client, server): _combination(client, server, profile, scope, cells, names, run, turns, compared)
            for client in clients
            for server in servers
        }
        against = baseline.question.against if baseline else None
        found.append(InteroperabilityMatrix(profile, scope, clients, servers, fields, against))
    return tuple(found)


def _names(arms: Sequence[MeshArm]) -> Mapping[str, tuple[str, str]]:
    """Return per arm label its client and server mesh: adapter and version, only for pairs; twins count once."""
    found: dict[str, tuple[str, str]] = {}
    for arm in arms:
        roles = {hop.role: f"{hop.adapter} {hop.binary or hop.version}" for hop in arm.hops}
        if arm.placement == "pair" and {"client", "server"} <= set(roles):
            sides = (roles["client"], roles["server"])
            if sides not in found.values():
                found[arm.label] = sides
    return found


def _sides(pairs: Iterable[tuple[str, str]], at: Literal[0, 1]) -> tuple[str, ...]:
    """Return the clients or the servers, in one order for both so that equal meshes lie on the diagonal."""
    known = list(pairs)
    everyone = dict.fromkeys(side for pair in known for side in pair)
    present = {pair[at] for pair in known}
    return tuple(name for name in everyone if name in present)


def _combination(
    client: str,
    server: str,
    profile: str,
    scope: Scope,
    cells: Mapping[str, Cell],
    names: Mapping[str, tuple[str, str]],
    run: RunRecord,
    turns: Mapping[str, Sequence[MeasuredTrial]],
    compared: Mapping[str, Mapping[str, Comparison]],
) -> Combination:
    label = next((label for label, sides in names.items() if sides == (client, server)), None)
    cell = cells.get(label) if label else None
    if cell is None:
        skipped = next(
            (
                s.reason
                for s in run.skipped
                if s.mesh == label and s.profile == profile and s.infrastructure == scope.infrastructure
            ),
            None,
        )
        state: State = "not in the plan" if skipped is None else "not supported"
        return Combination(client, server, state, skipped or "", None, {})
    state, reason = _state(cell, run, turns.get(cell.key, ()))
    return Combination(client, server, state, reason, cell, compared.get(cell.key, {}))


def _state(cell: Cell, run: RunRecord, turns: Sequence[MeasuredTrial]) -> tuple[State, str]:
    loaded = [turn for turn in turns if turn.trial.load is not None]
    unchecked = [
        gate.message
        for turn in loaded
        for gate in turn.trial.gates
        if gate.gate == "treatment" and gate.status == "invalid"
    ]
    if loaded and len(unchecked) < len(loaded):
        return "works", ""
    if loaded:
        return "check failed", unchecked[-1]
    attempts = [e for e in run.environments if e.key == cell.environment.key and e.outcome == "failed"]
    if attempts:
        return "does not come up", attempts[-1].reason or "no reason was recorded"
    failed = [turn.trial.reason for turn in turns if turn.trial.state == "failed"]
    if failed:
        return "does not come up", failed[-1] or "no reason was recorded"
    return "not measured", ""
