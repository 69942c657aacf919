"""The matrix: a resolved plan expanded to cells, and the order in which blocks visit them."""

from __future__ import annotations

import fnmatch
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from meshgauge.errors import InvalidPlanError, Problem
from meshgauge.infrastructures import Infrastructure
from meshgauge.plan import BUILT_IN_PROFILES, Load, Placement, Plan, Profile, Rule
from meshgauge.workloads import CommandVersion, DeploymentVersion
from meshgauge.workloads import Workload as WorkloadSpec

Role = Literal["client", "server", "node"]
ARMS_FOR_DOUBLE_CONTROL = 6  # measurement.md 3: from here on the control runs twice a block

# Says why a mesh cannot run a profile on an infrastructure, or None. Answered by the adapters.
Unsupported = Callable[["MeshArm", Profile, Infrastructure], str | None]


@dataclass(frozen=True, slots=True)
class Hop:
    """One proxy on the way of a request. ``version`` is exact; ``binary`` replaces it."""

    role: Role
    adapter: str
    version: str
    binary: str | None = None


@dataclass(frozen=True, slots=True)
class MeshArm:
    """A mesh with its versions fixed. No hops: the baseline without mesh."""

    label: str
    placement: Placement
    hops: tuple[Hop, ...]
    profiles: tuple[str, ...] | None = None  # restriction from the plan; None: all


@dataclass(frozen=True, slots=True)
class Workload:
    """One version of a workload."""

    label: str
    spec: WorkloadSpec
    command: CommandVersion | None
    deployment: DeploymentVersion | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """What is brought up: one (infrastructure, mesh, profile, workload)."""

    mesh: MeshArm
    profile: Profile
    workload: Workload
    infrastructure: Infrastructure

    @property
    def key(self) -> str:
        """The environment's name, unique within its plan."""
        return "/".join((self.mesh.label, self.profile.name, self.workload.label, self.infrastructure.name))


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the matrix."""

    environment: EnvironmentKey
    load: Load
    key: str  # environment.key + "/" + load.label


@dataclass(frozen=True, slots=True)
class Turn:
    """One environment's turn in a block, with the loads in the block's order."""

    block: int
    position: int
    replicate: int
    environment: EnvironmentKey
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A combination left out, and why."""

    mesh: str
    profile: str
    infrastructure: str
    reason: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All cells of a plan, and what was left out because a mesh cannot do it."""

    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]

    @property
    def environments(self) -> tuple[EnvironmentKey, ...]:
        """Each environment once, in the plan's order."""
        return tuple({id(cell.environment): cell.environment for cell in self.cells}.values())


def is_baseline(mesh: MeshArm) -> bool:
    """Return whether no proxy is on the path."""
    return not mesh.hops


def workload_versions(plan: Plan) -> tuple[Workload, ...]:
    """Return the plan's workloads, one for each version of a user's program."""
    found: list[Workload] = []
    for spec in plan.workloads:
        found += [Workload(spec.name, spec, None)] if spec.app else []
        found += [Workload(f"{spec.name}-{own.version}", spec, own) for own in spec.commands]
        found += [Workload(f"{spec.name}-{own.version}", spec, None, own) for own in spec.deployments]
    return tuple(found)


def misplaced(workload: Workload, infrastructure: Infrastructure) -> str | None:
    """Return why ``workload`` cannot run on ``infrastructure`` whatever the mesh, or None."""
    if workload.command is not None and infrastructure.provider == "kubernetes":
        return f"workload {workload.label} is a program of the worker's host; in a cluster, give deployments"
    if workload.deployment is not None and infrastructure.provider == "local":
        return f"workload {workload.label} is deployed to a cluster; on this host, give commands"
    return None


def count_cells(plan: Plan, arms: Sequence[MeshArm]) -> int:
    """Return the largest number of cells the plan can give, by multiplication alone."""
    pairs = sum(1 if is_baseline(arm) else len(arm.profiles or plan.profiles) for arm in arms)
    return pairs * len(workload_versions(plan)) * len(plan.infrastructures) * len(plan.loads)


def expand(plan: Plan, arms: Sequence[MeshArm], unsupported: Unsupported) -> Matrix:
    """Return the matrix of ``plan`` over its resolved ``arms``, in the plan's order.

    The baseline has nothing to configure: it runs once, under the profile ``plain``, and is the control
    of every profile.

    Raises:
        InvalidPlanError: two arms share a label, or no cell is left.
    """
    _refuse_equal_labels(arms)
    workloads = workload_versions(plan)
    loads = [(load, load.label) for load in plan.loads]
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    chosen = _Chooser(plan.include, plan.exclude)
    for arm in arms:
        for profile in _profiles_of(plan, arm):
            for infrastructure in plan.infrastructures:
                reason = unsupported(arm, profile, infrastructure)
                if reason is not None:
                    skipped.append(Skipped(arm.label, profile.name, infrastructure.name, reason))
                    continue
                for workload in workloads:
                    if (reason := misplaced(workload, infrastructure)) is not None:
                        skipped.append(Skipped(arm.label, profile.name, infrastructure.name, reason))
                        continue
                    environment = EnvironmentKey(arm, profile, workload, infrastructure)
                    cells.extend(_cells_of(environment, loads, chosen))
    if not cells:
        reasons = "; ".join(f"{s.mesh}/{s.profile}: {s.reason}" for s in skipped)
        raise InvalidPlanError([Problem("meshes", f"no cell is left after include, exclude and support. {reasons}")])
    return Matrix(tuple(cells), tuple(skipped))


def _cells_of(environment: EnvironmentKey, loads: Sequence[tuple[Load, str]], chosen: _Chooser) -> Iterator[Cell]:
    prefix = environment.key
    labels = (
        environment.mesh.label,
        environment.profile.name,
        environment.workload.label,
        environment.infrastructure.name,
    )
    for load, label in loads:
        if chosen((*labels, label)):
            yield Cell(environment, load, f"{prefix}/{label}")


def _profiles_of(plan: Plan, arm: MeshArm) -> tuple[Profile, ...]:
    if is_baseline(arm):
        return (BUILT_IN_PROFILES["plain"],)
    if arm.profiles is None:
        return plan.profiles
    return tuple(profile for profile in plan.profiles if profile.name in arm.profiles)


def _refuse_equal_labels(arms: Sequence[MeshArm]) -> None:
    labels = [arm.label for arm in arms]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise InvalidPlanError(
            [Problem("meshes", f"{', '.join(twice)} comes out twice; give the entries a label, or drop one version")]
        )


class _Chooser:
    """Applies include and exclude rules to the five labels of a cell."""

    _DIMENSIONS = ("mesh", "profile", "workload", "infrastructure", "load")

    def __init__(self, include: Iterable[Rule], exclude: Iterable[Rule]) -> None:
        self._include = [self._patterns(rule) for rule in include]
        self._exclude = [self._patterns(rule) for rule in exclude]

    def _patterns(self, rule: Rule) -> tuple[tuple[int, str], ...]:
        given = ((at, getattr(rule, dimension)) for at, dimension in enumerate(self._DIMENSIONS))
        return tuple((at, pattern) for at, pattern in given if pattern is not None)

    def __call__(self, labels: tuple[str, ...]) -> bool:
        def matches(patterns: tuple[tuple[int, str], ...]) -> bool:
            return all(fnmatch.fnmatchcase(labels[at], pattern) for at, pattern in patterns)

        return (not self._include or any(map(matches, self._include))) and not any(map(matches, self._exclude))


def block_order(matrix: Matrix, blocks: int, seed: int, control: str) -> tuple[Turn, ...]:
    """Return every turn of every block: environments shuffled, positions balanced, loads shuffled once a block.

    Positions are balanced to +-1 by walking through the rows of freshly shuffled cyclic Latin squares.
    Inside a block all environments share one order of loads (split-plot design).

    Args:
        control: label of the baseline mesh; with ARMS_FOR_DOUBLE_CONTROL or more environments it runs twice a block.

    Source: measurement.md 3; reference/statistics.md 3.1 and 4.2.
    """
    by_environment: dict[str, tuple[EnvironmentKey, list[Cell]]] = {}
    for cell in matrix.cells:
        by_environment.setdefault(cell.environment.key, (cell.environment, []))[1].append(cell)
    slots = [(key, 0) for key in by_environment]
    if len(slots) >= ARMS_FOR_DOUBLE_CONTROL:
        slots += [(key, 1) for key, (environment, _) in by_environment.items() if environment.mesh.label == control]
    generator = random.Random(seed)  # noqa: S311 - an order to be reproduced, not a secret
    load_labels = list(dict.fromkeys(cell.load.label for cell in matrix.cells))
    turns: list[Turn] = []
    for block, row in enumerate(_balanced_rows(len(slots), blocks, generator)):
        generator.shuffle(load_labels)
        rank = {label: at for at, label in enumerate(load_labels)}
        for position, slot in enumerate(row):
            key, replicate = slots[slot]
            environment, cells = by_environment[key]
            ordered = tuple(sorted(cells, key=lambda cell: rank[cell.load.label]))
            turns.append(Turn(block, position, replicate, environment, ordered))
    return tuple(turns)


def _balanced_rows(size: int, rows: int, generator: random.Random) -> Iterator[list[int]]:
    """Yield ``rows`` permutations of range(size) in which every item meets every position equally often (+-1)."""
    square: list[list[int]] = []
    for _ in range(rows):
        if not square:
            square = _latin_square(size, generator)
        yield square.pop()


def _latin_square(size: int, generator: random.Random) -> list[list[int]]:
    """Return a cyclic Latin square with rows, columns and symbols shuffled."""
    order = list(range(size))
    rows, columns, symbols = (generator.sample(order, size) for _ in range(3))
    return [[symbols[(row + column) % size] for column in columns] for row in rows]


def seed_of(*parts: object) -> int:
    """Return a reproducible 63-bit seed derived from ``parts``."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
