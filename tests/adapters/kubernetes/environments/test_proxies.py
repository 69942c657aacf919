"""Which proxies are read, and what becomes of one that does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from adapters.kubernetes.api import Cluster, Kind, ObjectRef
from adapters.kubernetes.environments.proxies import Proxies
from adapters.kubernetes.mesh import Containers, KubernetesMesh, MeshOrder, MetricsEndpoint, Passage
from meshgauge.errors import ServiceUnavailableError
from meshgauge.plan import BUILT_IN_PROFILES

ORDER = MeshOrder("1", {}, BUILT_IN_PROFILES["plain"], "pair", "bench", {}, app="front")


def pod(name: str, namespace: str = "bench", node: str = "n1", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running"}}


class Pods:
    """A cluster of pods, each of whose proxies says a number."""

    def __init__(self, pods: list[dict[str, Any]], told: Mapping[str, str]) -> None:
        self._pods, self._told = pods, told

    def list(self, _: Kind, namespace: str, labels: str | None = None) -> Iterator[dict[str, Any]]:
        wanted = dict(part.split("=") for part in labels.split(",")) if labels else {}
        for one in self._pods:
            metadata = one["metadata"]
            if metadata["namespace"] == namespace and wanted.items() <= metadata["labels"].items():
                yield one

    def get(self, ref: ObjectRef) -> dict[str, Any] | None:
        return {"spec": {"selector": {"app": "front"}}} if ref.name == "front" else None

    def text(self, path: str, _: float) -> str:
        name = path.split("/pods/")[1].split(":", maxsplit=1)[0]
        if name not in self._told:
            raise ServiceUnavailableError(f"{name} does not answer")
        return self._told[name]


def proxies(groups: list[Containers], pods: list[dict[str, Any]], told: Mapping[str, str]) -> Proxies:
    mesh = SimpleNamespace(
        containers=lambda _: groups,
        metrics=lambda role: None if role == "silent" else MetricsEndpoint(9000, "/metrics"),
        passage=lambda text, *_: Passage(requests=float(text)),
    )
    return Proxies(cast(Cluster, Pods(pods, told)), cast(KubernetesMesh, mesh), ORDER)


SIDE = "meshgauge.io/component"


@pytest.fixture
def pods() -> list[dict[str, Any]]:
    """An application of two services, its load, and a proxy on each of three nodes."""
    return [
        pod("front", app="front", **{SIDE: "app"}),
        pod("inner", app="inner", **{SIDE: "app"}),
        pod("load", node="n2", **{SIDE: "load"}),
        *(pod(f"shared-{node}", "mesh", node, app="shared") for node in ("n1", "n2", "n3")),
    ]


def test_the_servers_proxies_are_those_behind_the_service_load_is_sent_to(pods: list[dict[str, Any]]) -> None:
    groups = [Containers("client", None, ""), Containers("server", None, ""), Containers(None, "mesh", "app=control")]
    found = proxies(groups, pods, {"front": "5", "inner": "50", "load": "4"}).passages()
    assert found == {"client": {"load": Passage(requests=4)}, "server": {"front": Passage(requests=5)}}


def test_proxies_of_nodes_are_read_where_application_or_load_run(pods: list[dict[str, Any]]) -> None:
    told = {"shared-n1": "1", "shared-n2": "2", "shared-n3": "3"}
    found = proxies([Containers("node", "mesh", "app=shared")], pods, told).passages()
    assert set(found["node"]) == {"shared-n1", "shared-n2"}


def test_a_proxy_that_does_not_answer_is_a_failed_check_and_counts_nothing(pods: list[dict[str, Any]]) -> None:
    reading = proxies([Containers("server", None, "")], pods, {})
    assert reading.passages() == {"server": {"front": Passage()}}
    (check,) = reading.problems
    assert not check.passed
    assert "front does not answer" in check.seen
