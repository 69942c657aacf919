"""Tells which objects a life brought into a cluster, and in which order they go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from adapters.kubernetes.api import LABEL_COMPONENT, LABEL_ENVIRONMENT, LABEL_OWNER, LABEL_SITE, OWNER, Kind, ObjectRef
from adapters.kubernetes.mesh import Residue
from adapters.kubernetes.traces.inventory import (
    CLAIM,
    CRD,
    NAMESPACE,
    VOLUME,
    Difference,
    Entry,
    Inventory,
    group_of_crd,
    matches,
)
from adapters.kubernetes.traces.ledger import COMPONENT, PREFIX, Ledger

# What stands in the way of everything else once its backend is gone, so it goes first.
_GATES: Final = frozenset(
    {
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "APIService",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
    }
)


def brought(ledger: Ledger, now: Inventory) -> list[Entry]:
    """Return what the ledger's life brought and is still there; never what was there before, by name.

    New objects belong to it when a release of ours made them (Helm's annotations), when they carry our labels, or
    when the mesh's residue names them. Whatever else is new, somebody else made.
    """
    return [entry for entry in now.entries.values() if not ledger.before.had(entry.ref) and _is_of(ledger, entry)]


def _is_of(ledger: Ledger, entry: Entry) -> bool:
    undertaking, labels = ledger.undertaking, entry.labels
    if labels.get(LABEL_OWNER) == OWNER and LABEL_SITE in labels:
        return carries(labels, ledger.owner.labels) and labels.get(LABEL_COMPONENT) != COMPONENT
    is_of_release = entry.release in undertaking.releases and entry.release not in ledger.before.releases
    return is_of_release or entry.ref in undertaking.objects or _is_named(undertaking.residue, entry.ref)


def _is_named(residue: Residue, ref: ObjectRef) -> bool:
    if ref.kind == CRD:
        return fits(group_of_crd(ref.name), residue.groups)
    if ref.kind == NAMESPACE:
        return ref.name in residue.namespaces
    if ref.kind == CLAIM:  # listed by its selector
        return ref.namespace in residue.namespaces
    return matches(ref.kind, ref.name, (*residue.kinds, *residue.everywhere))


def foreign(ledger: Ledger, now: Inventory, difference: Difference) -> Difference:
    """Return the part of a difference that is neither this life's nor another one's of ours."""
    mine = {entry.ref for entry in brought(ledger, now)}

    def others(entries: Iterable[Entry]) -> tuple[Entry, ...]:
        return tuple(entry for entry in entries if entry.ref not in mine and LABEL_SITE not in entry.labels)

    gone = tuple(entry for entry in difference.gone if not entry.ref.name.startswith(PREFIX))  # of other lives
    return Difference(others(difference.added), gone, others(difference.replaced))


def gates(entries: Sequence[Entry]) -> list[Entry]:
    """Return webhooks, aggregated APIs and admission policies."""
    return [entry for entry in entries if entry.ref.kind.name in _GATES]


def namespaces(entries: Sequence[Entry]) -> list[Entry]:
    """Return the namespaces."""
    return [entry for entry in entries if entry.ref.kind == NAMESPACE]


def crds(entries: Sequence[Entry]) -> list[Entry]:
    """Return the CRDs."""
    return [entry for entry in entries if entry.ref.kind == CRD]


def rest(entries: Sequence[Entry]) -> list[Entry]:
    """Return what is none of the others, and no volume, which its provisioner ends."""
    others = (NAMESPACE, CRD, VOLUME)
    return [entry for entry in entries if entry.ref.kind.name not in _GATES and entry.ref.kind not in others]


def is_named_by(kind: Kind, plural: str, entries: Sequence[Entry]) -> bool:
    """Return whether one of the CRDs serves this kind."""
    return any(entry.ref.kind == CRD and entry.ref.name == f"{plural}.{kind.group}" for entry in entries)


def fits(group: str, patterns: Iterable[str]) -> bool:
    """Return whether an API group is one of the patterns: itself, or below ``*.istio.io``."""
    return any(fnmatchcase(group, pattern) for pattern in patterns)


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether an object of ours belongs to this owner: same site, same environment or operation."""
    return all(labels.get(name) == wanted[name] for name in (LABEL_SITE, LABEL_ENVIRONMENT))
