"""The local provider: environments as processes of this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adapters.contract import Environment, EnvironmentOrder
from adapters.local import mesh as chain
from adapters.local import wheels
from adapters.local.environment import LocalEnvironment
from adapters.local.proxy import LocalProxy
from adapters.local.sweep import sweep
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import EnvironmentKey, MeshArm
from meshgauge.plan import Profile


class LocalProvider:
    """Implements ``adapters.contract.Provider``.

    Args:
        find_proxy: returns the data plane of a name, or raises UnknownNameError.
        cache_dir: where lists of versions are kept.
    """

    name = "local"

    def __init__(self, find_proxy: Callable[[str], LocalProxy], cache_dir: Path) -> None:
        self._find_proxy = find_proxy
        self._cache_dir = cache_dir

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        """Return why ``mesh`` cannot run ``profile`` here, or None when it can."""
        if infrastructure.provider != self.name:
            return f"infrastructure {infrastructure.name} is not local"
        return chain.why_unsupported(mesh, profile, self._find_proxy)

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        """Return, per hop role, a value for every name in FEATURES; nothing for the baseline."""
        return {hop.role: dict(self._find_proxy(hop.adapter).features(profile, hop.role)) for hop in mesh.hops}

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:  # noqa: ARG002
        """Return the versions of ``adapter`` that can be had, newest first; the same for every size of this host.

        Raises:
            ServiceUnavailableError: the index cannot be reached and no copy of it is kept.
        """
        return wheels.versions(self._find_proxy(adapter).package, self._cache_dir)

    def preflight(self, key: EnvironmentKey, load_workers: int) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: this host has no rights to grant; ``meshgauge doctor`` says how fit it is."""
        return ()

    def open(self, order: EnvironmentOrder) -> Environment:
        """Return the environment ``order`` describes, not yet up."""
        return LocalEnvironment(order, self._find_proxy)

    def sweep(self, place: str, site: str, epoch: int) -> Sequence[str]:  # noqa: ARG002
        """End whatever an epoch before ``epoch`` left on ``site``, which is this host whatever it is called.

        Returns:
            a line for each thing removed.

        Raises:
            EnvironmentUpError: something could not be removed.
        """
        return sweep(site, epoch)
