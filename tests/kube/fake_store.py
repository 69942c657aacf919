"""The objects of the fake API server: one lock, one counter of versions, one history that watches read."""

from __future__ import annotations

import copy
import secrets
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import fake_fields
import fake_rules
from fake_answers import RefusalError, already_exists, expired, modified, not_found
from fake_kinds import Manifest, Resource, built_in, of_definition
from fake_schema import check_schema

HISTORY: Final = 20_000
_DEFINITIONS: Final = ("apiextensions.k8s.io", "customresourcedefinitions")
_NAMESPACES: Final = ("", "namespaces")
Key = tuple[str, str]  # (namespace, name)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object. ``old`` None: created; ``new`` None: removed (then ``old`` has its last version)."""

    version: int
    stored_as: tuple[str, str]
    old: Manifest | None
    new: Manifest | None


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, and how. ``subresource``: ``status`` or empty."""

    manager: str = "tests"
    subresource: str = ""
    dry_run: bool = False


def now_text() -> str:
    """Return the time as objects carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects by resource, namespace and name. Manifests in here are never changed in place, only replaced."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.is_closed = False
        self._objects: dict[tuple[str, str], dict[Key, Manifest]] = {}
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._version = 1
        self._oldest = 0
        self._added: list[Resource] = []
        self._resources: list[Resource] | None = None

    # What is served.

    def serve(self, *resources: Resource) -> None:
        """Serve further resources, as an aggregated API server does."""
        with self.changed:
            self._added += resources
            self._resources = None

    def resources(self) -> list[Resource]:
        """Return everything served, each version by itself."""
        with self.changed:
            if self._resources is None:
                definitions = self._objects.get(_DEFINITIONS, {}).values()
                custom = [resource for crd in definitions for resource in of_definition(crd)]
                self._resources = [*built_in(), *self._added, *custom]
            return self._resources

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return one resource, or None when it is not served."""
        wanted = (group, version, plural)
        return next((r for r in self.resources() if (r.group, r.version, r.plural) == wanted), None)

    def of_kind(self, api_version: str, kind: str) -> Resource:
        """Return the resource of a kind; KeyError when it is not served."""
        for resource in self.resources():
            if (resource.api_version, resource.kind) == (api_version, kind):
                return resource
        raise KeyError(f"{kind}.{api_version} is not served")

    # Reading.

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._version

    @property
    def oldest(self) -> int:
        """The newest resourceVersion a watch can no longer start from."""
        return self._oldest

    def read(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """Return one object; raises 404."""
        with self.changed:
            found = self._objects.get(resource.stored_as, {}).get((namespace, name))
        if found is None:
            raise not_found(resource, name)
        return _as_version(resource, found)

    def list(self, resource: Resource, namespace: str = "") -> list[Manifest]:
        """Return objects in order of namespace and name."""
        with self.changed:
            held = sorted(self._objects.get(resource.stored_as, {}).items())
        return [_as_version(resource, m) for (where, _), m in held if namespace in ("", where)]

    def everything(self) -> Sequence[tuple[tuple[str, str], Manifest]]:
        """Return every object with its (group, plural)."""
        with self.changed:
            return [(stored_as, m) for stored_as, held in self._objects.items() for m in held.values()]

    # Writing.

    def put(self, manifest: Manifest) -> Manifest:
        """Create an object, or replace one of that name: how tests lay the ground."""
        resource = self.of_kind(manifest["apiVersion"], manifest["kind"])
        namespace = manifest["metadata"].get("namespace") or ("default" if resource.namespaced else "")
        with self.changed:
            held = self._objects.get(resource.stored_as, {}).get((namespace, manifest["metadata"]["name"]))
            if held is None:
                return self.create(resource, namespace, copy.deepcopy(manifest), Writer())
            return self.write(resource, held, copy.deepcopy(manifest), Writer())

    def create(self, resource: Resource, namespace: str, body: Any, writer: Writer) -> Manifest:
        """Create an object."""
        manifest = fake_rules.checked_kind(resource, body, namespace)
        metadata = manifest["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        with self.changed:
            self._check_place(resource, namespace, metadata.get("name") or "")
            given_owners = copy.deepcopy(metadata.pop("managedFields", None))
            for field in ("resourceVersion", "selfLink", "deletionTimestamp"):
                metadata.pop(field, None)
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now_text(), "generation": 1}
            fake_rules.check_name(resource, metadata.get("name") or "")
            fake_rules.check_labels(resource, manifest)
            check_schema(resource, manifest)
            if given_owners is None:
                fake_fields.updated(None, manifest, writer.manager, writer.subresource, now_text())
            else:
                metadata["managedFields"] = given_owners
            fake_rules.with_defaults(resource, manifest)
            fake_rules.check_size(resource, manifest)
            fake_rules.newborn(resource, manifest, self._version)
            return self._commit(resource, None, manifest, writer)

    def _check_place(self, resource: Resource, namespace: str, name: str) -> None:
        if (namespace, name) in self._objects.get(resource.stored_as, {}):
            raise already_exists(resource, name)
        if not resource.namespaced:
            return
        held = self._objects.get(_NAMESPACES, {}).get(("", namespace))
        if held is None:
            details = {"name": namespace, "kind": "namespaces"}
            raise RefusalError(404, f'namespaces "{namespace}" not found', details=details)
        if held["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            causes = [{"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}]
            message = f'{resource.plural} "{name}" is forbidden: {why}'
            raise RefusalError(403, message, details={"name": name, "kind": resource.plural, "causes": causes})

    def edit(
        self, resource: Resource, namespace: str, name: str, change: Callable[[Manifest], Manifest], writer: Writer
    ) -> Manifest:
        """Replace an object by what ``change`` makes of it, in one step."""
        with self.changed:
            old = self.read(resource, namespace, name)
            return self.write(resource, old, change(copy.deepcopy(old)), writer)

    def write(self, resource: Resource, old: Manifest, body: Any, writer: Writer, *, owned: bool = False) -> Manifest:
        """Replace ``old``. ``owned``: managedFields are settled already (server-side apply)."""
        new = fake_rules.checked_kind(resource, body, old["metadata"].get("namespace") or "")
        with self.changed:
            old = self.read(resource, *_key(old))
            kept, given = old["metadata"], new["metadata"]
            if given.get("resourceVersion") not in (None, "", kept["resourceVersion"]):
                raise modified(resource, kept["name"])
            if given.get("uid") not in (None, "", kept["uid"]):
                raise RefusalError(
                    409, f"Precondition failed: UID in precondition: {given['uid']}, in object meta: {kept['uid']}"
                )
            new = self._merged(resource, old, new, writer)
            fake_rules.check_labels(resource, new)
            fake_rules.with_defaults(resource, new)
            fake_rules.check_size(resource, new)
            fake_rules.check_unchanged(resource, old, new)
            if not writer.subresource:
                check_schema(resource, new)
            if _same(old, new):
                return _as_version(resource, old)
            if not owned:
                fake_fields.updated(old, new, writer.manager, writer.subresource, now_text())
            return self._commit(resource, old, new, writer)

    def _merged(self, resource: Resource, old: Manifest, new: Manifest, writer: Writer) -> Manifest:
        """Keep what a write cannot change: identity, and status or everything else."""
        if writer.subresource == "status":
            new = {**old, "status": new.get("status") or {}}
            return {**new, "apiVersion": resource.api_version, "metadata": dict(old["metadata"])}
        names = (
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "generation",
        )
        given = {k: v for k, v in new["metadata"].items() if k not in names}
        new = {**new, "metadata": {**given, **{k: old["metadata"][k] for k in names if k in old["metadata"]}}}
        if "status" in resource.subresources and writer.subresource != "finalize":
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        spec = {k: v for k, v in new.items() if k not in ("metadata", "status", "apiVersion")}
        before = {k: v for k, v in old.items() if k not in ("metadata", "status", "apiVersion")}
        if spec != before:
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        return new

    def _commit(self, resource: Resource, old: Manifest | None, new: Manifest, writer: Writer) -> Manifest:
        key = _key(new)
        if writer.dry_run:
            return _as_version(resource, new)
        if _may_go(resource, new):
            return self._drop(resource, new)
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        self._objects.setdefault(resource.stored_as, {})[key] = new
        self._tell(Change(self._version, resource.stored_as, old, new))
        return _as_version(resource, new)

    def _drop(self, resource: Resource, last: Manifest) -> Manifest:
        self._version += 1
        last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self._version)}}
        self._objects[resource.stored_as].pop(_key(last), None)
        self._tell(Change(self._version, resource.stored_as, last, None))
        return _as_version(resource, last)

    def _tell(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self._oldest = self._history[0].version
        self._history.append(change)
        if change.stored_as == _DEFINITIONS:
            self._resources = None
        self.changed.notify_all()

    def delete(
        self, resource: Resource, namespace: str, name: str, options: Mapping[str, Any]
    ) -> tuple[Manifest, bool]:
        """Delete an object, or mark it; return its last state and whether it is gone already."""
        with self.changed:
            old = self.read(resource, namespace, name)
            _check_preconditions(old, options.get("preconditions") or {})
            if "All" in (options.get("dryRun") or ()):
                return old, True
            new = _marked(resource, old, options)
            if _may_go(resource, new):
                return self._drop(resource, new), True
            if new != old:
                new = self._commit(resource, old, new, Writer())
            return new, False

    # Watching.

    def compact(self) -> None:
        """Forget all history: a watch or a page from before now gets 410."""
        with self.changed:
            self._history.clear()
            self._oldest = self._version
            self.changed.notify_all()

    def since(self, version: int, timeout_s: float) -> Sequence[Change]:
        """Return changes after ``version``; wait for one for at most ``timeout_s``.

        Raises:
            RefusalError: 410: they are no longer all there.
        """
        deadline_s = time.monotonic() + timeout_s
        with self.changed:
            while True:
                if version < self._oldest:
                    raise expired()
                if self._version > version and self._history:
                    return self._after(version)
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self.is_closed:
                    return []
                self.changed.wait(left_s)

    def _after(self, version: int) -> Sequence[Change]:
        newer: deque[Change] = deque()
        for change in reversed(self._history):
            if change.version <= version:
                break
            newer.appendleft(change)
        return newer

    def close(self) -> None:
        """End all watches."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


def _key(manifest: Manifest) -> Key:
    return (manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"])


def _as_version(resource: Resource, manifest: Manifest) -> Manifest:
    if manifest["apiVersion"] == resource.api_version:
        return manifest
    return {**manifest, "apiVersion": resource.api_version}


def _same(old: Manifest, new: Manifest) -> bool:
    def plain(manifest: Manifest) -> Manifest:
        metadata = {k: v for k, v in manifest["metadata"].items() if k not in ("managedFields", "resourceVersion")}
        return {**manifest, "metadata": metadata, "apiVersion": ""}

    before, after = plain(old), plain(new)
    owners = [fake_fields.owners_of(manifest) for manifest in (old, new)]
    return before == after and (owners[0] == owners[1] or "managedFields" not in new["metadata"])


def _may_go(resource: Resource, manifest: Manifest) -> bool:
    """Say whether nothing holds an object back that is marked for deletion."""
    metadata = manifest["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if resource.stored_as == _NAMESPACES and (manifest.get("spec") or {}).get("finalizers"):
        return False
    return not (resource.stored_as == ("", "pods") and metadata.get("deletionGracePeriodSeconds"))


def _check_preconditions(manifest: Manifest, wanted: Mapping[str, str]) -> None:
    for field in ("uid", "resourceVersion"):
        held = manifest["metadata"][field]
        if wanted.get(field) not in (None, held):
            raise RefusalError(
                409, f"Precondition failed: {field} in precondition: {wanted[field]}, in object meta: {held}"
            )


def _marked(resource: Resource, old: Manifest, options: Mapping[str, Any]) -> Manifest:
    """Return the object marked for deletion. A pod on a node waits for its kubelet, unless the grace is 0."""
    metadata = dict(old["metadata"])
    metadata.setdefault("deletionTimestamp", now_text())
    grace_s = 0
    if resource.stored_as == ("", "pods") and old["spec"].get("nodeName"):
        default_s = old["spec"].get("terminationGracePeriodSeconds", 30)
        given_s = options.get("gracePeriodSeconds")
        grace_s = default_s if given_s is None else given_s
    metadata["deletionGracePeriodSeconds"] = grace_s
    finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(options.get("propagationPolicy") or "")
    if finalizer and "deletionTimestamp" not in old["metadata"]:
        metadata["finalizers"] = [*(metadata.get("finalizers") or ()), finalizer]
    new = {**old, "metadata": metadata}
    if resource.stored_as == _NAMESPACES:
        new["status"] = {**old.get("status", {}), "phase": "Terminating"}
    return new
