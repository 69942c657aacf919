"""The Kubernetes provider: environments in any cluster a kubeconfig names. Plans need none to be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adapters.contract import Environment, EnvironmentOrder
from adapters.kubernetes.api import Cluster
from adapters.kubernetes.arms import MeshOf, why_unsupported
from adapters.kubernetes.environments.environment import KubernetesEnvironment
from adapters.kubernetes.environments.standing import life_order
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.charts import ChartStore
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.lifecycle import MeshLife
from adapters.kubernetes.traces.ledger import Owner
from adapters.kubernetes.traces.sweep import sweep
from meshgauge.infrastructures import Infrastructure, context_of
from meshgauge.matrix import EnvironmentKey, MeshArm
from meshgauge.plan import Profile

_NOBODY = Owner("preflight", 0, "preflight")  # makes nothing, so nothing is ever labelled with it


def _connect(context: str | None) -> Cluster:
    from adapters.kubernetes.server.connection import connect  # noqa: PLC0415 - loads the client library; plans need none

    return connect(context)


class KubernetesProvider:
    """Implements ``adapters.contract.Provider``.

    Args:
        mesh_of: returns the mesh of a name, or raises UnknownNameError.
        cache_dir: where charts and their indexes are kept.
        connect, helm: how clusters and Helm are reached; nothing is reached before it is needed.
    """

    name = "kubernetes"

    def __init__(
        self,
        mesh_of: MeshOf,
        cache_dir: Path,
        connect: Callable[[str | None], Cluster] = _connect,
        helm: Callable[[], HelmBackend] = backend,
    ) -> None:
        self._mesh_of = mesh_of
        self._cache_dir = cache_dir
        self._connect = connect
        self._helm = helm

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        """Return why ``mesh`` cannot run ``profile`` here, or None when it can."""
        if infrastructure.provider != self.name:
            return f"infrastructure {infrastructure.name} is no cluster"
        return why_unsupported(mesh, profile, infrastructure, self._mesh_of)

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        """Return, per hop role, a value for every name in FEATURES; nothing for the baseline."""
        return {hop.role: dict(self._mesh_of(hop.adapter).features(profile, hop.role)) for hop in mesh.hops}

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:
        """Return the versions of ``adapter`` its charts are published for, newest first.

        Raises:
            UnknownNameError: nobody registered it.
            ServiceUnavailableError: the repository of its charts is away and no copy of its index is kept.
            ConfigurationError: the mirror the plan names is not there.
        """
        mesh = self._mesh_of(adapter)
        return ChartStore(self._helm(), self._cache_dir, infrastructure.in_cluster.charts).versions(mesh)

    def preflight(self, key: EnvironmentKey, load_workers: int) -> Sequence[str]:
        """Look at the cluster and return why the environment could not come up there now; changes nothing.

        Raises:
            ServiceUnavailableError: the API server or a chart repository does not answer.
            ConfigurationError: there is no such context, or our credentials are refused.
        """
        cluster = self._connect(key.infrastructure.in_cluster.context)
        try:
            order = life_order(key, _NOBODY, "meshgauge-preflight", load_workers, self._mesh_of)
            return MeshLife(cluster, self._helm(), order, self._cache_dir).problems()
        finally:
            cluster.close()

    def open(self, order: EnvironmentOrder) -> Environment:
        """Return the environment ``order`` describes, not yet up."""
        return KubernetesEnvironment(order, self._mesh_of, self._connect, self._helm)

    def sweep(self, place: str, site: str, epoch: int) -> Sequence[str]:
        """Remove whatever an epoch before ``epoch`` left in the cluster that ``place`` names.

        Returns:
            a line for each thing removed.

        Raises:
            EnvironmentUpError: something could not be removed.
        """
        cluster = self._connect(context_of(place))
        try:
            return sweep(cluster, self._helm(), site, epoch)
        finally:
            cluster.close()
