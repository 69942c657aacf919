"""The dry run of a plan: its cells, their order, the time it takes, and what a reader should know first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from coordinator.estimate import estimate_s
from coordinator.planner import notes_on
from meshgauge.derived import unmeasured
from meshgauge.document import plan_sha256
from meshgauge.errors import InvalidPlanError
from meshgauge.matrix import Hop, Skipped, block_order
from meshgauge.plan import CLUSTER_WINDOW_S, LOOKS, Load
from meshgauge.resolved import Features, ResolvedPlan
from meshgauge.settings import Settings

VERDICT_BLOCKS = 6  # measurement.md 3: fewer give no verdict
TAIL_REQUESTS = 100  # measurement.md 3: a percentile needs this many requests above it
_TAIL = 0.99
QUIET_CORES = 4  # measurement.md 6: with fewer, everything is indicative
SHORT_WARM_UP_S = 10.0
KUBELET_WINDOW_S = 80.0  # a kubelet counts a container every 10 to 20 s, and four counts are needed (workers.usage)
# measurement.md 3: nightly plans always carry one
NO_TWIN = (
    "aa_arm is off: a plan that runs night by night carries the A/A arm, which tells nights on which the instrument "
    "itself was off; write aa_arm: true"
)


@dataclass(frozen=True, slots=True)
class OrderedTurn:
    """One environment's turn in the first block."""

    position: int
    replicate: int
    environment: str
    loads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedLoad:
    """A load with its defaults filled in. ``rate_rps``: None: as fast as replies come (closed loop)."""

    label: str
    rate_rps: float | None
    connections: int
    warm_up_s: float
    window_s: float
    cool_down_s: float


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """What would happen if the plan were submitted now.

    Attributes:
        cells: keys, mesh/profile/workload/infrastructure/load, in the plan's order.
        first_block: the turns of block 1; the others are other shuffles of the same.
        environments, trials: how many there are in all planned blocks together.
        estimate_s: seconds; an estimate.
    """

    name: str
    plan_sha256: str
    meshes: tuple[tuple[str, tuple[Hop, ...]], ...]
    cells: tuple[str, ...]
    loads: tuple[PlannedLoad, ...]
    skipped: tuple[Skipped, ...]
    blocks: int
    seed: int
    seed_is_drawn: bool
    first_block: tuple[OrderedTurn, ...]
    environments: int
    trials: int
    estimate_s: float
    features: Features
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the check as JSON."""
        document = asdict(self)
        document["meshes"] = [{"label": label, "hops": [asdict(hop) for hop in hops]} for label, hops in self.meshes]
        return document


def check_plan(resolved: ResolvedPlan, settings: Settings, cores: int | None) -> PlanCheck:
    """Return the dry run of ``resolved``.

    Args:
        cores: of the host local environments would run on; None: not known here.
    """
    plan = resolved.plan
    turns = block_order(resolved.matrix, plan.blocks, resolved.seed, plan.baseline)
    first = [turn for turn in turns if turn.block == 0]
    return PlanCheck(
        name=plan.name,
        plan_sha256=plan_sha256(resolved.text),
        meshes=tuple((arm.label, arm.hops) for arm in resolved.arms),
        cells=tuple(cell.key for cell in resolved.matrix.cells),
        loads=tuple(_planned(load) for load in _loads(resolved)),
        skipped=resolved.matrix.skipped,
        blocks=plan.blocks,
        seed=resolved.seed,
        seed_is_drawn=plan.seed is None,
        first_block=tuple(
            OrderedTurn(turn.position, turn.replicate, turn.environment.key, tuple(c.load.label for c in turn.cells))
            for turn in first
        ),
        environments=len(turns),
        trials=sum(len(turn.cells) for turn in turns),
        estimate_s=round(estimate_s(turns, settings), 1),
        features=resolved.features,
        warnings=tuple(_warnings(resolved, cores)),
    )


def _loads(resolved: ResolvedPlan) -> list[Load]:
    """Return the loads that some cell has, in the plan's order."""
    return list({cell.load.label: cell.load for cell in resolved.matrix.cells}.values())


def _planned(load: Load) -> PlannedLoad:
    return PlannedLoad(load.label, load.rate_rps, load.connections, load.warm_up_s, load.window_s, load.cool_down_s)


def _warnings(resolved: ResolvedPlan, cores: int | None) -> Iterator[str]:
    plan = resolved.plan
    yield from (f"SMP test configuration: {note}" for note in notes_on(resolved.text))
    if plan.blocks < VERDICT_BLOCKS:
        yield (
            f"{plan.blocks} blocks give no verdict: {VERDICT_BLOCKS} are the least, 10 the default; "
            "intervals are still shown"
        )
    if plan.sequential:
        looks = f"{', '.join(map(str, LOOKS[:-2]))} or {LOOKS[-2]}"
        yield (
            f"sequential: the time is that of all {plan.blocks} blocks; the run stops after {looks} of them "
            "when every result is decided"
        )
    if all(arm.label.removesuffix("-again") == plan.baseline for arm in resolved.arms):
        yield f"the only mesh is the baseline {plan.baseline!r}: there is nothing to compare it with"
    is_local = any(infrastructure.provider == "local" for infrastructure in plan.infrastructures)
    if is_local and cores is not None and cores < QUIET_CORES:
        yield (
            f"this host has {cores} cores, which load, proxies and application share: "
            f"all results are indicative (at least {QUIET_CORES} make them firm)"
        )
    for load in _loads(resolved):
        yield from _load_warnings(load)
    yield from _kubelet_warnings(resolved)
    if plan.thresholds:
        yield from _threshold_warnings(resolved)
    if plan.schedule is not None and not plan.aa_arm:
        yield NO_TWIN
    if plan.schedule is not None:
        yield (
            f"a submitted run starts once, now; for {plan.schedule.cron!r} ({plan.schedule.time_zone}) "
            "add the plan as a schedule: meshgauge schedule add PLAN"
        )


def _threshold_warnings(resolved: ResolvedPlan) -> Iterator[str]:
    """Say which thresholds would hold nothing: the gate refuses them after hours of measuring."""
    from reports.thresholds.selection import held_in  # noqa: PLC0415 - loads the statistics; most plans need none

    try:
        held_in(unmeasured(resolved))
    except InvalidPlanError as error:
        yield from map(str, error.problems)


def _kubelet_warnings(resolved: ResolvedPlan) -> Iterator[str]:
    """Say which loads are too short for a cluster to count CPU and memory in."""
    in_clusters = {
        cell.load.label: cell.load
        for cell in resolved.matrix.cells
        if cell.environment.infrastructure.provider == "kubernetes" and cell.load.window_s < KUBELET_WINDOW_S
    }
    for label, load in in_clusters.items():
        yield (
            f"load {label}: in a cluster CPU and memory are counted every 10 to 20 s, and four counts are needed: a "
            f"window of {load.window_s:g} s often gives none; {KUBELET_WINDOW_S:g} s always does, and "
            f"{CLUSTER_WINDOW_S:g} s, the default there, is better"
        )


def _load_warnings(load: Load) -> Iterator[str]:
    if load.loop == "closed":
        yield f"load {load.label}: a closed loop hides stalls (coordinated omission): labelled, and without verdict"
    if load.rate_rps is not None:
        expected = load.rate_rps * load.window_s
        if expected * (1 - _TAIL) < TAIL_REQUESTS:
            needed_s = TAIL_REQUESTS / (1 - _TAIL) / load.rate_rps
            yield (
                f"load {load.label}: {expected:.0f} requests in a window of {load.window_s:g} s are too few for p99 "
                f"({TAIL_REQUESTS} have to lie above it); a window of {needed_s:.0f} s would do"
            )
    if load.warm_up_s < SHORT_WARM_UP_S:
        yield f"load {load.label}: a warm-up of {load.warm_up_s:g} s is short (the default is 30 s): good for a demo"
