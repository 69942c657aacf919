"""What a puppet sees of a cluster: every object of some kinds, kept fresh by a watch each."""

from __future__ import annotations

import threading
from typing import Any, Final

import httpx
from plain_client import PlainClient

Manifest = dict[str, Any]

PATHS: Final = {
    "namespaces": "/api/v1/namespaces",
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "services": "/api/v1/services",
    "configmaps": "/api/v1/configmaps",
    "secrets": "/api/v1/secrets",
    "leases": "/apis/coordination.k8s.io/v1/leases",
    "persistentvolumeclaims": "/api/v1/persistentvolumeclaims",
    "deployments": "/apis/apps/v1/deployments",
    "replicasets": "/apis/apps/v1/replicasets",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "jobs": "/apis/batch/v1/jobs",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "mutatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "validatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}
_AGAIN_S: Final = 0.3


def path_of(collection: str, manifest: Manifest, subresource: str = "") -> str:
    """Return the path of an object below the path of its collection."""
    metadata = manifest["metadata"]
    root, _, plural = collection.rpartition("/")
    where = f"{root}/namespaces/{metadata['namespace']}/{plural}" if metadata.get("namespace") else collection
    return f"{where}/{metadata['name']}" + (f"/{subresource}" if subresource else "")


class Informer:
    """One kind, listed and watched in a thread of its own."""

    def __init__(self, client: PlainClient, path: str, changed: threading.Event) -> None:
        self.path = path
        self._client = client
        self._changed = changed
        self._held: dict[tuple[str, str], Manifest] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.is_synced = threading.Event()
        threading.Thread(target=self._run, name=f"informer {path}", daemon=True).start()

    def stop(self) -> None:
        """Take no further event; the thread ends with its connection."""
        self._stop.set()

    def objects(self) -> list[Manifest]:
        """Return what there is, in order of name."""
        with self._lock:
            return [self._held[key] for key in sorted(self._held)]

    def has(self, namespace: str, name: str) -> bool:
        """Say whether there is an object of that name."""
        with self._lock:
            return (namespace, name) in self._held

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (httpx.HTTPError, RuntimeError):  # the server is away, or refuses for now
                self._stop.wait(_AGAIN_S)

    def _follow(self) -> None:
        found = self._client.get(self.path)
        with self._lock:
            self._held = {_key(m): m for m in (found or {}).get("items", ())}
        self.is_synced.set()
        self._changed.set()
        if found is None:  # not served (yet)
            self._stop.wait(_AGAIN_S)
            return
        for event in self._client.watch(self.path, found["metadata"]["resourceVersion"]):
            if self._stop.is_set() or event["type"] == "ERROR":
                return
            self._take(event)

    def _take(self, event: Manifest) -> None:
        if event["type"] == "BOOKMARK":
            return
        with self._lock:
            if event["type"] == "DELETED":
                self._held.pop(_key(event["object"]), None)
            else:
                self._held[_key(event["object"])] = event["object"]
        self._changed.set()


def _key(manifest: Manifest) -> tuple[str, str]:
    return (manifest["metadata"].get("namespace") or "", manifest["metadata"]["name"])


class View:
    """All informers of a puppet, by plural; further kinds are added when their definitions turn up."""

    def __init__(self, client: PlainClient) -> None:
        self.changed = threading.Event()
        self._client = client
        self._informers = {name: Informer(client, path, self.changed) for name, path in PATHS.items()}

    def wait(self) -> None:
        """Wait until every kind has been listed once."""
        for name, informer in self._informers.items():
            if not informer.is_synced.wait(30):
                raise TimeoutError(f"{name} cannot be listed")

    def of(self, plural: str) -> list[Manifest]:
        """Return all objects of a kind."""
        return self._informers[plural].objects() if plural in self._informers else []

    def live(self, plural: str) -> list[Manifest]:
        """Return those that are not marked for deletion."""
        return [m for m in self.of(plural) if "deletionTimestamp" not in m["metadata"]]

    def has(self, plural: str, namespace: str, name: str) -> bool:
        """Say whether there is such an object."""
        return plural in self._informers and self._informers[plural].has(namespace, name)

    def path(self, plural: str) -> str:
        """Return the path of a collection."""
        return self._informers[plural].path

    def follow(self, plural: str, path: str) -> None:
        """Watch a further kind."""
        if plural not in self._informers:
            self._informers[plural] = Informer(self._client, path, self.changed)

    def stop(self) -> None:
        """End all watches."""
        for informer in self._informers.values():
            informer.stop()
