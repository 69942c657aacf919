"""Conformance: what the contract suite found out about one adapter at one version, and when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

CheckOutcome = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True, slots=True)
class ConformanceCheck:
    """One check of the suite; ``sentence`` is what was seen, or why the check does not apply."""

    name: str
    outcome: CheckOutcome
    sentence: str


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """One pass of the suite.

    Attributes:
        version: of the mesh, exact.
        infrastructure: where it ran, in words: ``local, Linux 6.8 x86_64`` or ``kubernetes 1.34.1``.
        revision: of Meshgauge's own sources, or its version.
    """

    adapter: str
    version: str
    provider: str
    infrastructure: str
    revision: str
    at: dt.datetime
    checks: tuple[ConformanceCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        outcomes = {check.outcome for check in self.checks}
        return "pass" in outcomes and "fail" not in outcomes

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "adapter": self.adapter,
            "version": self.version,
            "provider": self.provider,
            "infrastructure": self.infrastructure,
            "revision": self.revision,
            "at": self.at.isoformat(),
            "checks": [
                {"name": check.name, "outcome": check.outcome, "sentence": check.sentence} for check in self.checks
            ],
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> ConformanceResult:
        """Return the result ``to_json`` wrote."""
        checks = tuple(ConformanceCheck(**check) for check in data["checks"])
        return cls(**{**data, "at": dt.datetime.fromisoformat(data["at"]), "checks": checks})
