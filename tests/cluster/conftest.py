"""Clusters the suite runs against: the fake one always, a real one behind the ``cluster`` marker.

MESHGAUGE_TEST_CONTEXT: context of the kubeconfig (KUBECONFIG, else ~/.kube/config); none: the current one.
MESHGAUGE_TEST_CHARTS: mirror to take charts from; none: the meshes' own repositories.
MESHGAUGE_TEST_PUPPET: 1 where no kubelet runs: a puppet of one comes along.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_charts
import yaml
from fake_api import FakeCluster
from ground import Ground
from plain_client import PlainClient
from puppet import Puppet
from puppet_webhooks import Admission

_BOTH = [pytest.param("fake", id="fake"), pytest.param("real", id="real", marks=pytest.mark.cluster)]


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of charts of our own making."""
    return stand_in_charts.write(tmp_path_factory.mktemp("charts"))


@pytest.fixture(params=_BOTH)
def server(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Return an API server on which nothing runs: what the fake's likeness is tested on."""
    yield from _ground(request.param, None)


@pytest.fixture(params=_BOTH)
def ground(request: pytest.FixtureRequest, stand_ins: Path) -> Iterator[Ground]:
    """Return a cluster where pods run, or seem to."""
    yield from _ground(request.param, stand_ins)


def _ground(kind: str, stand_ins: Path | None) -> Iterator[Ground]:
    lives = stand_ins is not None
    charts: str | None
    puppet: Puppet | None = None
    with contextlib.ExitStack() as stack:
        if kind == "fake":
            cluster = stack.enter_context(FakeCluster())
            path, context, charts = cluster.kubeconfig, cluster.name, str(stand_ins)
            poor = cluster.kubeconfig_of("poor")
            if lives:
                puppet = stack.enter_context(Puppet(path))
        else:
            path, context, charts = *_given(), os.environ.get("MESHGAUGE_TEST_CHARTS")
            poor = stack.enter_context(_somebody_poor(path, context))
            if lives and os.environ.get("MESHGAUGE_TEST_PUPPET") == "1":
                admission = stack.enter_context(Admission())
                puppet = stack.enter_context(Puppet(path, controllers=False, context=context, admission=admission))
        client = PlainClient(path, context)
        stack.callback(client.close)
        namespace = f"meshgauge-test-{secrets.token_hex(4)}"
        yield Ground(path, poor, context, charts, client, namespace, kind == "real", puppet)
        client.delete(f"/api/v1/namespaces/{namespace}")
        deadline_s = time.monotonic() + 60  # the next test's inventory must not see it go
        while client.get(f"/api/v1/namespaces/{namespace}") and time.monotonic() < deadline_s:
            time.sleep(0.1)
        if puppet and puppet.complaints:
            logging.getLogger("puppet").warning("complaints: %s", "\n  ".join(puppet.complaints[-10:]))


@contextlib.contextmanager
def _somebody_poor(path: Path, context: str) -> Iterator[Path]:
    """Yield the kubeconfig of a ServiceAccount without any rights."""
    name = f"meshgauge-test-poor-{secrets.token_hex(4)}"
    accounts = f"/api/v1/namespaces/default/serviceaccounts/{name}"
    config = yaml.safe_load(path.read_text())
    there = next(entry["context"] for entry in config["contexts"] if entry["name"] == context)
    client = PlainClient(path, context)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    client.post(accounts.rpartition("/")[0], account)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = client.post(f"{accounts}/token", request)
    assert answer is not None
    with tempfile.TemporaryDirectory(prefix="meshgauge-test-") as folder:
        config["users"] = [{"name": "poor", "user": {"token": answer["status"]["token"]}}]
        config["contexts"] = [{"name": context, "context": {**there, "user": "poor"}}]
        (Path(folder) / "kubeconfig").write_text(yaml.safe_dump(config))
        yield Path(folder) / "kubeconfig"
    client.delete(accounts)
    client.close()


def _given() -> tuple[Path, str]:
    """Return kubeconfig and context the environment names."""
    from kubernetes import config  # noqa: PLC0415 (a second of imports)

    path = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not path.exists():
        pytest.skip(f"no kubeconfig at {path}; set KUBECONFIG")
    _, current = config.list_kube_config_contexts(str(path))  # type: ignore[no-untyped-call]
    return path, os.environ.get("MESHGAUGE_TEST_CONTEXT") or current["name"]
