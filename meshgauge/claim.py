"""Claims: what a worker holds while it has a lease, and what it says when it gives it back."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal, Protocol

AttemptOutcome = Literal["done", "failed", "lost", "cancelled", "interrupted"]


class Held(Protocol):
    """A site's lease, whatever it is held for."""

    @property
    def site(self) -> str:
        """The site's name."""

    @property
    def epoch(self) -> int:
        """Grows with every claim: what an older one writes does not count."""

    @property
    def holder(self) -> str:
        """Who renews it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker holds: an environment on a site, for as long as it renews the lease."""

    site: str
    epoch: int
    holder: str
    environment_id: uuid.UUID
    run_id: uuid.UUID
    attempt: int
    key: str
    block: int
    position: int


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The right to clean a site: whatever is older than ``epoch`` has to go."""

    site: str
    provider: str
    epoch: int
    holder: str
