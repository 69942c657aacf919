"""The plan of a run that confirms a step: both versions around the onset and the control, or the same thing again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from meshgauge.errors import UnsupportedError
from meshgauge.matrix import workload_versions
from meshgauge.plan import Mesh, Plan
from meshgauge.resolved import ResolvedPlan
from meshgauge.selected import SelectedArm, selected_arms
from meshgauge.trend import Step
from reports.nightly.step_findings import step_sentence

BLOCKS = 10  # statistics.md 4.12
_CUSTOM = "custom"  # Hop.version of a binary of the user's own
_LONGEST_SLUG = 40


def step_plan(night: ResolvedPlan, step: Step) -> str:
    """Return the text of the plan that confirms ``step``, as JSON.

    With a change of version: the night's baseline, the version before and the one after, in this order. Without one:
    the control of the step's series, and the arm as it is now.

    Args:
        night: the frozen plan of the night on which the step was detected.

    Raises:
        UnsupportedError: the binary of before cannot be had again.
    """
    plan, series = night.plan, step.series
    arms = selected_arms(plan, night.arms)
    arm = next(one for one in arms if one.name == series.arm)
    meshes: list[dict[str, Any]]
    if step.cause.kind == "version":
        _refuse_lost_binaries(step)
        control = next(one for one in arms if one.arm.label == plan.baseline)
        sides = (("before", step.cause.before), ("after", step.cause.after))
        meshes = [_entry(arm.mesh, f"{side}-{_slug(of['version'])}", of["hops"]) for side, of in sides]
    else:
        control = next(one for one in arms if one.name == series.against)
        meshes = [_entry(arm.mesh, f"again-{_slug(step.cause.after['version'])}", step.cause.after["hops"])]
    document = _same_place(plan, step) | {
        "name": f"step-{step.id}",
        "description": f"Confirms on fresh blocks: {step_sentence(step)}."[:2000],
        "meshes": [_control(control), *meshes],
        "baseline": control.arm.label,
        "blocks": BLOCKS,
        "aa_arm": False,
        "sequential": False,
        "confirm_blocks": 0,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _same_place(plan: Plan, step: Step) -> dict[str, Any]:
    """Return the plan cut down to the one profile, workload, infrastructure and load of a series."""
    series = step.series
    workload = next(one for one in workload_versions(plan) if one.label == series.workload)
    spec = workload.spec.model_dump(mode="json", exclude_none=True)
    if workload.command is not None:
        spec["commands"] = [workload.command.model_dump(mode="json", exclude_none=True)]
    kept = {"seed", "schedule", "include", "exclude", "thresholds", "profiles", "workloads", "infrastructures", "loads"}
    document = plan.model_dump(mode="json", exclude_none=True, exclude=kept)
    return document | {
        "profiles": [_dumped(profile) for profile in plan.profiles if profile.name == series.profile],
        "workloads": [spec],
        "infrastructures": [_dumped(one) for one in plan.infrastructures if one.name == series.infrastructure],
        "loads": [_dumped(load) for load in plan.loads if load.label == series.load],
    }


def _dumped(part: Any) -> dict[str, Any]:
    found: dict[str, Any] = part.model_dump(mode="json", exclude_none=True)
    return found


def _entry(mesh: Mesh, label: str, hops: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a mesh of the plan at exact versions, under a label of its own."""
    entry = mesh.model_dump(mode="json", exclude_none=True, exclude={"profiles", "label"})
    if mesh.client is not None and mesh.server is not None:
        entry.pop("versions", None)
        for hop in hops:
            if hop["version"] != _CUSTOM:
                entry[hop["role"]]["version"] = hop["version"]
    elif hops and mesh.binary is None:
        entry["versions"] = [hops[0]["version"]]
    return entry | {"label": label}


def _control(control: SelectedArm) -> dict[str, Any]:
    hops = [{"role": hop.role, "version": hop.version} for hop in control.arm.hops]
    return _entry(control.mesh, control.arm.label, hops)


def _refuse_lost_binaries(step: Step) -> None:
    before, after = step.cause.before, step.cause.after
    if any(hop["version"] == _CUSTOM for hop in before["hops"]) or before["version"] == after["version"]:
        raise UnsupportedError(
            "an A/B needs the binary of before, and only its hash is known; give both binaries labels of their own in "
            "a plan, and compare them with: meshgauge run PLAN"
        )


def _slug(version: str) -> str:
    return re.sub(r"[^a-z0-9.+-]+", "-", version.lower())[:_LONGEST_SLUG].strip("-.+")
