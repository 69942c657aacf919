"""A whole run as read from the store: what was planned, what happened, what was measured."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meshgauge.matrix import Cell, MeshArm, Skipped
from meshgauge.plan import Plan
from meshgauge.trial import TrialRecord

RunState = Literal["queued", "running", "done", "failed", "cancelled"]
EnvironmentOutcome = Literal["done", "failed", "lost", "fenced", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True)
class EnvironmentRecord:
    """One attempt at bringing an environment up and measuring its trials: a line of the run's diary."""

    environment_id: str
    attempt: int
    key: str  # EnvironmentKey.key
    block: int
    position: int
    replicate: int
    worker: str
    host: str
    started_at: dt.datetime
    finished_at: dt.datetime | None
    outcome: EnvironmentOutcome | None
    reason: str | None
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything a report is made of.

    Attributes:
        plan: the plan as submitted, validated; ``plan_sha256`` is the hash of its verbatim text.
        arms: its meshes with versions fixed at submit time.
        trials: the counted attempt of each trial, in the order they were made.
        environments: every attempt, the failed ones included, in order of time.
        features: per environment key, per hop role, the value of each feature in play.
        blocks: number of blocks ordered so far, redone ones included.
        provenance: of the run: Meshgauge's version and revision, host facts per host, tuning.
        confirms: id of the run whose findings this one repeats on fresh blocks; None for all others.
    """

    run_id: str
    plan: Plan
    plan_sha256: str
    arms: tuple[MeshArm, ...]
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    seed: int
    blocks: int
    state: RunState
    reason: str | None
    submitted_by: str
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    trials: tuple[TrialRecord, ...]
    environments: tuple[EnvironmentRecord, ...]
    features: Mapping[str, Mapping[str, Mapping[str, str]]]
    provenance: Mapping[str, Any]
    confirms: str | None = None
