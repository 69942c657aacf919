"""Undoes one life in a cluster: all it brought goes, and never what was there before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from adapters.kubernetes.api import (
    LABEL_COMPONENT,
    LABEL_ENVIRONMENT,
    LABEL_SITE,
    Cluster,
    Kind,
    Manifest,
    ObjectRef,
)
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.server.waiting import wait_gone
from adapters.kubernetes.traces import leftovers
from adapters.kubernetes.traces.inventory import (
    CRD,
    NAMESPACE,
    VOLUME,
    Difference,
    Entry,
    Inventory,
    difference,
    entry_of,
    take,
)
from adapters.kubernetes.traces.ledger import COMPONENT, Ledger
from meshgauge.errors import ConfigurationError, EnvironmentUpError

OnLine = Callable[[str], None]

_ROUNDS = 4  # controllers on their way out may make something anew behind us
_STEP_S = 60.0  # what one kind of thing gets to go, before we see what holds it
_RELEASE_S = 120.0
_TOLD = 3


def remove(
    cluster: Cluster, helm: HelmBackend, ledger: Ledger, on_line: OnLine = lambda _: None, timeout_s: float = 300.0
) -> Difference:
    """Remove everything the ledger's life brought, compare with what was there before, and drop the ledger. Idempotent.

    In this order: what needs its controller to go (``KubernetesMesh.removal``), our own namespaces, releases in
    reverse, webhooks, the mesh's namespaces, custom objects, CRDs, and what controllers left elsewhere.

    Returns:
        How the cluster differs from before all the same: what others made or removed meanwhile. Left alone.

    Raises:
        EnvironmentUpError: something is left: names it; the ledger stays, so that it can be tried again.
    """
    return _Removal(cluster, helm, ledger, on_line, time.monotonic() + timeout_s).run()


class _Removal:
    def __init__(self, cluster: Cluster, helm: HelmBackend, ledger: Ledger, on_line: OnLine, deadline: float) -> None:
        self._cluster: Final = cluster
        self._helm: Final = helm
        self._ledger: Final = ledger
        self._on_line: Final = on_line
        self._deadline: Final = deadline
        self._controllers_are_gone = False
        self._own_namespaces: set[str] = set()
        self._stuck: list[str] = []

    def run(self) -> Difference:
        self._ledger.leave()
        self._while_controllers_run()
        self._end_own_namespaces()
        failures = self._uninstall()
        self._controllers_are_gone = not failures or not self._shares_namespaces()
        for _ in range(_ROUNDS):
            left = self._left(self._now())
            if not left or time.monotonic() > self._deadline:
                break
            self._stuck.clear()
            self._one_round(left)
        return self._compare(failures)

    def _shares_namespaces(self) -> bool:
        """Return whether a release of ours lies in a namespace that was there before, and so does not end with it."""
        spaces = {namespace for _, namespace in self._ledger.undertaking.releases}
        return any(self._ledger.before.had(ObjectRef(NAMESPACE, "", space)) for space in spaces)

    def _while_controllers_run(self) -> None:
        """Delete what only its controller can let go (finalizers), and objects a controller makes others of."""
        refs = [ref for ref in self._ledger.undertaking.removal if not self._ledger.before.had(ref)]
        self._delete(refs)

    def _end_own_namespaces(self) -> None:
        """End the namespaces of application and load; the mesh's own, which carry our labels too, come later."""
        owner, later = self._ledger.owner, self._ledger.undertaking.residue.namespaces
        labels = f"{LABEL_SITE}={owner.site},{LABEL_ENVIRONMENT}={owner.id},{LABEL_COMPONENT}!={COMPONENT}"
        found = [ObjectRef.of(item) for item in self._cluster.metadata(NAMESPACE, labels=labels)]
        refs = [ref for ref in found if ref.name not in later and not self._ledger.before.had(ref)]
        self._own_namespaces = {ref.name for ref in refs}
        self._delete(refs)

    def _uninstall(self) -> list[str]:
        """Uninstall our releases, the last one first; return a sentence for each that cannot be."""
        failures = []
        for name, namespace in reversed(self._ledger.undertaking.releases):
            if (name, namespace) in self._ledger.before.releases:
                self._on_line(f"release {name} in namespace {namespace} was there before: left alone")
                continue
            try:
                self._uninstall_one(name, namespace)
            except EnvironmentUpError as error:
                failures.append(f"release {name} in namespace {namespace}: {error}")
                self._on_line(f"Helm cannot uninstall {failures[-1]}; its objects are removed without it")
        return failures

    def _uninstall_one(self, name: str, namespace: str) -> None:
        try:
            was_there = self._helm.uninstall(self._cluster, name, namespace, _RELEASE_S)
        except EnvironmentUpError:  # webhooks whose server never came up, or is gone, refuse every change
            self._delete([entry.ref for entry in leftovers.gates(self._left(self._now()))])
            was_there = self._helm.uninstall(self._cluster, name, namespace, _RELEASE_S)
        if was_there:
            self._on_line(f"uninstalled release {name} from namespace {namespace}")

    def _now(self) -> Inventory:
        return take(self._cluster, self._ledger.undertaking.residue)

    def _left(self, now: Inventory) -> list[Entry]:
        """Return what this life brought and is still there."""
        named = {ref for ref in (*self._ledger.undertaking.objects, *self._ledger.undertaking.removal) if ref.namespace}
        objects = [self._cluster.get(ref) for ref in sorted(named) if not self._ledger.before.had(ref)]
        known = (entry_of(item) for item in objects if item is not None)
        return [*leftovers.brought(self._ledger, now), *known, *self._volumes(now)]

    def _volumes(self, now: Inventory) -> list[Entry]:
        """Return volumes that were made for claims in namespaces this life brought."""
        new = [entry for entry in now.entries.values() if entry.ref.kind == VOLUME]
        return [entry for entry in new if not self._ledger.before.had(entry.ref) and self._is_claimed(entry.ref)]

    def _is_claimed(self, volume: ObjectRef) -> bool:
        spec = (self._cluster.get(volume) or {}).get("spec", {})
        space = (spec.get("claimRef") or {}).get("namespace", "")
        ours = {*self._ledger.undertaking.residue.namespaces, *self._own_namespaces}
        return space in ours and not self._ledger.before.had(ObjectRef(NAMESPACE, "", space))

    def _one_round(self, left: Sequence[Entry]) -> None:
        self._delete([entry.ref for entry in leftovers.gates(left)])
        self._delete([entry.ref for entry in leftovers.namespaces(left)])
        self._delete(self._custom_objects(left))
        self._delete([entry.ref for entry in leftovers.crds(left)])
        self._end_volumes([entry.ref for entry in left if entry.ref.kind == VOLUME])
        self._delete([entry.ref for entry in leftovers.rest(left)])

    def _end_volumes(self, volumes: Sequence[ObjectRef]) -> None:
        """Let the provisioner delete what it made, disk and all; delete only volumes it is told to retain."""
        kept = [ref for ref in volumes if _reclaim(self._cluster.get(ref)) == "Retain"]
        self._delete(kept)
        try:
            self._wait(volumes)
        except EnvironmentUpError as error:
            self._stuck.append(f"its provisioner does not delete: {error}")

    def _custom_objects(self, left: Sequence[Entry]) -> list[ObjectRef]:
        """Return the objects of CRDs that go: the API server would delete them, and wait for their finalizers."""
        served = [kind for kind in self._cluster.kinds() if leftovers.is_named_by(kind.kind, kind.plural, left)]
        return [ObjectRef.of(item) for kind in served for item in self._seen(kind.kind)]

    def _seen(self, kind: Kind) -> Sequence[Manifest]:
        """Return the objects of a kind that may go by itself; of one we may not list, none."""
        try:
            return self._cluster.metadata(kind)
        except ConfigurationError:
            return []

    def _delete(self, refs: Sequence[ObjectRef]) -> None:
        """Delete and see gone; what hangs on a controller that is gone is let go, the rest is kept for the end."""
        there = [ref for ref in refs if self._is_going(ref)]
        if not there:
            return
        self._on_line(f"removing {_listed(there)}")
        try:
            self._wait(there)
        except EnvironmentUpError as error:
            self._let_go_or_note(there, error)

    def _is_going(self, ref: ObjectRef) -> bool:
        """Delete one; return whether it is on its way out. A refusal is told at the end: the rest goes first."""
        try:
            return self._cluster.delete(ref)
        except EnvironmentUpError as error:  # a webhook in the way, or a namespace that is being ended already
            self._on_line(str(error))
            self._stuck.append(str(error))
            found = self._cluster.get(ref)
            return found is not None and entry_of(found).is_going

    def _let_go_or_note(self, refs: Sequence[ObjectRef], error: EnvironmentUpError) -> None:
        if self._controllers_are_gone and (held := self._held_by_the_mesh(refs)):
            self._on_line(f"letting go of {_listed(held)}, whose controller is gone")
            for ref in held:
                self._cluster.patch(ref, {"metadata": {"finalizers": None}})
            try:
                return self._wait(refs)
            except EnvironmentUpError as second:
                error = second
        self._on_line(str(error))
        self._stuck.append(str(error))
        return None

    def _wait(self, refs: Sequence[ObjectRef]) -> None:
        wait_gone(self._cluster, refs, max(min(self._deadline - time.monotonic(), _STEP_S), 1.0))

    def _held_by_the_mesh(self, refs: Sequence[ObjectRef]) -> list[ObjectRef]:
        """Return what waits for finalizers of the mesh: these objects, those in these namespaces or of these CRDs."""
        groups = self._ledger.undertaking.residue.finalizers
        spaces = {ref.name for ref in refs if ref.kind == NAMESPACE}
        definitions = {ref.name for ref in refs if ref.kind == CRD}
        held = []
        for served in self._cluster.kinds() if groups else ():
            if not leftovers.fits(served.kind.group, groups):
                continue
            is_defined = f"{served.plural}.{served.kind.group}" in definitions
            for item in self._seen(served.kind):
                ref = ObjectRef.of(item)
                is_meant = is_defined or ref in refs or ref.namespace in spaces
                if is_meant and item["metadata"].get("deletionTimestamp") and item["metadata"].get("finalizers"):
                    held.append(ref)
        return held

    def _compare(self, failures: Sequence[str]) -> Difference:
        now = self._now()
        left = sorted(str(entry.ref) for entry in self._left(now))
        releases = (now.releases & frozenset(self._ledger.undertaking.releases)) - self._ledger.before.releases
        left += [f"release {name} in namespace {namespace}" for name, namespace in sorted(releases)]
        if left:
            reasons = "".join(f"\n  {line}" for line in (*failures, *self._stuck))
            raise EnvironmentUpError(
                f"{self._ledger} cannot be removed wholly from {self._cluster.name}; left: {', '.join(left)}{reasons}"
            )
        found = leftovers.foreign(self._ledger, now, difference(self._ledger.before, now))
        if found:
            self._on_line(f"changed by others meanwhile, left alone: {found}")
        self._ledger.drop()
        return found


def _reclaim(volume: Manifest | None) -> str:
    return str(((volume or {}).get("spec") or {}).get("persistentVolumeReclaimPolicy", ""))


def _listed(refs: Sequence[ObjectRef]) -> str:
    """Return up to three names, and how many more."""
    names = ", ".join(str(ref) for ref in refs[:_TOLD])
    return names if len(refs) <= _TOLD else f"{names} and {len(refs) - _TOLD} more"
