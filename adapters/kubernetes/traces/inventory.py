"""What is in a cluster, so that what was there before can be told from what a mesh left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef, ServedKind
from adapters.kubernetes.mesh import Residue
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError

NAMESPACE: Final = Kind("v1", "Namespace")
SECRET: Final = Kind("v1", "Secret")
CLAIM: Final = Kind("v1", "PersistentVolumeClaim")
VOLUME: Final = Kind("v1", "PersistentVolume")
CRD: Final = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
HELM_SECRETS: Final = "owner=helm"  # where Helm keeps releases; source: helm.sh/docs/topics/advanced, storage backends

_READERS = 8  # kinds listed at once: a hundred kinds at 50 ms each take a second

# Cluster-scoped kinds that come and go by themselves, as (group, kind), each with the reason.
_PASSING: Final[Mapping[tuple[str, str], str]] = {
    ("", "ComponentStatus"): "computed at each look, deprecated",
    ("", "Node"): "machines join and leave; no mesh makes any",
    ("storage.k8s.io", "CSINode"): "one for each node, by its kubelet",
    ("storage.k8s.io", "VolumeAttachment"): "made and removed by the attach controller as pods move",
    (
        "certificates.k8s.io",
        "CertificateSigningRequest",
    ): "kubelets make them; the signer's controller removes old ones",
    ("metrics.k8s.io", "NodeMetrics"): "computed at each look",
    ("networking.k8s.io", "IPAddress"): "one for each Service's address, removed with the Service",
    ("resource.k8s.io", "ResourceSlice"): "device plug-ins publish and withdraw them",
    ("internal.apiserver.k8s.io", "StorageVersion"): "kept by API servers, garbage collected after they go",
    ("storagemigration.k8s.io", "StorageVersionMigration"): "made by the API server's own migrator",
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): "the API server makes and repairs its own",
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): "the API server makes and repairs its own",
    ("cilium.io", "CiliumIdentity"): "one for each set of pod labels, garbage collected by Cilium's operator",
    ("cilium.io", "CiliumNode"): "one for each node, by Cilium's agent",
    ("cilium.io", "CiliumEndpointSlice"): "bookkeeping of pods by Cilium's operator",
    ("crd.projectcalico.org", "BlockAffinity"): "address bookkeeping of nodes by Calico",
    ("crd.projectcalico.org", "IPAMBlock"): "address bookkeeping of pods by Calico",
    ("crd.projectcalico.org", "IPAMHandle"): "address bookkeeping of pods by Calico",
    ("wgpolicyk8s.io", "ClusterPolicyReport"): "a policy engine's report about what others made",
    ("reports.kyverno.io", "ClusterEphemeralReport"): "a policy engine's report about what others made",
}

# Single objects that come and go by themselves, by a label they carry.
_PASSING_LABELS: Final[Mapping[str, str]] = {
    "kube-aggregator.kubernetes.io/automanaged": "APIService the API server makes for a CRD's group, and removes",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object, as far as an inventory looks at it.

    Attributes:
        release: (name, namespace) of the Helm release that made it, as Helm's annotations say.
        is_going: marked for deletion, and waiting for finalizers.
    """

    ref: ObjectRef
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    release: tuple[str, str] | None = None
    is_going: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """Objects by name.

    Attributes:
        releases: (name, namespace) of all Helm releases.
        unseen: kinds that could not be listed, as (group, kind): nothing can be said of their objects.
    """

    entries: Mapping[ObjectRef, Entry]
    releases: frozenset[tuple[str, str]] = frozenset()
    unseen: frozenset[tuple[str, str]] = frozenset()

    def had(self, ref: ObjectRef) -> bool:
        """Return whether the object was there, or may have been: its kind could not be looked at.

        Versions of a group show the same objects, so only group, kind and name count.
        """
        return _key(ref.kind) in self.unseen or any(same in self.entries for same in _aliases(ref, self))

    def with_objects(self, more: Iterable[Entry]) -> Inventory:
        """Return the inventory with further objects in it."""
        return Inventory({**self.entries, **{entry.ref: entry for entry in more}}, self.releases, self.unseen)


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two inventories; ``replaced`` has the same name and another uid."""

    added: tuple[Entry, ...] = ()
    gone: tuple[Entry, ...] = ()
    replaced: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.gone or self.replaced)

    def __str__(self) -> str:
        parts = (("new", self.added), ("gone", self.gone), ("made anew", self.replaced))
        return "; ".join(
            f"{word}: {', '.join(sorted(str(entry.ref) for entry in entries))}" for word, entries in parts if entries
        )


def take(cluster: Cluster, residue: Residue = Residue()) -> Inventory:  # noqa: B008 - frozen
    """Return every cluster-scoped object and namespace, Helm's releases, and of namespaced ones what residue names.

    Reads metadata only, some kinds at a time; changes nothing.

    Raises:
        ServiceUnavailableError: the API server does not answer.
    """
    asked = [served for served in cluster.kinds() if _is_of_interest(served, residue)]
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda served: _entries(cluster, served, residue), asked))
    unseen = {_key(served.kind) for served, entries in zip(asked, found, strict=True) if entries is None}
    entries = [entry for some in found for entry in some or ()]
    secrets = _metadata(cluster, SECRET, labels=HELM_SECRETS)
    if secrets is None:
        unseen.add(_key(SECRET))
    releases = {(item["metadata"]["labels"]["name"], item["metadata"]["namespace"]) for item in secrets or ()}
    return Inventory({entry.ref: entry for entry in entries}, frozenset(releases), frozenset(unseen))


def difference(before: Inventory, after: Inventory) -> Difference:
    """Return what changed. Pure. Kinds that one of the two could not list are left out."""
    unseen = before.unseen | after.unseen
    old = {_identity(ref): entry for ref, entry in before.entries.items() if _key(ref.kind) not in unseen}
    new = {_identity(ref): entry for ref, entry in after.entries.items() if _key(ref.kind) not in unseen}
    return Difference(
        added=tuple(entry for name, entry in new.items() if name not in old),
        gone=tuple(entry for name, entry in old.items() if name not in new),
        replaced=tuple(entry for name, entry in new.items() if name in old and old[name].uid != entry.uid),
    )


def group_of_crd(name: str) -> str:
    """Return the API group of a CRD, which its name ends in: ``virtualservices.networking.istio.io``."""
    return name.partition(".")[2]


def matches(kind: Kind, name: str, patterns: Collection[tuple[Kind, str]]) -> bool:
    """Return whether the patterns have one for the kind (in any version) that fits the name."""
    return any(_key(kind) == _key(wanted) and fnmatchcase(name, pattern) for wanted, pattern in patterns)


def entry_of(item: Manifest) -> Entry:
    """Return what an inventory keeps of an object."""
    metadata: Mapping[str, Any] = item["metadata"]
    notes = metadata.get("annotations") or {}
    release = notes.get("meta.helm.sh/release-name")
    return Entry(
        ObjectRef.of(item),
        metadata.get("uid", ""),
        metadata.get("labels") or {},
        (release, notes.get("meta.helm.sh/release-namespace", "")) if release else None,
        bool(metadata.get("deletionTimestamp")),
    )


def _is_of_interest(served: ServedKind, residue: Residue) -> bool:
    if not served.is_namespaced:
        return _key(served.kind) not in _PASSING
    named = {_key(kind) for kind, _ in (*residue.kinds, *residue.everywhere)}
    return _key(served.kind) in named or (served.kind == CLAIM and bool(residue.claims))


def _entries(cluster: Cluster, served: ServedKind, residue: Residue) -> list[Entry] | None:
    """Return the objects of one kind; None: they cannot be looked at."""
    items = _metadata(cluster, served.kind)
    if items is None:
        return None
    if served.is_namespaced:
        patterns = (*residue.kinds, *residue.everywhere)
        items = [item for item in items if matches(served.kind, item["metadata"]["name"], patterns)]
        if served.kind == CLAIM and residue.claims:
            for namespace in residue.namespaces:
                items += _metadata(cluster, CLAIM, namespace, residue.claims) or ()
    return [
        entry_of(item)
        for item in items
        if item["metadata"].get("uid") and not _PASSING_LABELS.keys() & (item["metadata"].get("labels") or {}).keys()
    ]


def _metadata(
    cluster: Cluster, kind: Kind, namespace: str | None = None, labels: str | None = None
) -> list[Manifest] | None:
    try:
        return list(cluster.metadata(kind, namespace, labels))
    except (ConfigurationError, EnvironmentUpError):  # no right to it, or its conversion webhook is broken
        return None
    except ServiceUnavailableError:  # an aggregated API whose backend is away; or the API server itself
        cluster.version()
        return None


def _key(kind: Kind) -> tuple[str, str]:
    return kind.group, kind.name


def _identity(ref: ObjectRef) -> tuple[str, str, str, str]:
    return ref.kind.group, ref.kind.name, ref.namespace, ref.name


def _aliases(ref: ObjectRef, inventory: Inventory) -> Sequence[ObjectRef]:
    if ref in inventory.entries:
        return (ref,)
    return [other for other in inventory.entries if _identity(other) == _identity(ref)]
