"""Undoes one life in a cluster: all it brought goes, and never what was there before."""

from __future__ import annotations

from collections.abc import Callable

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.ledger import Ledger

OnLine = Callable[[str], None]


def remove(
    cluster: Cluster, helm: HelmBackend, ledger: Ledger, on_line: OnLine = lambda _: None, timeout_s: float = 300.0
) -> None:
    """Remove everything the ledger's life brought, compare with what was there before, and drop the ledger. Idempotent.

    In this order: what needs its controller to go (``removal``), our own namespaces, releases in reverse, webhooks,
    custom objects, CRDs, what controllers left, the mesh's namespaces. Objects that somebody else made meanwhile are
    told as a line and left alone.

    Raises:
        EnvironmentUpError: something is left: names it; the ledger stays, so that it can be tried again.
    """
    raise NotImplementedError
