"""What came out when a run was held against its plan's thresholds: the types every format is written from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

# failed is only said of what the numbers show; whatever they cannot show is undecided.
Status = Literal["passed", "failed", "undecided"]
Bound = Literal["at_most", "at_least", "worse_by_at_most"]

# What fresh blocks said of a worsening that the first run found. unconfirmed: nothing yet.
Confirmation = Literal["unconfirmed", "confirmed", "not reproduced"]


@dataclass(frozen=True, slots=True)
class Check:
    """One threshold held against one cell, or against one pair of cells.

    Attributes:
        threshold: its name; ``index`` its place in the plan's list, from 0.
        against: the other side of a worsening; None for levels.
        limit, unit: what is allowed.
        value, low, high: the level, or the change for the worse (less than 0: better), in ``unit``; None where there
            is nothing to judge by. From the fresh blocks where a second run confirmed.
        level: of the interval ``low`` to ``high``: 0.95 for levels, 0.9 for worsenings, whose ends are then
            one-sided 95 % bounds; 0.982 and 0.964 in sequential mode.
        n, planned: blocks compared, blocks the plan asked for.
        p, p_adjusted: one-sided, against a worsening of exactly ``limit``; adjusted over all worsenings of the plan's
            thresholds (in a confirming run: over those it repeats). None for levels, and where nothing was judged.
        blocks_needed: would decide it, if it stays as large as it looks; None: decided, unknown, or more than anyone
            would run.
        sentence: all of it in words.
    """

    threshold: str
    index: int
    metric: str
    title: str
    bound: Bound
    limit: float
    unit: str
    arm: str
    profile: str
    workload: str
    infrastructure: str
    load: str
    against: str | None
    status: Status
    confirmation: Confirmation | None
    value: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    planned: int
    p: float | None
    p_adjusted: float | None
    blocks_needed: int | None
    sentence: str

    @property
    def subject(self) -> str:
        """What was held against the threshold: the arm, its workload and load, and what it was compared with."""
        place = f"{self.arm} · {self.profile} ({self.workload}, {self.infrastructure}, {self.load})"
        return place if self.against is None else f"{place} against {self.against}"

    @property
    def word(self) -> str:
        """The status, with what is to be known of a failure."""
        return "failed (unconfirmed)" if self.confirmation == "unconfirmed" else self.status


@dataclass(frozen=True, slots=True)
class Outcome:
    """All checks of a run.

    Attributes:
        status: failed when one check failed, else undecided when one is, else passed.
        sentence: the answer in words, for a first line.
        to_confirm: keys of the cells that a second run has to measure again; empty: nothing waits for it.
        confirm_blocks: fresh blocks the plan gives that run.
        confirming_run_id: the run whose fresh blocks count here; None: there is none that is over.
        versions: per arm, its proxies with exact versions, such as ``client envoy 1.40.0``.
        at: when the run began (or was submitted, while it waits), ISO 8601.
        duration_s: of the run; None while it is not over.
        remarks: what has to stand beside the answer: an A/A alarm, a host too small.
    """

    run_id: str
    plan: str
    plan_sha256: str
    state: str
    status: Status
    sentence: str
    checks: tuple[Check, ...]
    to_confirm: tuple[str, ...]
    confirm_blocks: int
    confirming_run_id: str | None
    versions: Mapping[str, str]
    meshgauge: str
    at: str
    duration_s: float | None
    remarks: tuple[str, ...]

    def count(self, status: Status) -> int:
        """Return how many checks came out like that."""
        return sum(check.status == status for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-ready mappings."""
        document = asdict(self)
        document["counts"] = {status: self.count(status) for status in ("passed", "failed", "undecided")}
        for shown, check in zip(document["checks"], self.checks, strict=True):
            shown["subject"], shown["word"] = check.subject, check.word
        return document
