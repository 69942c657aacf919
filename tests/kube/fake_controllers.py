"""What a controller manager does of its own accord: namespaces and definitions emptied, orphans collected."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from fake_answers import RefusalError
from fake_kinds import Manifest, Resource
from fake_store import Change, Store, Writer

CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"
_WRITER: Final = Writer(manager="kube-controller-manager")
_IDLE_S: Final = 0.5  # a look around without any change, should one have been missed


class Controllers:
    """One thread that follows the store's changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = 0
        self._gone: set[str] = set()  # uids of what was deleted
        self._thread = threading.Thread(target=self._run, name="fake-controllers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for the end; the store has to be closed before."""
        self._thread.join(10)

    def _run(self) -> None:
        while not self._store.is_closed:
            try:
                changes = self._store.since(self._seen, _IDLE_S)
            except RefusalError:  # history was compacted
                self._seen = self._store.version
                continue
            for change in changes:
                self._seen = change.version
                self._follow(change)
            self._finish()

    def _follow(self, change: Change) -> None:
        if change.stored_as == ("", "namespaces") and change.old is None and change.new:
            self._furnish(change.new["metadata"]["name"])
        if change.old is None and change.new:
            self._refuse_to_adopt(change.new)
        if change.new is None and change.old:
            uid = change.old["metadata"]["uid"]
            self._gone.add(uid)
            for resource, orphan in self._where(lambda m: uid in _owner_uids(m)):
                if len(_owner_uids(orphan)) == 1:
                    self._delete(resource, orphan)

    def _refuse_to_adopt(self, made: Manifest) -> None:
        """Collect what a controller with an old view made for an owner that has gone meanwhile."""
        owners = _owner_uids(made)
        if owners and self._gone.issuperset(owners):
            for resource, orphan in self._where(lambda m: m["metadata"]["uid"] == made["metadata"]["uid"]):
                self._delete(resource, orphan)

    def _furnish(self, namespace: str) -> None:
        """Put into a new namespace what every cluster puts there."""
        name = {"namespace": namespace}
        for manifest in (
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", **name}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", **name},
             "data": {"ca.crt": "none"}},
        ):  # fmt: skip
            resource = self._store.of_kind("v1", str(manifest["kind"]))
            with contextlib.suppress(RefusalError):  # there already, or the namespace is going again
                self._store.create(resource, namespace, manifest, _WRITER)

    def _finish(self) -> None:
        """Carry on with everything that is marked for deletion and held back by a finalizer of ours."""
        for resource, manifest in self._where(lambda m: "deletionTimestamp" in m["metadata"]):
            finalizers = manifest["metadata"].get("finalizers") or ()
            if resource.stored_as == ("", "namespaces"):
                self._empty_namespace(resource, manifest)
            elif CLEANUP in finalizers:
                self._empty_definition(resource, manifest)
            elif "foregroundDeletion" in finalizers:
                self._foreground(resource, manifest)
            elif "orphan" in finalizers:
                self._orphan(resource, manifest)

    def _empty_namespace(self, resource: Resource, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        inside = self._where(lambda m: m["metadata"].get("namespace") == name)
        for kind, below in inside:
            if "deletionTimestamp" not in below["metadata"]:
                self._delete(kind, below)
        if not inside:
            self._edit(resource, manifest, lambda m: {**m, "spec": {**m["spec"], "finalizers": []}})

    def _empty_definition(self, resource: Resource, crd: Manifest) -> None:
        stored_as = (crd["spec"]["group"], crd["spec"]["names"]["plural"])
        instances = [(kind, m) for kind, m in self._where(lambda _: True) if kind.stored_as == stored_as]
        for kind, instance in instances:
            if "deletionTimestamp" not in instance["metadata"]:
                self._delete(kind, instance)
        if not instances:
            self._release(resource, crd, CLEANUP)

    def _foreground(self, resource: Resource, owner: Manifest) -> None:
        uid = owner["metadata"]["uid"]
        dependents = self._where(lambda m: uid in _owner_uids(m))
        for kind, dependent in dependents:
            if "deletionTimestamp" not in dependent["metadata"]:
                self._delete(kind, dependent)
        if not dependents:
            self._release(resource, owner, "foregroundDeletion")

    def _orphan(self, resource: Resource, owner: Manifest) -> None:
        uid = owner["metadata"]["uid"]
        for kind, dependent in self._where(lambda m: uid in _owner_uids(m)):
            rest = [r for r in dependent["metadata"]["ownerReferences"] if r["uid"] != uid]
            self._edit(kind, dependent, _with_metadata(ownerReferences=rest))
        self._release(resource, owner, "orphan")

    def _release(self, resource: Resource, manifest: Manifest, finalizer: str) -> None:
        rest = [f for f in manifest["metadata"].get("finalizers") or () if f != finalizer]
        self._edit(resource, manifest, _with_metadata(finalizers=rest))

    def _where(self, test: Callable[[Manifest], bool]) -> list[tuple[Resource, Manifest]]:
        resources = {resource.stored_as: resource for resource in reversed(self._store.resources())}
        held = self._store.everything()
        return [(resources[where], m) for where, m in held if where in resources and test(m)]

    def _delete(self, resource: Resource, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        options = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        with contextlib.suppress(RefusalError):  # gone, or another of that name by now
            self._store.delete(resource, metadata.get("namespace") or "", metadata["name"], options)

    def _edit(self, resource: Resource, manifest: Manifest, change: Callable[[Manifest], Manifest]) -> None:
        metadata = manifest["metadata"]
        writer = Writer("kube-controller-manager", "finalize" if resource.stored_as == ("", "namespaces") else "")
        with contextlib.suppress(RefusalError, KeyError):  # gone meanwhile
            self._store.edit(resource, metadata.get("namespace") or "", metadata["name"], change, writer)


def _with_metadata(**fields: Any) -> Callable[[Manifest], Manifest]:
    return lambda manifest: {**manifest, "metadata": {**manifest["metadata"], **fields}}


def _owner_uids(manifest: Mapping[str, Any]) -> list[str]:
    return [reference["uid"] for reference in manifest["metadata"].get("ownerReferences") or ()]
