"""What a frozen plan leads to: the run before its first trial, and the plan that repeats cells on fresh blocks."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from typing import Any

from meshgauge.document import plan_sha256
from meshgauge.matrix import Cell
from meshgauge.plan import Mesh
from meshgauge.resolved import ResolvedPlan
from meshgauge.run import RunRecord
from meshgauge.selectors import NO_MESH

_SUFFIX = "-confirm"
_LONGEST_NAME = 64  # meshgauge.plan.NAME_PATTERN


def confirming_plan(resolved: ResolvedPlan, keep_cells: Iterable[str], blocks: int) -> str:
    """Return the text of a plan that measures some cells of ``resolved`` again, at the versions it was frozen with.

    Labels come out as they were, so that cells of both runs match by key. A seed of its own is drawn when it is
    submitted: the order of the blocks is part of what is fresh. It neither fires by itself, nor looks early, nor has
    thresholds of its own: what it finds is held against those of the run it confirms.

    Args:
        keep_cells: keys of cells; a comparison needs both of its sides.
        blocks: how many fresh ones.

    Returns:
        JSON, which every reader of plans takes; the same arguments give the same text.

    Raises:
        ValueError: no cell is to be kept, or one that ``resolved`` does not have.
    """
    kept = _kept(resolved, keep_cells)
    plan = resolved.plan
    meshes = {cell.environment.mesh.label for cell in kept}
    workloads = {cell.environment.workload.spec.name for cell in kept}
    infrastructures = {cell.environment.infrastructure.name for cell in kept}
    loads = {cell.load.label for cell in kept}
    document = plan.model_dump(mode="json", exclude_none=True, exclude={"seed", "schedule", "exclude", "thresholds"})
    document |= {
        "name": plan.name[: _LONGEST_NAME - len(_SUFFIX)] + _SUFFIX,
        "description": f"Confirms on fresh blocks what a run of {plan.name} found; made by Meshgauge.",
        # The baseline's entry stays even where none of its cells does: a plan has to name one.
        "meshes": list(_exact_meshes(resolved, meshes | {plan.baseline})),
        "workloads": [w for w in document["workloads"] if w["name"] in workloads],
        "infrastructures": [i for i in document["infrastructures"] if i["name"] in infrastructures],
        "loads": [
            load for load, spec in zip(document["loads"], plan.loads, strict=True) if spec.label in loads
        ],
        "include": [_rule(cell) for cell in kept],
        "blocks": blocks,
        "aa_arm": plan.aa_arm and f"{plan.baseline}-again" in meshes,
        "sequential": False,
        "confirm_blocks": 0,
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def unmeasured(resolved: ResolvedPlan) -> RunRecord:
    """Return the run a plan would make as it stands before its first trial: what it asks can be said already."""
    return RunRecord(
        run_id="",
        plan=resolved.plan,
        plan_sha256=plan_sha256(resolved.text),
        arms=resolved.arms,
        cells=resolved.matrix.cells,
        skipped=resolved.matrix.skipped,
        seed=resolved.seed,
        blocks=resolved.plan.blocks,
        state="queued",
        reason=None,
        submitted_by="",
        created_at=dt.datetime.now(dt.UTC),
        started_at=None,
        finished_at=None,
        trials=(),
        environments=(),
        features=resolved.features,
        provenance={},
    )


def _kept(resolved: ResolvedPlan, keys: Iterable[str]) -> tuple[Cell, ...]:
    wanted = set(keys)
    known = {cell.key for cell in resolved.matrix.cells}
    if not wanted or not wanted <= known:
        raise ValueError(f"no cells of this plan: {', '.join(sorted(wanted - known)) or 'none were named'}")
    return tuple(cell for cell in resolved.matrix.cells if cell.key in wanted)


def _exact_meshes(resolved: ResolvedPlan, labels: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the entries that one of ``labels`` comes from, each selector replaced by what it meant.

    An entry keeps all its versions, because the label of an arm may depend on how many there are.
    """
    arms = iter(resolved.arms)
    for mesh in resolved.plan.meshes:
        own = [next(arms) for _ in range(_arms_of(mesh))]
        if not {arm.label for arm in own} & labels:
            continue
        entry = mesh.model_dump(mode="json", exclude_none=True)
        if mesh.client is not None and mesh.server is not None:
            for hop in own[0].hops:
                if hop.binary is None:
                    entry[hop.role]["version"] = hop.version
        elif mesh.adapter != NO_MESH and mesh.binary is None:
            entry["versions"] = [arm.hops[0].version for arm in own]
        yield entry


def _arms_of(mesh: Mesh) -> int:
    return 1 if mesh.adapter in (None, NO_MESH) else len(mesh.versions)


def _rule(cell: Cell) -> dict[str, str]:
    environment = cell.environment
    return {
        "mesh": environment.mesh.label,
        "profile": environment.profile.name,
        "workload": environment.workload.label,
        "infrastructure": environment.infrastructure.name,
        "load": cell.load.label,
    }
