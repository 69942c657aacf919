"""Releases of one mesh in order of age, and the newest of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshgauge.matrix import Cell, is_baseline
from reports.comparing.questions import Scope, scope_of, version_key


@dataclass(frozen=True, slots=True)
class Ladder:
    """All releases of one mesh under one profile in one scope, oldest first."""

    mesh: str
    profile: str
    scope: Scope
    cells: tuple[Cell, ...]


def ladders(cells: Iterable[Cell]) -> tuple[Ladder, ...]:
    """Return a ladder for each mesh, profile and scope, in the run's order; one release makes a ladder of one step."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        mesh = cell.environment.mesh
        if not is_baseline(mesh):
            family = (mesh.placement, tuple((hop.role, hop.adapter) for hop in mesh.hops))
            groups.setdefault((scope_of(cell), cell.environment.profile.name, *family), []).append(cell)
    return tuple(_ladder(members) for members in groups.values())


def release_name(cell: Cell) -> str:
    """Return the versions of a mesh as a short name, such as ``1.36.4``; its label for a binary of the user's own."""
    mesh = cell.environment.mesh
    if any(hop.binary for hop in mesh.hops):
        return mesh.label
    return " + ".join(dict.fromkeys(hop.version for hop in mesh.hops))


def mesh_name(cell: Cell) -> str:
    """Return what the releases of a ladder have in common: adapters, and the placement where it is not a pair."""
    mesh = cell.environment.mesh
    adapters = " → ".join(dict.fromkeys(hop.adapter for hop in mesh.hops))
    return adapters if mesh.placement == "pair" else f"{adapters} ({mesh.placement})"


def _ladder(members: list[Cell]) -> Ladder:
    once: dict[tuple[object, ...], Cell] = {}
    for cell in members:  # the same release twice is an A/A arm: its first label stands for both
        once.setdefault(_age(cell), cell)
    ordered = tuple(cell for _, cell in sorted(once.items(), key=lambda step: step[0]))
    first = ordered[0]
    return Ladder(mesh_name(first), first.environment.profile.name, scope_of(first), ordered)


def _age(cell: Cell) -> tuple[object, ...]:
    # A binary of the user's own has no release number that orders it: it is what is being developed.
    return tuple(
        (hop.binary is not None, version_key(hop.version), hop.binary or "") for hop in cell.environment.mesh.hops
    )
