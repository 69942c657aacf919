"""Finds and removes what earlier epochs, killed workers and forgotten hands of ours left in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.helm.contract import HelmBackend


def sweep(
    cluster: Cluster, helm: HelmBackend, site: str, epoch: int, on_line: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Remove what epochs of ``site`` before ``epoch`` left; return a line for each thing removed.

    Lives that are meant to stay (``Ledger.stay``) are left alone.

    Raises:
        EnvironmentUpError: something could not be removed.
    """
    raise NotImplementedError


def remains(cluster: Cluster) -> Sequence[str]:
    """Return a line for each life and each loose object of ours in the cluster, of any site and epoch."""
    raise NotImplementedError


def clean(cluster: Cluster, helm: HelmBackend, on_line: Callable[[str], None] = lambda _: None) -> list[str]:
    """Remove everything Meshgauge ever made in this cluster, also what is meant to stay; return lines as ``sweep``.

    Raises:
        EnvironmentUpError: something could not be removed.
    """
    raise NotImplementedError
