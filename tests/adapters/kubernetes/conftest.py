"""A cluster for each test: the fake API server, and the product's own connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeCluster
from plain_client import PlainClient

from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion, Deployed
from adapters.kubernetes.server.connection import connect
from meshgauge.errors import EnvironmentUpError


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A stateful API server on loopback."""
    with FakeCluster() as server:
        yield server


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    """Connect as the user of a kubeconfig; closed with the test."""
    opened: list[Cluster] = []

    def open_one(kubeconfig: Path, context: str | None = None) -> Cluster:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        opened.append(connect(context))
        return opened[-1]

    yield open_one
    for cluster in opened:
        cluster.close()


@pytest.fixture
def cluster(fake: FakeCluster, connected: Callable[..., Cluster]) -> Cluster:
    """The fake cluster, as a user who may everything."""
    return connected(fake.kubeconfig)


@pytest.fixture
def add_node(fake: FakeCluster) -> Iterator[Callable[..., None]]:
    """Add a node of 4 cores and 8 GiB that is ready; ``spec`` as keywords."""
    client = PlainClient(fake.kubeconfig)
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}

    def add(name: str, **spec: Any) -> None:
        fake.store.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec})
        client.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    yield add
    client.close()


@dataclass
class HelmOfTests:
    """Helm as far as removal looks at it: objects with its annotations, a Secret that keeps the release.

    Attributes:
        failing: releases whose next so many uninstallations fail.
        uninstalled: names, in order.
    """

    made: dict[tuple[str, str], list[Manifest]] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    uninstalled: list[str] = field(default_factory=list)
    name: str = "tests"

    def put(self, cluster: Cluster, name: str, namespace: str, *manifests: Manifest) -> None:
        """Install objects; those of kind CustomResourceDefinition stay when the release goes."""
        notes = {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}
        for manifest in manifests:
            cluster.apply(manifest | {"metadata": manifest["metadata"] | {"annotations": notes}})
        labels = {"owner": "helm", "name": name, "status": "deployed", "version": "1"}
        metadata = {"name": f"sh.helm.release.v1.{name}.v1", "namespace": namespace, "labels": labels}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "metadata": metadata})
        self.made[name, namespace] = list(manifests)

    def uninstall(self, cluster: Cluster, name: str, namespace: str, timeout_s: float) -> bool:
        """Delete what it made, and its Secret."""
        secret = ObjectRef(Kind("v1", "Secret"), namespace, f"sh.helm.release.v1.{name}.v1")
        if cluster.get(secret) is None:
            return False
        if self.failing.get(name, 0) > 0:
            self.failing[name] -= 1
            raise EnvironmentUpError("the hook timed out")
        for manifest in self.made.get((name, namespace), []):
            if manifest["kind"] != "CustomResourceDefinition":
                cluster.delete(ObjectRef.of(manifest))
        cluster.delete(secret)
        self.uninstalled.append(name)
        return True

    def version(self) -> str:
        """Not asked."""
        raise AssertionError

    def versions(self, source: ChartSource) -> Sequence[ChartVersion]:
        """Not asked."""
        raise AssertionError

    def render(self, release: ChartRelease, kube_version: str) -> Sequence[Manifest]:
        """Not asked."""
        raise AssertionError

    def install(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Not asked: tests say what a release makes."""
        raise AssertionError

    def upgrade(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Not asked."""
        raise AssertionError

    def releases(self, cluster: Cluster) -> Sequence[Deployed]:
        """Not asked."""
        raise AssertionError


@pytest.fixture
def release_keeper() -> HelmOfTests:
    """A Helm whose charts are what the test says."""
    return HelmOfTests()
