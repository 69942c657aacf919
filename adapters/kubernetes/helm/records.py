"""Helm's own records of releases, read without Helm; and removing a release by its record where Helm cannot.

Helm gives up on a release when one of its hooks does not end (its image cannot be pulled, there is no node for it) or
when a kind it made is not served any more; what it installed would stay for good. Its record names everything.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.helm.manifests import manifests
from adapters.kubernetes.server.waiting import wait_gone
from meshgauge.errors import EnvironmentUpError

_log = structlog.get_logger()

_SECRET: Final = Kind("v1", "Secret")
_TYPE: Final = "helm.sh/release.v1"
_POLICY: Final = "helm.sh/resource-policy"
_RELEASE_NAME: Final = "meta.helm.sh/release-name"
_RELEASE_NAMESPACE: Final = "meta.helm.sh/release-namespace"


@dataclass(frozen=True, slots=True)
class Record:
    """One revision of a release, as Helm keeps it in a Secret.

    Attributes:
        objects: what the chart made, in the order it was made.
        hooks: objects of its hooks.
    """

    secret: ObjectRef
    revision: int
    objects: tuple[Manifest, ...]
    hooks: tuple[Manifest, ...]


def records(cluster: Cluster, name: str, namespace: str) -> Sequence[Record]:
    """Return the revisions of a release, the oldest first; none when there is no such release.

    Raises:
        EnvironmentUpError: a record cannot be read.
    """
    secrets = cluster.list(_SECRET, namespace, labels=f"owner=helm,name={name}")
    found = [_record(secret) for secret in secrets if secret.get("type") == _TYPE]
    return sorted(found, key=lambda record: record.revision)


def _record(secret: Manifest) -> Record:
    ref = ObjectRef.of(secret)
    try:
        # Base64 of the API server around Helm's own base64 around gzip. Source: helm pkg/storage/driver/util.go.
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        release: Mapping[str, Any] = json.loads(gzip.decompress(packed))
    except (KeyError, ValueError, OSError, EOFError, binascii.Error) as error:
        raise EnvironmentUpError(f"{ref} is no record of a Helm release: {error}") from error
    hooks = [one for hook in release.get("hooks") or () for one in manifests(hook.get("manifest") or "")]
    return Record(ref, int(release["version"]), tuple(manifests(release.get("manifest") or "")), tuple(hooks))


def uninstalled(uninstall: Callable[[], bool], cluster: Cluster, name: str, namespace: str, timeout_s: float) -> bool:
    """Uninstall with Helm; where Helm fails, remove what its records name, without running hooks.

    Args:
        uninstall: Helm's way; returns whether there was such a release.

    Raises:
        EnvironmentUpError: something did not go in time, or Helm failed and left no record.
    """
    try:
        return uninstall()
    except EnvironmentUpError as error:
        _log.warning("helm_release_removed_by_record", release=name, namespace=namespace, reason=str(error))
        if not remove(cluster, name, namespace, timeout_s):
            raise
        return True


def remove(cluster: Cluster, name: str, namespace: str, timeout_s: float) -> bool:
    """Delete every object of a release and of its hooks, then its records; return whether there was one.

    Objects that say they are to be kept stay, as with Helm; so do those that meanwhile belong to another release.

    Raises:
        EnvironmentUpError: an object is not gone in time; the records stay, so that it can be tried again.
    """
    deadline = time.monotonic() + timeout_s
    found = records(cluster, name, namespace)
    if not found:
        return False
    place = _Place(cluster, name, namespace)
    gone = [ref for ref in place.doomed(found) if cluster.delete(ref)]
    wait_gone(cluster, gone, max(0.0, deadline - time.monotonic()))
    for record in found:
        cluster.delete(record.secret)
    return True


class _Place:
    """Where a release's objects are: a manifest without a namespace means the release's own."""

    def __init__(self, cluster: Cluster, name: str, namespace: str) -> None:
        self._cluster = cluster
        self._name = name
        self._namespace = namespace
        self._namespaced = {(one.kind.group, one.kind.name): one.is_namespaced for one in cluster.kinds()}

    def doomed(self, found: Iterable[Record]) -> list[ObjectRef]:
        """Return what goes, the last made first; kinds that are not served any more have no objects."""
        names: dict[ObjectRef, None] = {}
        for record in found:
            names |= dict.fromkeys(self._refs(one for one in record.objects if self._is_ours(one)))
            names |= dict.fromkeys(self._refs(record.hooks))
        return list(reversed(names))

    def _refs(self, objects: Iterable[Manifest]) -> Iterable[ObjectRef]:
        return (ref for one in objects if (ref := self._ref(one)) is not None)

    def _ref(self, one: Manifest) -> ObjectRef | None:
        named = ObjectRef.of(one)
        is_namespaced = self._namespaced.get((named.kind.group, named.kind.name))
        if is_namespaced is None:
            return None
        return ObjectRef(named.kind, (named.namespace or self._namespace) if is_namespaced else "", named.name)

    def _is_ours(self, one: Manifest) -> bool:
        if (one["metadata"].get("annotations") or {}).get(_POLICY) == "keep":
            return False
        ref = self._ref(one)
        there = self._cluster.get(ref) if ref else None
        annotations = (there or {}).get("metadata", {}).get("annotations") or {}
        return (annotations.get(_RELEASE_NAME), annotations.get(_RELEASE_NAMESPACE)) == (self._name, self._namespace)
