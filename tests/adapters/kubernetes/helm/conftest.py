"""Tiny charts, a web server on loopback, and a cluster that is a fake API server."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_charts
from fake_api import FakeCluster
from tiny_charts import MakeChart, Web

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.server.connection import connect


@pytest.fixture
def make_chart(tmp_path: Path) -> MakeChart:
    """Make chart archives in the test's own folder: ``make_chart(name, version, files, chart_yaml)``."""
    return functools.partial(tiny_charts.make_chart, tmp_path)


@pytest.fixture
def web() -> Iterator[Web]:
    """Serve whatever the test puts there."""
    with tiny_charts.serving() as server:
        yield server


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """An empty cluster: a stateful API server without kubelets."""
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The same cluster as the product sees it, as a user who may everything."""
    monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig))
    connected = connect(None)
    yield connected
    connected.close()
