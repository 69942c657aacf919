"""The questions a run answers: which cell is compared with which. Each question is one family of tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from meshgauge.matrix import Cell, MeshArm, is_baseline
from meshgauge.run import RunRecord

QuestionKey = Literal["baseline", "release", "profile", "application", "aa", "meshes", "consecutive"]


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What both sides of a comparison share."""

    workload: str
    infrastructure: str
    load: str

    def __str__(self) -> str:
        return f"{self.workload}, {self.infrastructure}, {self.load}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two cells to compare, and how to call the comparison in one line of a table."""

    cell: Cell
    control: Cell
    label: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its pairs. ``title`` is a heading, ``against`` names the control in a sentence."""

    key: QuestionKey
    title: str
    against: str
    pairs: tuple[Pair, ...]


def scope_of(cell: Cell) -> Scope:
    """Return the workload, infrastructure and load of a cell."""
    environment = cell.environment
    return Scope(environment.workload.label, environment.infrastructure.name, cell.load.label)


def arm_name(cell: Cell) -> str:
    """Return what the reader calls this arm: the mesh, and the profile where there is something to configure."""
    mesh = cell.environment.mesh
    return mesh.label if is_baseline(mesh) else f"{mesh.label} · {cell.environment.profile.name}"


def questions_of(run: RunRecord) -> tuple[Question, ...]:
    """Return the questions this run has pairs for, the main one first."""
    baseline = run.plan.baseline
    against = "no mesh" if any(arm.label == baseline and is_baseline(arm) for arm in run.arms) else baseline
    asked = (
        Question("baseline", f"Each mesh against {against}", against, tuple(_against_baseline(run))),
        Question("release", "Release against release", "the older release", tuple(_against_older_releases(run))),
        Question("profile", "What a profile costs on the same mesh", "the plan's first profile", tuple(_profiles(run))),
        Question("application", "Application version against version", "the older version", tuple(_applications(run))),
        Question("aa", "The same thing twice (A/A)", "itself", tuple(_twins(run))),
    )
    return tuple(question for question in asked if question.pairs)


def without_control(run: RunRecord) -> tuple[Cell, ...]:
    """Return cells that nothing can be compared with: their control is not among the run's cells."""
    paired = {id(pair.cell) for pair in _against_baseline(run)} | {id(pair.cell) for pair in _twins(run)}
    return tuple(
        cell for cell in run.cells if id(cell) not in paired and cell.environment.mesh.label != run.plan.baseline
    )


def version_key(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Return a key that sorts releases by age: numbers as numbers, a pre-release before its release."""
    release, _, suffix = version.partition("-")
    return tuple(int(number) for number in re.findall(r"\d+", release)), not suffix, suffix


def same_thing(one: MeshArm, other: MeshArm) -> bool:
    """Return whether two arms are the same mesh under two labels."""
    return one.hops == other.hops and (not one.hops or one.placement == other.placement)


def _against_baseline(run: RunRecord) -> Iterator[Pair]:
    controls: dict[Scope, list[Cell]] = {}
    for cell in run.cells:
        if cell.environment.mesh.label == run.plan.baseline:
            controls.setdefault(scope_of(cell), []).append(cell)
    for cell in run.cells:
        mesh, scope = cell.environment.mesh, scope_of(cell)
        candidates = controls.get(scope, [])
        if not candidates or mesh.label == run.plan.baseline:
            continue
        control = _with_profile(candidates, cell) or (candidates[0] if len(candidates) == 1 else None)
        if control is not None and not same_thing(mesh, control.environment.mesh):
            yield Pair(cell, control, arm_name(cell), scope)


def _with_profile(cells: Iterable[Cell], like: Cell) -> Cell | None:
    return next((cell for cell in cells if cell.environment.profile == like.environment.profile), None)


def _against_older_releases(run: RunRecord) -> Iterator[Pair]:
    """Yield the newest release of each adapter and placement against each older one, newest of those first."""

    def family(cell: Cell) -> tuple[object, ...] | None:
        mesh = cell.environment.mesh
        if is_baseline(mesh):
            return None
        return (mesh.placement, tuple((hop.role, hop.adapter) for hop in mesh.hops), cell.environment.profile.name)

    def age(cell: Cell) -> tuple[object, ...]:
        # A binary of the user's own has no release number that orders it: it is what is being developed.
        return tuple((hop.binary is not None, version_key(hop.version)) for hop in cell.environment.mesh.hops)

    for cells in _grouped(run.cells, family):
        newest, *older = sorted({repr(age(cell)): cell for cell in reversed(cells)}.values(), key=age, reverse=True)
        for cell in older:
            label = f"{newest.environment.mesh.label} vs {arm_name(cell)}"
            yield Pair(newest, cell, label, scope_of(newest))


def _profiles(run: RunRecord) -> Iterator[Pair]:
    def family(cell: Cell) -> tuple[object, ...]:
        return (cell.environment.mesh.label,)

    for first, *others in _grouped(run.cells, family):
        for cell in others:
            label = f"{arm_name(cell)} vs {first.environment.profile.name}"
            yield Pair(cell, first, label, scope_of(cell))


def _applications(run: RunRecord) -> Iterator[Pair]:
    """Yield the newest version of each application against the older ones; the plan lists them oldest first."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in run.cells:
        environment = cell.environment
        if environment.workload.command is not None:
            rest = (environment.mesh.label, environment.profile.name, environment.infrastructure.name)
            groups.setdefault((environment.workload.spec.name, *rest, cell.load.label), []).append(cell)
    for cells in groups.values():
        newest = cells[-1]
        for cell in reversed(cells[:-1]):
            label = f"{newest.environment.workload.label} vs {cell.environment.workload.label} · {arm_name(cell)}"
            yield Pair(newest, cell, label, scope_of(newest))


def _twins(run: RunRecord) -> Iterator[Pair]:
    """Yield each arm that repeats an earlier one under another label; the baseline counts as the earliest."""
    ordered = sorted(run.arms, key=lambda arm: arm.label != run.plan.baseline)
    original: dict[str, MeshArm] = {}
    for at, arm in enumerate(ordered):
        first = next((earlier for earlier in ordered[:at] if same_thing(earlier, arm)), None)
        if first is not None:
            original[arm.label] = original.get(first.label, first)
    cells = {(cell.environment.mesh.label, cell.environment.profile.name, scope_of(cell)): cell for cell in run.cells}
    for cell in run.cells:
        twin = original.get(cell.environment.mesh.label)
        control = twin and cells.get((twin.label, cell.environment.profile.name, scope_of(cell)))
        if twin and control:
            yield Pair(cell, control, f"{arm_name(cell)} vs {twin.label}", scope_of(cell))


def _grouped(cells: Sequence[Cell], family: Callable[[Cell], tuple[object, ...] | None]) -> Iterator[list[Cell]]:
    """Yield groups of two or more cells that share their scope and family, in the run's order."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        key = family(cell)
        if key is not None:
            groups.setdefault((scope_of(cell), *key), []).append(cell)
    yield from (group for group in groups.values() if len(group) > 1)
