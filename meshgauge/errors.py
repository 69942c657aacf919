"""Every error Meshgauge raises on purpose, one class per next action of the caller.

    MeshgaugeError
    |-- InvalidPlanError         correct the plan: ``problems`` lists field paths and fixes
    |-- InvalidRequestError      correct what was sent: the message says which part, and how
    |-- UnknownNameError         pick one of the known names (adapter, provider, profile, run ...)
    |-- UnsupportedError         the mesh cannot do that: exclude the cell
    |-- ConflictError            the state moved on: read it again
    |-- ConfigurationError       correct a setting, or a path of the plan
    |-- EnvironmentUpError       the environment did not come up: look at the named log
    |-- TreatmentError           traffic did not take the path it should: the trial is invalid
    |-- MeasurementError         the trial produced no usable numbers
    |-- ServiceUnavailableError  Postgres, Redis or the coordinator is away (retryable)
    `-- FencedError              our lease is over: stop and drop what we hold

Errors take positional arguments only, so that they survive pickling.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class MeshgaugeError(Exception):
    """Root of the tree. ``retryable`` says whether the same call may succeed later."""

    retryable = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where (``path``), what, and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidPlanError(MeshgaugeError):
    """The plan cannot be run as it stands."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(str(problem) for problem in self.problems)


class InvalidRequestError(MeshgaugeError):
    """A part of a request, other than a plan, cannot be taken as it stands."""


class UnknownNameError(MeshgaugeError):
    """A name nobody registered. Lists the known ones and the nearest; ``hint`` replaces the latter."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known, self.hint = kind, name, tuple(sorted(known)), hint
        super().__init__(kind, name, self.known, hint)

    def __str__(self) -> str:
        nearest = nearest_name(self.name, self.known)
        hint = f" Did you mean {nearest!r}?" if nearest else ""
        hint = f" {self.hint}" if self.hint else hint
        return f"unknown {self.kind} {self.name!r}.{hint} Known: {', '.join(self.known) or 'none'}."


class UnsupportedError(MeshgaugeError):
    """The mesh cannot do what the profile asks; it is never faked."""


class ConflictError(MeshgaugeError):
    """The row is not in the state the caller assumed."""


class ConfigurationError(MeshgaugeError):
    """A setting or the host stands in the way; the message says which and what to do."""


class EnvironmentUpError(MeshgaugeError):
    """A component of the environment did not start or died; the message names it and its log."""


class TreatmentError(MeshgaugeError):
    """Traffic did not go where the plan says, or was not encrypted as it says."""


class MeasurementError(MeshgaugeError):
    """Load ran, yet there are no numbers to stand on."""


class ServiceUnavailableError(MeshgaugeError):
    """A service we depend on does not answer now."""

    retryable = True


class FencedError(MeshgaugeError):
    """Somebody else holds the lease; nothing of ours counts any more."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, or None when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
