"""Arms by the selectors they came from: ``envoy latest`` stays the same arm while the version it means moves on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshgauge.matrix import MeshArm
from meshgauge.plan import Mesh, Plan
from meshgauge.selectors import NO_MESH


@dataclass(frozen=True, slots=True)
class SelectedArm:
    """An arm, and the entry of the plan that it came from.

    Attributes:
        name: made of what the plan says, not of what it meant that night; unique in a plan.
        is_exact: whether the plan names exact versions, so that the arm is the same in every run.
    """

    name: str
    arm: MeshArm
    mesh: Mesh
    is_exact: bool


def selected_arms(plan: Plan, arms: Sequence[MeshArm]) -> tuple[SelectedArm, ...]:
    """Return the arms of the plan's entries, in their order; the A/A arm, which no entry names, is left out."""
    left = iter(arms)
    return tuple(
        SelectedArm(name, arm, mesh, is_exact)
        for mesh in plan.meshes
        for (name, is_exact), arm in zip(_names(mesh), left, strict=False)
    )


def is_pinned_version(arm: SelectedArm, of: SelectedArm) -> bool:
    """Return whether ``arm`` is a fixed version of the same mesh, whose other version ``of`` follows a selector."""

    def family(one: SelectedArm) -> tuple[object, ...]:
        return one.arm.placement, tuple((hop.role, hop.adapter) for hop in one.arm.hops)

    return arm.is_exact and not of.is_exact and bool(arm.arm.hops) and family(arm) == family(of)


def versions_in_words(arm: MeshArm) -> str:
    """Return the exact versions of an arm: one where all proxies share it."""
    versions = list(dict.fromkeys(hop.version for hop in arm.hops))
    if len({hop.adapter for hop in arm.hops}) > 1:
        return " + ".join(f"{hop.adapter} {hop.version}" for hop in arm.hops)
    return versions[0] if versions else "no proxy"


def _names(mesh: Mesh) -> Iterator[tuple[str, bool]]:
    if mesh.client is not None and mesh.server is not None:
        choices = (mesh.client, mesh.server)
        made = " + ".join(f"{choice.adapter} {choice.version}" for choice in choices)
        yield mesh.label or made, all(_is_exact(choice.version) for choice in choices)
    elif mesh.adapter == NO_MESH:
        yield mesh.label or NO_MESH, True
    else:
        placement = "" if mesh.placement == "pair" else f" ({mesh.placement})"
        for selector in mesh.versions:
            version = "custom" if mesh.binary else selector
            made = f"{mesh.label or mesh.adapter} {version}{placement}"
            own = mesh.label if mesh.label and len(mesh.versions) == 1 else made
            yield own, mesh.binary is None and _is_exact(selector)


def _is_exact(selector: str) -> bool:
    return selector[:1].isdigit()
