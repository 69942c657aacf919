"""Operations: one step of a mesh's life on its own, outside of any run; what is asked for, and who holds it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from meshgauge.fields import Name, Strict
from meshgauge.infrastructures import Cluster, Infrastructure
from meshgauge.plan import Placement, Profile, built_in_profile

Action = Literal["install", "configure", "verify", "upgrade", "uninstall", "clean", "conformance"]
OperationOutcome = Literal["done", "failed", "cancelled", "interrupted"]

# What a local proxy has no life for: it is started anew with every environment.
CLUSTER_ACTIONS = frozenset({"install", "configure", "verify", "upgrade", "uninstall", "clean"})

# What becomes of a site on which an action was cut off in the middle, cancelled or lost with its worker.
CUT_OFF: Mapping[str, str] = {
    "install": "what was half done is removed from the site",
    "configure": "the mesh stands with parts of both profiles: configure it again, or uninstall it",
    "verify": "nothing was changed",
    "upgrade": "the mesh stands between two versions: upgrade it again, or uninstall it",
    "uninstall": "the sweep of the site goes on with the removal",
    "clean": "what was not removed yet stays: clean again",
    "conformance": "what was half done is removed from the site",
}

_OF_WHAT_STANDS = frozenset({"configure", "verify", "uninstall"})  # whatever its version is


class OperationRequest(Strict):
    """What a user asks for. ``clean`` removes whatever Meshgauge left in a cluster; it names no mesh."""

    action: Action
    adapter: Name | None = None
    version: str = Field(
        default="latest",
        min_length=1,
        max_length=100,
        description="exact, latest, previous, latest-N or a range such as >=1.29; fixed by the worker",
    )
    profile: Annotated[Profile | None, BeforeValidator(built_in_profile)] = Field(
        default=None,
        description="name or object; None: the one the mesh was installed with, else the first built-in it can run",
    )
    placement: Placement | None = Field(
        default=None, description="None: the one the mesh was installed with, else the mesh's own first"
    )
    provider: Literal["kubernetes", "local"] = "kubernetes"
    cluster: Cluster = Cluster()
    dry_run: bool = Field(default=False, description="clean: list what would go, and remove nothing")

    @model_validator(mode="after")
    def _says_what_and_where(self) -> Self:
        if (self.adapter is None) != (self.action == "clean"):
            raise ValueError("adapter: name the mesh; only clean goes without one")
        if self.provider == "local" and self.action in CLUSTER_ACTIONS:
            raise ValueError(f"{self.action} is for clusters: local proxies start anew with every environment")
        if self.dry_run and self.action != "clean":
            raise ValueError("dry_run belongs to action: clean")
        return self

    @property
    def subject(self) -> str:
        """What it does, in a few words."""
        if self.adapter is None:
            return f"{self.action} (dry run)" if self.dry_run else self.action
        chooses = self.action not in _OF_WHAT_STANDS
        return f"{self.action} {self.adapter} {self.version}" if chooses else f"{self.action} {self.adapter}"

    @property
    def infrastructure(self) -> Infrastructure:
        """Where it happens, as a plan would say it."""
        cluster = self.cluster if self.provider == "kubernetes" else None
        return Infrastructure(name=self.provider, provider=self.provider, cluster=cluster)


@dataclass(frozen=True, slots=True)
class OperationClaim:
    """What a worker holds while it carries out an operation: the site's lease."""

    site: str
    epoch: int
    holder: str
    operation_id: uuid.UUID
