"""Which cells of two runs measure the same thing, each with the control of its own run; and which do not, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from meshgauge.matrix import Cell, is_baseline
from meshgauge.run import RunRecord
from reports.comparing.questions import Pair, arm_name, questions_of, same_thing, scope_of

# A percentile means the same whatever the length of the window; what changes the request or its arrival does not.
_NOT_OF_THE_LOAD = frozenset({"name", "warm_up_s", "window_s", "cool_down_s", "load_workers", "timeout_s"})
_NOT_OF_THE_REQUEST = frozenset({"name", "commands", "health_path", "health_timeout_s"})

_Identity = Callable[[Cell], Hashable]


@dataclass(frozen=True, slots=True)
class Match:
    """One cell in both runs. ``versions``: of its proxies, in either run, as a reader wants to see them.

    Attributes:
        pair: arm of the second run against the same arm of the first, to name the comparison.
        first, second: the arm against its own run's control.
    """

    pair: Pair
    first: Pair
    second: Pair
    versions: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A cell that one of the runs has alone, or that means something else in the other."""

    run: str
    cell: str
    reason: str


def match(first: RunRecord, second: RunRecord) -> tuple[tuple[Match, ...], tuple[Unmatched, ...]]:
    """Return the cells of both runs in pairs, and those left over.

    Cells are matched by their five labels; what is left, by adapter and placement instead of the mesh's label (which
    usually holds the version) and by the name of the workload without its version, where that leaves one in either run.
    """
    ours, theirs = _against_own_control(first), _against_own_control(second)
    found: list[tuple[Pair, Pair]] = []
    left_ours, left_theirs = list(ours.values()), list(theirs.values())
    for identity in (_labels, _kind):
        pairs, left_ours, left_theirs = _matched(left_ours, left_theirs, identity)
        found += pairs
    matches, unmatched = [], [*_without_control(first, ours), *_without_control(second, theirs)]
    for one, other in found:
        reason = _why_different(one, other)
        if reason is None:
            matches.append(_match(one, other))
        else:
            unmatched += [
                Unmatched(first.run_id, one.cell.key, reason),
                Unmatched(second.run_id, other.cell.key, reason),
            ]
    order = {cell.key: at for at, cell in enumerate(second.cells)}
    matches.sort(key=lambda match: order[match.second.cell.key])
    unmatched += _left(first, left_ours, left_theirs) + _left(second, left_theirs, left_ours)
    return tuple(matches), tuple(unmatched)


def _against_own_control(run: RunRecord) -> Mapping[str, Pair]:
    return {
        pair.cell.key: pair for question in questions_of(run) if question.key == "baseline" for pair in question.pairs
    }


def _labels(cell: Cell) -> Hashable:
    environment = cell.environment
    return (environment.mesh.label, *_place(cell), environment.workload.label)


def _kind(cell: Cell) -> Hashable:
    mesh = cell.environment.mesh
    hops = tuple((hop.role, hop.adapter) for hop in mesh.hops)
    return (mesh.placement, hops, *_place(cell), cell.environment.workload.spec.name)


def _place(cell: Cell) -> tuple[str, str, str]:
    return cell.environment.profile.name, cell.environment.infrastructure.name, cell.load.label


def _matched(
    ours: Sequence[Pair], theirs: Sequence[Pair], identity: _Identity
) -> tuple[list[tuple[Pair, Pair]], list[Pair], list[Pair]]:
    """Return pairs whose identity is the only one of its kind in either run, and what is left of both."""
    by_ours, by_theirs = _grouped(ours, identity), _grouped(theirs, identity)
    unique = {key for key, group in by_ours.items() if len(group) == 1 and len(by_theirs.get(key, ())) == 1}
    return (
        [(by_ours[key][0], by_theirs[key][0]) for key in by_ours if key in unique],
        [pair for pair in ours if identity(pair.cell) not in unique],
        [pair for pair in theirs if identity(pair.cell) not in unique],
    )


def _grouped(pairs: Iterable[Pair], identity: _Identity) -> Mapping[Hashable, list[Pair]]:
    groups: dict[Hashable, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[identity(pair.cell)].append(pair)
    return groups


def _why_different(one: Pair, other: Pair) -> str | None:
    """Return why two cells of the same name cannot be compared; None when they can."""
    ours, theirs = one.cell.environment, other.cell.environment
    if not same_thing(one.control.environment.mesh, other.control.environment.mesh):
        return f"the controls differ: {arm_name(one.control)} and {arm_name(other.control)}"
    for what, left, right, ignored in (
        ("load", one.cell.load, other.cell.load, _NOT_OF_THE_LOAD),
        ("profile", ours.profile, theirs.profile, frozenset[str]()),
        ("workload", ours.workload.spec, theirs.workload.spec, _NOT_OF_THE_REQUEST),
        ("infrastructure", ours.infrastructure, theirs.infrastructure, frozenset[str]({"name"})),
    ):
        differing = _differing(left, right, ignored)
        if differing:
            return f"the {what} differs: {'; '.join(differing)}"
    return None


def _differing(left: BaseModel, right: BaseModel, ignored: frozenset[str]) -> list[str]:
    return [
        f"{name} {getattr(left, name)} / {getattr(right, name)}"
        for name in type(left).model_fields
        if name not in ignored and getattr(left, name) != getattr(right, name)
    ]


def _match(one: Pair, other: Pair) -> Match:
    names = tuple(dict.fromkeys(arm_name(pair.cell) for pair in (other, one)))
    workloads = tuple(dict.fromkeys(pair.cell.environment.workload.label for pair in (other, one)))
    versions = (_versions(one.cell), _versions(other.cell))
    label = " vs ".join(names)
    if len(names) == 1 and versions[0] != versions[1]:
        label = f"{label} {versions[1]} vs {versions[0]}"
    if len(workloads) > 1:
        label = f"{label} · {' vs '.join(workloads)}"
    return Match(Pair(other.cell, one.cell, label, scope_of(other.cell)), one, other, versions)


def _versions(cell: Cell) -> str:
    hops = cell.environment.mesh.hops
    told = dict.fromkeys(f"{hop.adapter} {hop.version}{' (own binary)' if hop.binary else ''}" for hop in hops)
    return ", ".join(told) or "no proxy"


def _without_control(run: RunRecord, paired: Mapping[str, Pair]) -> list[Unmatched]:
    """Return cells that are neither paired with a control nor one; further turns of the baseline count as one."""
    controls = {pair.control.key for pair in paired.values()}
    return [
        Unmatched(run.run_id, cell.key, f"has no control ({run.plan.baseline}) in its own run to be divided by")
        for cell in run.cells
        if cell.key not in paired and cell.key not in controls and not is_baseline(cell.environment.mesh)
        and cell.environment.mesh.label != run.plan.baseline
    ]  # fmt: skip


def _left(run: RunRecord, mine: Sequence[Pair], others: Sequence[Pair]) -> list[Unmatched]:
    kinds = _grouped(others, _kind)
    return [
        Unmatched(
            run.run_id,
            pair.cell.key,
            "several versions could be meant; give the one to compare the same label in both plans"
            if kinds.get(_kind(pair.cell))
            else "the other run does not have it",
        )
        for pair in mine
    ]
