"""Keeps in the cluster what was there before a mesh came, and what has to go with it.

Every life in a cluster has one ledger, written **before** anything else is made. It lies in a namespace of its own, so
that any process, at any time, can undo what a killed one began::

    ledger = begin(cluster, owner, undertaking)   # inventory, namespace, ledger: from now on a sweep can undo it
    ...                                           # apply objects, install releases
    ledger.add(releases=[("shop", "bench")])      # before anything that the undertaking did not name
    ledger.stay()                                 # only where it is meant to stay (``meshgauge mesh install``)
    removal.remove(cluster, helm, ledger)         # at the end; by anybody, after a crash
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from adapters.kubernetes.api import (
    LABEL_COMPONENT,
    LABEL_ENVIRONMENT,
    LABEL_EPOCH,
    LABEL_OWNER,
    LABEL_SITE,
    OWNER,
    Cluster,
    Kind,
    Manifest,
    ObjectRef,
)
from adapters.kubernetes.mesh import KubernetesMesh, MeshOrder, Residue
from adapters.kubernetes.server.waiting import wait_gone
from adapters.kubernetes.traces.inventory import NAMESPACE, Entry, Inventory, entry_of, take
from meshgauge.errors import EnvironmentUpError

COMPONENT: Final = "ledger"
PREFIX: Final = "meshgauge-ledger-"
LABEL_STAYS: Final = "meshgauge.io/stays"

_CONFIG_MAP = Kind("v1", "ConfigMap")
_NAME = "ledger"
_PART_BYTES = 512 * 1024  # a ConfigMap holds 1 MiB, base64 takes a third
_GONE_WITHIN_S = 120.0
_BY_HAND = "remove what Meshgauge brought by hand, then delete namespace"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who makes something in a cluster: a site's epoch, and the environment or operation within it."""

    site: str
    epoch: int
    id: str

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything it makes."""
        return {
            LABEL_OWNER: OWNER,
            LABEL_SITE: self.site,
            LABEL_EPOCH: str(self.epoch),
            LABEL_ENVIRONMENT: self.id,
        }

    @property
    def namespace(self) -> str:
        """The name of its ledger's namespace."""
        mark = hashlib.sha256(f"{self.site}\0{self.epoch}\0{self.id}".encode()).hexdigest()[:16]
        return f"{PREFIX}{mark}"


@dataclass(frozen=True, slots=True)
class Undertaking:
    """What is going to be brought into a cluster, as far as removing it needs to know. Holds no secrets.

    Attributes:
        mesh: adapter's name; empty: the baseline, or no mesh at all.
        objects: what we apply ourselves outside our own namespaces.
        releases: (name, namespace) in the order of installation.
        removal: ``KubernetesMesh.removal``.
    """

    mesh: str = ""
    version: str = ""
    objects: tuple[ObjectRef, ...] = ()
    releases: tuple[tuple[str, str], ...] = ()
    removal: tuple[ObjectRef, ...] = ()
    residue: Residue = field(default_factory=Residue)

    @classmethod
    def of(cls, mesh: KubernetesMesh, order: MeshOrder) -> Undertaking:
        """Return what ``mesh`` brings: its objects, releases and configuration."""
        made = [*mesh.objects(order), *mesh.configuration(order)]
        return cls(
            mesh=mesh.name,
            version=order.version,
            objects=tuple(ObjectRef.of(manifest) for manifest in made),
            releases=tuple((release.name, release.namespace) for release in mesh.releases(order)),
            removal=tuple(mesh.removal(order)),
            residue=mesh.residue(),
        )


class Ledger:
    """One life's record, as it lies in the cluster. Made by ``begin``, found by ``ledgers``."""

    def __init__(
        self, cluster: Cluster, owner: Owner, undertaking: Undertaking, before: Inventory, stays: bool
    ) -> None:
        self._cluster: Final = cluster
        self.owner: Final = owner
        self.undertaking = undertaking
        self.before = before
        self.stays = stays

    def __str__(self) -> str:
        what = f"{self.undertaking.mesh} {self.undertaking.version}".strip() or "an environment without a mesh"
        return f"{what} of {self.owner.id} (site {self.owner.site}, epoch {self.owner.epoch})"

    def add(self, objects: Iterable[ObjectRef] = (), releases: Iterable[tuple[str, str]] = ()) -> None:
        """Note what is going to be made beyond the undertaking. Call it before making it."""
        more = [ref for ref in objects if ref not in self.undertaking.objects]
        further = [release for release in releases if release not in self.undertaking.releases]
        if not more and not further:
            return
        self.before = self.before.with_objects(_existing(self._cluster, more, self.owner))
        self.undertaking = replace(
            self.undertaking,
            objects=(*self.undertaking.objects, *more),
            releases=(*self.undertaking.releases, *further),
        )
        self.write()

    def stay(self) -> None:
        """Say that it is whole, and meant to stay: sweeps leave it alone until it is removed on purpose."""
        if not self._mark("true"):
            raise EnvironmentUpError(f"the record of {self} is gone: somebody deleted namespace {self.owner.namespace}")
        self.stays = True

    def leave(self) -> None:
        """Say that it is to go: from now on a sweep removes it. The record may be gone already."""
        self._mark(None)
        self.stays = False

    def write(self) -> None:
        """Write the whole record; cut off before its last step, the former one stays in force."""
        content = zlib.compress(json.dumps(_inventory_document(self.before)).encode(), 9)
        mark = hashlib.sha256(content).hexdigest()
        parts = [content[start : start + _PART_BYTES] for start in range(0, len(content), _PART_BYTES)]
        names = [f"before-{mark[:8]}-{number}" for number in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            self._apply(name, {"binaryData": {"inventory": base64.b64encode(part).decode()}})
        undertaking = json.dumps(_undertaking_document(self.undertaking))
        self._apply(_NAME, {"data": {"undertaking": undertaking, "parts": " ".join(names), "sha256": mark}})
        self._forget_all_but(names)

    def _forget_all_but(self, names: Sequence[str]) -> None:
        """Delete the parts of former records."""
        labels = f"{LABEL_SITE}={self.owner.site},{LABEL_ENVIRONMENT}={self.owner.id}"
        for item in self._cluster.metadata(_CONFIG_MAP, self.owner.namespace, labels):
            if item["metadata"]["name"] not in (_NAME, *names):
                self._cluster.delete(ObjectRef.of(item))

    def drop(self) -> None:
        """Remove the record, once nothing it names is left. Idempotent."""
        ref = ObjectRef(NAMESPACE, "", self.owner.namespace)
        if self._cluster.delete(ref):
            wait_gone(self._cluster, [ref], _GONE_WITHIN_S)

    def _mark(self, stays: str | None) -> bool:
        """Set or remove the label; return whether there is a record to carry it."""
        ref = ObjectRef(NAMESPACE, "", self.owner.namespace)
        return self._cluster.patch(ref, {"metadata": {"labels": {LABEL_STAYS: stays}}}) is not None

    def _apply(self, name: str, content: Manifest) -> None:
        metadata = {"name": name, "namespace": self.owner.namespace, "labels": self.owner.labels}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **content}
        self._cluster.apply(manifest, force=True)


def begin(cluster: Cluster, owner: Owner, undertaking: Undertaking) -> Ledger:
    """Take the inventory and write it down; only then may anything be made in the cluster.

    Begun again by the same owner (an environment rebuilt in mid-block), the record of the first time stays in force.
    """
    known = find(cluster, owner)
    if known is not None:
        known.add(undertaking.objects, undertaking.releases)
        return known
    before = take(cluster, undertaking.residue)
    named = [ref for ref in (*undertaking.objects, *undertaking.removal) if ref.namespace]
    ledger = Ledger(cluster, owner, undertaking, before.with_objects(_existing(cluster, named, owner)), stays=False)
    wait_gone(cluster, _going(cluster, owner), _GONE_WITHIN_S)
    labels = owner.labels | {LABEL_COMPONENT: COMPONENT}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": owner.namespace, "labels": labels}}
    cluster.apply(namespace)
    ledger.write()
    return ledger


def find(cluster: Cluster, owner: Owner) -> Ledger | None:
    """Return the record of one owner, or None when there is none, or none that was finished."""
    namespace = cluster.get(ObjectRef(NAMESPACE, "", owner.namespace))
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return None
    return _read(cluster, namespace)


def ledgers(cluster: Cluster, site: str | None = None) -> list[Ledger]:
    """Return the records of a site (None: of all sites, of any installation), the newest epoch first.

    One that was not finished is left out: nothing was made under it, and its namespace carries our labels.
    """
    labels = f"{LABEL_OWNER}={OWNER},{LABEL_COMPONENT}={COMPONENT}" + (f",{LABEL_SITE}={site}" if site else "")
    spaces = [item for item in cluster.metadata(NAMESPACE, labels=labels) if _is_whole(item["metadata"]["labels"])]
    found = [_read(cluster, item) for item in spaces]
    return sorted((ledger for ledger in found if ledger), key=lambda ledger: ledger.owner.epoch, reverse=True)


def _going(cluster: Cluster, owner: Owner) -> list[ObjectRef]:
    """Return the owner's namespace when it is on its way out: a name is free only once it has gone."""
    ref = ObjectRef(NAMESPACE, "", owner.namespace)
    namespace = cluster.get(ref)
    return [ref] if namespace and namespace["metadata"].get("deletionTimestamp") else []


def _existing(cluster: Cluster, refs: Iterable[ObjectRef], owner: Owner) -> list[Entry]:
    """Return those of the objects that are there, and not by this owner."""
    found = [entry_of(item) for ref in refs if (item := cluster.get(ref)) is not None]
    mark = owner.labels.items()
    return [entry for entry in found if not mark <= entry.labels.items()]


def _is_whole(labels: Mapping[str, str]) -> bool:
    return labels.get(LABEL_EPOCH, "").isdecimal() and LABEL_SITE in labels and LABEL_ENVIRONMENT in labels


def _read(cluster: Cluster, namespace: Manifest) -> Ledger | None:
    labels = namespace["metadata"]["labels"]
    owner = Owner(labels[LABEL_SITE], int(labels[LABEL_EPOCH]), labels[LABEL_ENVIRONMENT])
    where = namespace["metadata"]["name"]
    record = cluster.get(ObjectRef(_CONFIG_MAP, where, _NAME))
    if record is None:
        return None
    content = b"".join(_part(cluster, where, name) for name in record["data"]["parts"].split())
    if hashlib.sha256(content).hexdigest() != record["data"]["sha256"]:
        raise EnvironmentUpError(f"{_record_of(where)} was changed by somebody; {_BY_HAND} {where}")
    before = _inventory_of(json.loads(zlib.decompress(content)))
    undertaking = _undertaking_of(json.loads(record["data"]["undertaking"]))
    return Ledger(cluster, owner, undertaking, before, stays=LABEL_STAYS in labels)


def _part(cluster: Cluster, namespace: str, name: str) -> bytes:
    found = cluster.get(ObjectRef(_CONFIG_MAP, namespace, name))
    if found is None:
        raise EnvironmentUpError(f"ConfigMap {name} of {_record_of(namespace)} is missing; {_BY_HAND} {namespace}")
    return base64.b64decode(found["binaryData"]["inventory"])


def _record_of(namespace: str) -> str:
    return f"the record of what was in the cluster (namespace {namespace})"


# -- documents: what is written, in plain JSON


def _inventory_document(inventory: Inventory) -> dict[str, Any]:
    objects: dict[str, dict[str, dict[str, str]]] = {}
    for ref, entry in sorted(inventory.entries.items()):
        names = objects.setdefault(f"{ref.kind.api_version} {ref.kind.name}", {})
        names.setdefault(ref.namespace, {})[ref.name] = entry.uid
    return {
        "objects": objects,
        "releases": sorted(inventory.releases),
        "unseen": sorted(inventory.unseen),
    }


def _inventory_of(document: Mapping[str, Any]) -> Inventory:
    entries = {}
    for kind, namespaces in document["objects"].items():
        api_version, _, name = kind.partition(" ")
        for namespace, uids in namespaces.items():
            for named, uid in uids.items():
                ref = ObjectRef(Kind(api_version, name), namespace, named)
                entries[ref] = Entry(ref, uid)
    return Inventory(entries, _pairs(document["releases"]), _pairs(document["unseen"]))


def _pairs(values: Sequence[Sequence[str]]) -> frozenset[tuple[str, str]]:
    return frozenset((first, second) for first, second in values)


def _undertaking_document(undertaking: Undertaking) -> dict[str, Any]:
    residue = undertaking.residue
    return {
        "mesh": undertaking.mesh,
        "version": undertaking.version,
        "objects": [_ref_document(ref) for ref in undertaking.objects],
        "releases": undertaking.releases,
        "removal": [_ref_document(ref) for ref in undertaking.removal],
        "residue": {
            "groups": residue.groups,
            "kinds": [[kind.api_version, kind.name, pattern] for kind, pattern in residue.kinds],
            "everywhere": [[kind.api_version, kind.name, pattern] for kind, pattern in residue.everywhere],
            "namespaces": residue.namespaces,
            "claims": residue.claims,
            "finalizers": residue.finalizers,
        },
    }


def _undertaking_of(document: Mapping[str, Any]) -> Undertaking:
    residue = document["residue"]
    return Undertaking(
        mesh=document["mesh"],
        version=document["version"],
        objects=tuple(_ref_of(ref) for ref in document["objects"]),
        releases=tuple((name, namespace) for name, namespace in document["releases"]),
        removal=tuple(_ref_of(ref) for ref in document["removal"]),
        residue=Residue(
            groups=tuple(residue["groups"]),
            kinds=tuple((Kind(version, kind), pattern) for version, kind, pattern in residue["kinds"]),
            everywhere=tuple((Kind(version, kind), pattern) for version, kind, pattern in residue["everywhere"]),
            namespaces=tuple(residue["namespaces"]),
            claims=residue["claims"],
            finalizers=tuple(residue["finalizers"]),
        ),
    )


def _ref_document(ref: ObjectRef) -> list[str]:
    return [ref.kind.api_version, ref.kind.name, ref.namespace, ref.name]


def _ref_of(document: Sequence[str]) -> ObjectRef:
    api_version, kind, namespace, name = document
    return ObjectRef(Kind(api_version, kind), namespace, name)
