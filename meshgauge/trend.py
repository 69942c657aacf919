"""What is followed from night to night: series and their points, steps, annotations, the pinned baseline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

StepState = Literal["suspected", "confirmed", "not_reproduced", "acknowledged"]

# What changed in the nights around an onset. "version": the mesh itself; "configuration": how it, or the control, was
# set up, its version the same; "environment": hosts, kernel, tuning or load engine; "nothing": nothing on record.
CauseKind = Literal["version", "configuration", "environment", "nothing"]


@dataclass(frozen=True, slots=True, order=True)
class SeriesName:
    """What a series is about. Arms are named by their selectors: ``envoy latest`` stays one while its version moves."""

    arm: str
    profile: str
    workload: str
    infrastructure: str
    load: str
    against: str

    @property
    def key(self) -> str:
        """The name in one text. No part can hold a slash."""
        return "/".join((self.arm, self.profile, self.workload, self.infrastructure, self.load, self.against))

    @classmethod
    def of(cls, key: str) -> Self:
        """Return the name whose ``key`` this is."""
        return cls(*key.split("/"))

    @property
    def cell(self) -> tuple[str, str, str, str, str]:
        """What is measured, whatever it is compared with."""
        return self.arm, self.profile, self.workload, self.infrastructure, self.load

    @property
    def control(self) -> str:
        """What a reader calls the other side."""
        return "no mesh" if self.against == "none" else self.against

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return (
            f"{self.arm} · {self.profile}, against {self.control} ({self.workload}, {self.infrastructure}, {self.load})"
        )


@dataclass(frozen=True, slots=True)
class Point:
    """One night of one series and metric.

    Attributes:
        at: when the night was due.
        value: mean of the block differences to the night's control, on the metric's scale (ln ratio, or a difference
            in its unit); None: a gap, ``reason`` says why.
        sd: of one block difference; None with fewer than two blocks.
        blocks: valid ones.
        arm_level, control_level: geometric means (arithmetic for differences) over those blocks, in the metric's unit.
        arm: what was measured: ``label``, ``version`` (in words), ``hops`` (role, adapter, version, sha256), and
            ``configuration``, the features in play.
        environment: fingerprint of ``facts``.
        facts: what should be the same every night: hosts, kernel, CPU, tuning, load engine, Meshgauge's version.
    """

    run_id: str
    at: dt.datetime
    series: SeriesName
    metric: str
    value: float | None
    sd: float | None
    blocks: int
    arm_level: float | None
    control_level: float | None
    reason: str | None
    arm: Mapping[str, Any]
    environment: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """What is known to have changed around an onset.

    Attributes:
        text: a phrase, such as ``1.39.1 to 1.40.0``.
        before, after: the arm as in ``Point.arm`` on the last night before the change and the first with it.
    """

    kind: CauseKind
    text: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """An alert as stored. Later nights never move or remove it; only its state and what was found go on.

    Attributes:
        size: after minus before, on the metric's scale.
        before: mean of the nights before the onset, on the same scale, as known when it was detected.
        finding: what the confirming run said, or why there is none; None: not known yet.
        reason, changed_by: of the acknowledgement.
    """

    id: int
    schedule: str
    series: SeriesName
    metric: str
    onset_run_id: str
    onset_at: dt.datetime
    detected_run_id: str
    detected_at: dt.datetime
    size: float
    before: float
    cause: Cause
    state: StepState
    confirming_run_id: str | None
    finding: str | None
    reason: str | None
    changed_by: str | None
    created_at: dt.datetime
    changed_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Annotation:
    """Somebody's remark on a night."""

    id: int
    at: dt.datetime
    text: str
    made_by: str


@dataclass(frozen=True, slots=True)
class PinnedBaseline:
    """A run that the nights of a schedule are held against. ``points`` are its own, read once when it was pinned."""

    run_id: str
    reason: str
    pinned_by: str
    pinned_at: dt.datetime
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class MissedNight:
    """A due time that gave no run, and why."""

    at: dt.datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Trend:
    """All that is known of one schedule's nights, points in order of time."""

    schedule: str
    cron: str
    time_zone: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    annotations: tuple[Annotation, ...]
    baseline: PinnedBaseline | None
    missed: tuple[MissedNight, ...]
