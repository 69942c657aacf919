"""What the provider asks of Helm, whichever way Helm is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from adapters.kubernetes.api import Cluster, Manifest


@dataclass(frozen=True, slots=True)
class ChartSource:
    """Where a chart comes from.

    Attributes:
        chart: name within ``repository``; or, without one, an ``oci://`` reference or a path on this host.
        repository: address of the chart repository; empty without.
    """

    chart: str
    repository: str = ""

    def __str__(self) -> str:
        return f"{self.repository.rstrip('/')}/{self.chart}" if self.repository else self.chart


@dataclass(frozen=True, slots=True)
class ChartVersion:
    """One entry of a chart repository's index."""

    version: str
    app_version: str
    created: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ChartRelease:
    """A chart to install under a name.

    Attributes:
        version: of the chart, exact.
        values: laid over the chart's own.
        skip_crds: leave ``crds/`` alone: somebody else owns them.
    """

    name: str
    namespace: str
    source: ChartSource
    version: str
    values: Mapping[str, Any] = field(default_factory=dict)
    skip_crds: bool = False


@dataclass(frozen=True, slots=True)
class Deployed:
    """A release as Helm knows it. For the provenance, and to find what is installed."""

    name: str
    namespace: str
    chart: str
    chart_version: str
    app_version: str
    revision: int
    status: str


class HelmBackend(Protocol):
    """Helm. All calls block; a child process does the work, so that ending it cancels them.

    Every method may raise:
        EnvironmentUpError: Helm failed: its last sentences are passed on, without secrets.
        ServiceUnavailableError: a repository or the API server does not answer (retryable).
        ConfigurationError: the chart or version does not exist; names what there is.
    """

    name: str
    """``sdk`` or ``binary``."""

    def version(self) -> str:
        """Return Helm's own version."""

    def versions(self, source: ChartSource) -> Sequence[ChartVersion]:
        """Return what the repository (or registry, or folder) has of the chart, newest first."""

    def render(self, release: ChartRelease, kube_version: str) -> Sequence[Manifest]:
        """Return the objects the chart makes, its ``crds/`` first, hooks aside. Needs no cluster."""

    def install(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Install and return the objects made, hooks and ``crds/`` aside.

        Waits for hooks and for CRDs (those that exist are left alone); readiness is watched by the caller.
        """

    def upgrade(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Upgrade the release of that name in place, its ``crds/`` included; no value of before is kept."""

    def uninstall(self, cluster: Cluster, name: str, namespace: str, timeout_s: float) -> bool:
        """Remove the release, whatever its state, and wait for its objects to go; return whether there was one.

        Where Helm gives up (a hook that does not end, a kind that is gone) they are removed by Helm's record of them.
        """

    def releases(self, cluster: Cluster) -> Sequence[Deployed]:
        """Return every release in every namespace."""
