"""Helm against the fake API server and, with ``-m cluster``, against a real one: what the fake could be wrong about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ground import Ground
from tiny_charts import CRD, HOOK, make_chart

from adapters.kubernetes.api import Cluster, Kind, ObjectRef
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, HelmBackend
from adapters.kubernetes.server.connection import connect
from meshgauge.errors import EnvironmentUpError

WIDGETS = ObjectRef.of(yaml.safe_load(CRD))
WIDGET = "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: one}\n"


@pytest.fixture
def cluster(server: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    found = connect(server.context)
    yield found
    found.delete(WIDGETS)
    found.close()


@pytest.fixture(params=["sdk", "binary"])
def helm(request: pytest.FixtureRequest) -> HelmBackend:
    """Both ways to Helm, one behaviour."""
    if request.param == "binary" and shutil.which("helm") is None:
        pytest.skip("no helm program on PATH")
    return backend(request.param)


def names(cluster: Cluster, namespace: str) -> set[str]:
    """Return the release's objects in the namespace, Helm's records among them; clusters put CA bundles there too."""
    kinds = (Kind("v1", "ConfigMap"), Kind("v1", "Secret"), Kind("batch/v1", "Job"))
    found = {f"{kind.name} {one['metadata']['name']}" for kind in kinds for one in cluster.list(kind, namespace)}
    return {one for one in found if "greet" in one}


def test_a_release_with_a_kind_of_its_own_lives_and_leaves_only_that_kind(
    helm: HelmBackend, cluster: Cluster, server: Ground, tmp_path: Path
) -> None:
    files = {"crds/widget.yaml": CRD, "templates/widget.yaml": WIDGET}
    releases = [
        ChartRelease(
            "greet", server.namespace, ChartSource(str(make_chart(tmp_path, "greeter", version, files))), version
        )
        for version in ("1.0.0", "1.1.0")
    ]
    helm.install(cluster, releases[0], 60)
    assert names(cluster, server.namespace) == {"ConfigMap greet", "Secret sh.helm.release.v1.greet.v1"}
    helm.upgrade(cluster, releases[1], 60)
    ours = [one for one in helm.releases(cluster) if one.namespace == server.namespace]
    assert [(one.chart_version, one.revision, one.status) for one in ours] == [("1.1.0", 2, "deployed")]
    assert cluster.get(ObjectRef(Kind("example.org/v1", "Widget"), server.namespace, "one")) is not None
    assert helm.uninstall(cluster, "greet", server.namespace, 60)
    assert names(cluster, server.namespace) == set()
    assert cluster.get(ObjectRef(Kind("example.org/v1", "Widget"), server.namespace, "one")) is None
    assert cluster.get(WIDGETS) is not None
    assert not helm.uninstall(cluster, "greet", server.namespace, 60)


def test_a_release_whose_kind_is_gone_is_removed_all_the_same(
    helm: HelmBackend, cluster: Cluster, server: Ground, tmp_path: Path
) -> None:
    chart = make_chart(tmp_path, files={"crds/widget.yaml": CRD, "templates/widget.yaml": WIDGET})
    helm.install(cluster, ChartRelease("greet", server.namespace, ChartSource(str(chart)), "1.0.0"), 60)
    cluster.delete(WIDGETS)
    assert helm.uninstall(cluster, "greet", server.namespace, 60)
    assert names(cluster, server.namespace) == set()


def test_a_hook_that_never_ends_holds_up_neither_installation_nor_removal(
    helm: HelmBackend, cluster: Cluster, server: Ground, tmp_path: Path
) -> None:
    hook = HOOK.replace("restartPolicy: Never", "restartPolicy: Never\n      nodeSelector: {no-such-label: here}")
    chart = make_chart(tmp_path, files={"templates/hook.yaml": hook})
    with pytest.raises(EnvironmentUpError, match="was not done in time"):
        helm.install(cluster, ChartRelease("greet", server.namespace, ChartSource(str(chart)), "1.0.0"), 3)
    assert helm.uninstall(cluster, "greet", server.namespace, 10)
    assert names(cluster, server.namespace) == set()
