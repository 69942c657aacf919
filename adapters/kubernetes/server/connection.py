"""One API server, as one user: what is served, read, watched, written and permitted."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import urllib3
import yaml
from urllib3.exceptions import HTTPError

from adapters.kubernetes.api import (
    FIELD_MANAGER,
    Cluster,
    Kind,
    Manifest,
    ObjectRef,
    Permission,
    ServedKind,
    WatchEvent,
)
from adapters.kubernetes.server import discovery, kubeconfig
from adapters.kubernetes.server.refusals import ExpiredError, NotThereError
from adapters.kubernetes.server.wire import Query, Wire
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError

_SHORT_WATCH_S = 0.2  # a server that ends watches at once is not asked for others in a circle
_ASKED_AT_ONCE = 8  # questions about rights
_PAGE = 500  # objects a page of a list, as kubectl asks

# A kind is served a moment after its CRD is Established: 0.2 to 2 s seen with kube-apiserver 1.36.
_SERVED_WITHIN_S = 15.0

_AS_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")


def connect(context: str | None = None) -> Cluster:
    """Return the API server of a kubeconfig context. Sends nothing yet.

    Args:
        context: None: the kubeconfig's current one; without any, the cluster this process is a pod of.

    Raises:
        ConfigurationError: there is no such context (names those there are), no kubeconfig, or one that is broken.
    """
    config = kubeconfig.read(kubeconfig.files())
    name = context or config.get("current-context")
    if name is not None:
        return ApiServer(name, kubeconfig.only(config, name))
    own = kubeconfig.in_cluster()
    if own is not None:
        return ApiServer("in-cluster", own)
    known = kubeconfig.contexts(config)
    raise ConfigurationError(
        f"the kubeconfig has no current context; name one of: {', '.join(known)}"
        if known
        else "there is no kubeconfig (KUBECONFIG, ~/.kube/config) and this process runs in no cluster"
    )


Manifests = list[Manifest]  # within the class, list is a method


class ApiServer:
    """``Cluster`` over HTTP. Safe to use from several threads."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self.name = name
        self._config: Final = config
        self._folder: Final = tempfile.TemporaryDirectory(prefix="meshgauge-kube-")  # mode 0700
        self._lock: Final = threading.Lock()
        self._served: dict[Kind, ServedKind] = {}
        try:
            self._wire = Wire(name, config, Path(self._folder.name))
        except ConfigurationError:
            self._folder.cleanup()
            raise

    def version(self) -> str:
        """Return the API server's version, ``1.34.1``; a vendor's suffix is kept, the leading ``v`` is not."""
        reply = self._wire.json("GET", "/version", "tell its version")
        return str(reply["gitVersion"]).removeprefix("v")

    def kinds(self) -> Sequence[ServedKind]:
        """Return every preferred kind that can be listed, asked anew."""
        core, groups = (
            self._wire.json("GET", path, "tell what it serves", accept=discovery.ACCEPT) for path in ("/api", "/apis")
        )
        if discovery.is_aggregated(core) and discovery.is_aggregated(groups):
            versions = [*discovery.aggregated(core), *discovery.aggregated(groups)]
        else:
            versions = [list(self._kinds_of(name)) for name in ["v1", *discovery.group_versions(groups)]]
        found = list(discovery.preferred(versions))
        with self._lock:
            self._served |= {served.kind: served for served in found}
        return found

    def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object, or None when there is none."""
        return self._at(ref, "GET", f"get {ref}")

    def list(
        self, kind: Kind, namespace: str | None = None, labels: str | None = None, fields: str | None = None
    ) -> Sequence[Manifest]:
        """Return objects, page by page."""
        return self._list(kind, namespace, labels, fields, "application/json")[0]

    def metadata(
        self, kind: Kind, namespace: str | None = None, labels: str | None = None, fields: str | None = None
    ) -> Sequence[Manifest]:
        """Return objects without what they hold."""
        found, _ = self._list(kind, namespace, labels, fields, _AS_METADATA)
        return [{**_type(kind), "metadata": item["metadata"]} for item in found]

    def watch(
        self, kind: Kind, namespace: str | None, timeout_s: float, labels: str | None = None, fields: str | None = None
    ) -> Iterator[WatchEvent]:
        """Yield what there is, then what changes, also what went unseen; a kind that is not served has neither."""
        deadline = time.monotonic() + timeout_s
        selectors, known = _selectors(labels, fields), dict[tuple[str, str], Manifest]()
        while True:
            found, since = self._list(kind, namespace, labels, fields, "application/json")
            there = {_name_of(item): item for item in found}
            yield from (WatchEvent("DELETED", item) for name, item in known.items() if name not in there)
            known = there
            yield from (WatchEvent("ADDED", item) for item in found)
            served = self._find(kind) if since else None
            while served is not None and since and time.monotonic() < deadline:
                path, began = _path(served, namespace or "", ""), time.monotonic()
                for change in self._follow(path, f"watch {served.plural}", selectors, since, deadline):
                    if isinstance(change, str):
                        since = change
                        continue
                    known[_name_of(change.object)] = change.object
                    if change.type == "DELETED":
                        del known[_name_of(change.object)]
                    yield change
                if time.monotonic() - began < _SHORT_WATCH_S < deadline - time.monotonic():
                    time.sleep(_SHORT_WATCH_S)
            if served is None or time.monotonic() >= deadline:
                return

    def create(self, manifest: Manifest) -> Manifest:
        """Create the object."""
        ref = ObjectRef.of(manifest)
        path = _path(self._must_find(ref.kind), ref.namespace, "")
        return self._wire.json("POST", path, f"create {ref}", [("fieldManager", FIELD_MANAGER)], manifest)

    def apply(self, manifest: Manifest, *, force: bool = False) -> Manifest:
        """Server-side apply."""
        ref = ObjectRef.of(manifest)
        path = _path(self._must_find(ref.kind), ref.namespace, ref.name)
        query = [("fieldManager", FIELD_MANAGER), ("force", "true" if force else "false")]
        return self._wire.json("PATCH", path, f"apply {ref}", query, manifest, "application/apply-patch+yaml")

    def patch(self, ref: ObjectRef, patch: Manifest) -> Manifest | None:
        """Merge-patch the object."""
        query = [("fieldManager", FIELD_MANAGER)]
        return self._at(ref, "PATCH", f"patch {ref}", query, patch, "application/merge-patch+json")

    def delete(self, ref: ObjectRef, *, grace_s: int | None = None) -> bool:
        """Delete the object, and what it owns, in the background."""
        query = [("propagationPolicy", "Background")]
        if grace_s is not None:
            query.append(("gracePeriodSeconds", str(grace_s)))
        return self._at(ref, "DELETE", f"delete {ref}", query) is not None

    def text(self, path: str, timeout_s: float = 10.0) -> str:
        """GET a text endpoint."""
        reply = self._wire.request("GET", path, f"read {path}", accept="*/*", read_s=timeout_s)
        return reply.data.decode(errors="replace")

    def missing(self, permissions: Sequence[Permission]) -> Sequence[Permission]:
        """Return the permissions we do not hold, each with the verbs that are missing."""
        if self._may("*", "*", "*"):  # an administrator: one question instead of hundreds
            return []
        rights = [(asked.group, asked.resource, verb) for asked in permissions for verb in asked.verbs]
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as askers:
            held = dict(zip(rights, askers.map(lambda right: self._may(*right), rights), strict=True))
        wanting = []
        for asked in permissions:
            verbs = tuple(verb for verb in asked.verbs if not held[asked.group, asked.resource, verb])
            if verbs:
                wanting.append(Permission(asked.group, asked.resource, verbs))
        return wanting

    def helm_environment(self) -> Mapping[str, str]:
        """Return KUBECONFIG of a private file with this context alone."""
        path = Path(self._folder.name) / "kubeconfig"
        with self._lock:
            if not path.exists():
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    yaml.safe_dump(dict(self._config), file)
        return {"KUBECONFIG": str(path)}

    def close(self) -> None:
        """Close connections and remove the private folder."""
        self._wire.close()
        self._folder.cleanup()

    # -- what is served

    def _at(self, ref: ObjectRef, method: str, did: str, *args: Any) -> Manifest | None:
        """Ask something of one object; None: there is none, or its kind is not served."""
        served = self._find(ref.kind)
        if served is None:
            return None
        try:
            return self._wire.json(method, _path(served, ref.namespace, ref.name), did, *args)
        except NotThereError:
            return None

    def _find(self, kind: Kind) -> ServedKind | None:
        with self._lock:
            known = self._served.get(kind)
        return known or self._ask_for(kind)

    def _ask_for(self, kind: Kind) -> ServedKind | None:
        found = {served.kind: served for served in self._kinds_of(kind.api_version)}
        self._forget(kind)
        with self._lock:
            self._served |= found
        return found.get(kind)

    def _forget(self, kind: Kind) -> None:
        with self._lock:
            self._served.pop(kind, None)

    def _kinds_of(self, api_version: str) -> Sequence[ServedKind]:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            return discovery.plain(self._wire.json("GET", path, f"tell the kinds of {api_version}"))
        except NotThereError:
            return []
        except ServiceUnavailableError:  # an aggregated API whose backend is away serves nothing, the others do
            if not discovery.may_be_aggregated(api_version):
                raise  # what is there must never be taken for absent because a server was busy for a moment
            self.version()
            return []

    def _must_find(self, kind: Kind) -> ServedKind:
        """Return how ``kind`` is served, waiting a moment for one whose CRD has just been made."""
        deadline = time.monotonic() + _SERVED_WITHIN_S
        while (served := self._find(kind)) is None:
            crds = self.list(_CRD)
            is_coming = any(
                crd["spec"]["group"] == kind.group and crd["spec"]["names"]["kind"] == kind.name for crd in crds
            )
            if not is_coming or time.monotonic() > deadline:
                raise EnvironmentUpError(
                    f"the API server of {self.name} does not serve {kind}; install the CRD, or another version of it"
                )
            time.sleep(0.2)  # discovery cannot be watched
        return served

    def _may(self, group: str, resource: str, verb: str) -> bool:
        plural, _, subresource = resource.partition("/")
        attributes = {"group": group, "resource": plural, "subresource": subresource, "verb": verb}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        reply = self._wire.json("POST", path, "tell what we may do", body=review)
        return bool(reply["status"]["allowed"])

    # -- lists and watches

    def _list(
        self, kind: Kind, namespace: str | None, labels: str | None, fields: str | None, accept: str
    ) -> tuple[Sequence[Manifest], str]:
        """Return all objects and the resource version they are of; no version: the kind is not served."""
        items: Manifests = []
        served, page = self._find(kind), ""
        while served is not None:
            query = [*_selectors(labels, fields), ("limit", str(_PAGE)), *([("continue", page)] if page else [])]
            try:
                document = self._wire.json(
                    "GET", _path(served, namespace or "", ""), f"list {served.plural}", query, accept=accept
                )
            except NotThereError:  # its CRD has gone
                self._forget(kind)
                break
            except ExpiredError:  # the pages went stale while we turned them
                items, page = [], ""
                continue
            items += [_type(kind) | item for item in document["items"] or ()]
            page = document["metadata"].get("continue", "")
            if not page:
                return items, document["metadata"]["resourceVersion"]
        return [], ""

    def _follow(self, path: str, did: str, selectors: Query, since: str, deadline: float) -> Iterator[WatchEvent | str]:
        """Yield changes, and after each the resource version it leads to; an empty one: list again."""
        left_s = max(deadline - time.monotonic(), 0.05)
        query = [*selectors, ("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", since)]
        query.append(("timeoutSeconds", str(math.ceil(left_s))))
        try:
            reply = self._wire.request("GET", path, did, query, read_s=left_s, is_stream=True)
        except (NotThereError, ExpiredError):
            yield ""
            return
        except ServiceUnavailableError:
            if time.monotonic() < deadline:
                raise
            return  # our time was over before a busy server began to answer
        try:
            for line in _lines(reply):
                change = json.loads(line)
                if change["type"] == "ERROR":  # 410 Gone, mostly
                    yield ""
                    return
                if change["type"] != "BOOKMARK":
                    yield WatchEvent(change["type"], change["object"])
                yield change["object"]["metadata"]["resourceVersion"]
                if time.monotonic() > deadline:
                    return
        except (HTTPError, ValueError):  # our time is over, or cut in mid-line: the caller takes it up again
            return
        finally:
            reply.close()


def _path(served: ServedKind, namespace: str, name: str) -> str:
    """Return the path of a kind, in a namespace or everywhere, or of one object."""
    version = served.kind.api_version
    parts = ["/apis" if "/" in version else "/api", version]
    if served.is_namespaced and (namespace or name):
        parts += ["namespaces", quote(namespace or "default", safe="")]
    return "/".join([*parts, served.plural, *([quote(name, safe="")] if name else [])])


def _name_of(item: Manifest) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _type(kind: Kind) -> Manifest:
    return {"apiVersion": kind.api_version, "kind": kind.name}


def _selectors(labels: str | None, fields: str | None) -> Query:
    return [(name, value) for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value]


def _lines(reply: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the lines of a stream as they come."""
    rest = b""
    for chunk in reply.stream(None):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
