"""A plan with nothing left open: versions fixed, cells listed, seed drawn. What a run is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from meshgauge.matrix import Cell, EnvironmentKey, Hop, Matrix, MeshArm, Skipped, workload_versions
from meshgauge.plan import BUILT_IN_PROFILES, Plan

# Per environment key, per hop role, the value of each feature in play.
Features = Mapping[str, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class ResolvedPlan:
    """The frozen form of a submitted plan.

    Attributes:
        text: the plan as submitted, verbatim.
        features: the features in play of every environment, as its adapter declares them.
    """

    text: str
    plan: Plan
    arms: tuple[MeshArm, ...]
    matrix: Matrix
    seed: int
    features: Features

    def document(self) -> dict[str, Any]:
        """Return the validated plan as JSON."""
        return self.plan.model_dump(mode="json", exclude_none=True)

    def resolution(self) -> dict[str, Any]:
        """Return all that was decided beyond the plan, as JSON; cells are named by their five labels."""
        return {
            "arms": [asdict(arm) for arm in self.arms],
            "cells": [list(_labels(cell)) for cell in self.matrix.cells],
            "skipped": [asdict(skipped) for skipped in self.matrix.skipped],
            "features": self.features,
        }

    @classmethod
    def restored(cls, text: str, document: Mapping[str, Any], resolution: Mapping[str, Any], seed: int) -> Self:
        """Return what ``document`` and ``resolution`` wrote, without asking any adapter again."""
        plan = Plan.model_validate(document)
        arms = tuple(_arm(data) for data in resolution["arms"])
        skipped = tuple(Skipped(**data) for data in resolution["skipped"])
        matrix = Matrix(_cells(plan, arms, resolution["cells"]), skipped)
        return cls(text, plan, arms, matrix, seed, resolution["features"])


def _labels(cell: Cell) -> tuple[str, str, str, str, str]:
    environment = cell.environment
    return (
        environment.mesh.label,
        environment.profile.name,
        environment.workload.label,
        environment.infrastructure.name,
        cell.load.label,
    )


def _arm(data: Mapping[str, Any]) -> MeshArm:
    profiles = data["profiles"]
    hops = tuple(Hop(**hop) for hop in data["hops"])
    return MeshArm(data["label"], data["placement"], hops, None if profiles is None else tuple(profiles))


def _cells(plan: Plan, arms: tuple[MeshArm, ...], labels: list[list[str]]) -> tuple[Cell, ...]:
    meshes = {arm.label: arm for arm in arms}
    profiles = {**BUILT_IN_PROFILES, **{profile.name: profile for profile in plan.profiles}}
    workloads = {workload.label: workload for workload in workload_versions(plan)}
    infrastructures = {infrastructure.name: infrastructure for infrastructure in plan.infrastructures}
    loads = {load.label: load for load in plan.loads}
    environments: dict[tuple[str, ...], EnvironmentKey] = {}
    cells = []
    for mesh, profile, workload, infrastructure, load in labels:
        at = (mesh, profile, workload, infrastructure)
        if at not in environments:
            environments[at] = EnvironmentKey(
                meshes[mesh], profiles[profile], workloads[workload], infrastructures[infrastructure]
            )
        environment = environments[at]
        cells.append(Cell(environment, loads[load], f"{environment.key}/{load}"))
    return tuple(cells)
