"""A cluster for each test: the fake API server, and the product's own connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_api import FakeCluster

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.connection import connect


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
