"""Finds and removes what earlier epochs, killed workers and forgotten hands of ours left in a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from adapters.kubernetes.api import (
    LABEL_ENVIRONMENT,
    LABEL_EPOCH,
    LABEL_OWNER,
    LABEL_SITE,
    OWNER,
    Cluster,
    ServedKind,
)
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.server.waiting import wait_gone
from adapters.kubernetes.traces.inventory import NAMESPACE, Entry, entry_of
from adapters.kubernetes.traces.ledger import Ledger, ledgers
from adapters.kubernetes.traces.removal import remove
from meshgauge.errors import ConfigurationError

OnLine = Callable[[str], None]

_GONE_WITHIN_S = 120.0
_READERS = 8
_OURS: Final = f"{LABEL_OWNER}={OWNER},{LABEL_SITE}"


def sweep(cluster: Cluster, helm: HelmBackend, site: str, epoch: int, on_line: OnLine = lambda _: None) -> list[str]:
    """Remove what epochs of ``site`` before ``epoch`` left; return a line for each thing removed.

    Lives that are meant to stay (``Ledger.stay``) are left alone. Newer lives go first, as each was told what it
    found when it began.

    Raises:
        EnvironmentUpError: something could not be removed.
    """
    known = ledgers(cluster, site)
    staying = {ledger.owner.id for ledger in known if ledger.stays}

    def is_left(labels: Mapping[str, str]) -> bool:
        number = labels.get(LABEL_EPOCH, "")
        return number.isdecimal() and int(number) < epoch and labels.get(LABEL_ENVIRONMENT) not in staying

    old = [ledger for ledger in known if ledger.owner.epoch < epoch and not ledger.stays]
    return _remove_all(cluster, helm, old, f"{LABEL_OWNER}={OWNER},{LABEL_SITE}={site}", is_left, on_line)


def remains(cluster: Cluster) -> Sequence[str]:
    """Return a line for each life and each loose object of ours in the cluster, of any site and epoch."""
    known = ledgers(cluster)
    owners = {(ledger.owner.site, ledger.owner.id) for ledger in known}
    loose = [entry for entry in _labelled(cluster, _OURS) if _owner(entry.labels) not in owners]
    lines = [f"{ledger}{', meant to stay' if ledger.stays else ''}" for ledger in known]
    return [*lines, *(f"{entry.ref} of site {entry.labels[LABEL_SITE]}" for entry in loose)]


def clean(cluster: Cluster, helm: HelmBackend, on_line: OnLine = lambda _: None) -> list[str]:
    """Remove everything Meshgauge ever made in this cluster, also what is meant to stay; return lines as ``sweep``.

    Raises:
        EnvironmentUpError: something could not be removed.
    """
    return _remove_all(cluster, helm, ledgers(cluster), _OURS, lambda _: True, on_line)


def _remove_all(
    cluster: Cluster,
    helm: HelmBackend,
    lives: Sequence[Ledger],
    selector: str,
    is_left: Callable[[Mapping[str, str]], bool],
    on_line: OnLine,
) -> list[str]:
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        on_line(line)

    for ledger in lives:
        remove(cluster, helm, ledger, on_line)
        tell(f"removed {ledger}")
    loose = [entry for entry in _labelled(cluster, selector) if is_left(entry.labels)]
    for entry in loose:
        if cluster.delete(entry.ref):
            tell(f"removed {entry.ref}")
    wait_gone(cluster, [entry.ref for entry in loose], _GONE_WITHIN_S)
    return lines


def _labelled(cluster: Cluster, selector: str) -> list[Entry]:
    """Return every object with these labels that does not go by itself: with its namespace, or with its owner."""

    def read(served: ServedKind) -> list[Entry]:
        try:
            items = cluster.metadata(served.kind, labels=selector)
        except ConfigurationError:  # a kind we may not list is one we could not have made
            return []
        return [entry_of(item) for item in items if not item["metadata"].get("ownerReferences")]

    kinds = [served for served in cluster.kinds() if {"list", "delete"} <= served.verbs]
    with ThreadPoolExecutor(_READERS) as readers:
        found = [entry for entries in readers.map(read, kinds) for entry in entries]
    spaces = {entry.ref.name for entry in found if entry.ref.kind == NAMESPACE}
    return [entry for entry in found if entry.ref.namespace not in spaces]


def _owner(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get(LABEL_SITE, ""), labels.get(LABEL_ENVIRONMENT, "")
