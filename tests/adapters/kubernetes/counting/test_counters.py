"""The meter against an API server: who is asked, which instants come back, what happens when nobody answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_api import FakeCluster
from fake_rights import Rule
from fake_store import Writer
from kubelet_text import Fake, cadvisor_text, resource_text

from adapters.kubernetes.api import Cluster
from adapters.kubernetes.counting import kubelets, metrics_api, nodes
from adapters.kubernetes.counting.components import watched
from adapters.kubernetes.counting.counters import KubernetesMeter
from adapters.kubernetes.mesh import Containers
from adapters.kubernetes.server.connection import connect
from meshgauge.trial import UsageSample

NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "n1",
        "labels": {"node.kubernetes.io/instance-type": "c7i.xlarge", "topology.kubernetes.io/zone": "z-a"},
    },
    "status": {
        "capacity": {"cpu": "4", "memory": "8Gi"},
        "allocatable": {"cpu": "3920m", "memory": "7Gi"},
        "nodeInfo": {
            "kernelVersion": "6.8.0",
            "osImage": "Linux",
            "architecture": "amd64",
            "kubeletVersion": "v1.36.2",
            "containerRuntimeVersion": "containerd://2.1.0",
            "bootID": "b-1",
        },
    },
}
CONTAINERS = (Containers("server", None, "", ("proxy",)),)
WANTED = watched(CONTAINERS, "mg", "app=app", None)


def _pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "mg", "labels": {"app": "app"}},
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "app", "image": "i"}],
            "initContainers": [{"name": "proxy", "image": "i", "restartPolicy": "Always"}],
        },
        "status": {"phase": "Running"},
    }


def _put(fake: FakeCluster, manifest: dict[str, Any]) -> None:
    """Create an object, and then its status, as whoever runs it does."""
    made = fake.store.put(manifest)
    resource = fake.store.of_kind(made["apiVersion"], made["kind"])
    fake.store.write(resource, made, {**made, "status": manifest["status"]}, Writer(subresource="status"))


Ground = Callable[..., Cluster]


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def ground(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """Return what lays a node and a pod, and connects: as a user who holds ``rules``, or as one who may everything."""
    made: list[Cluster] = []

    def lay(*rules: Rule) -> Cluster:
        fake.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mg"}})
        _put(fake, NODE)
        _put(fake, _pod("app-1"))
        monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig_of("poor", *rules) if rules else fake.kubeconfig))
        made.append(connect(None))
        return made[-1]

    yield lay
    for cluster in made:
        cluster.close()


def _may(group: str, resource: str) -> Rule:
    return Rule(group, resource, ("get", "list", "watch"))


def _texts(at_ms: int, seconds: float = 10.0) -> tuple[list[Fake], tuple[int, float, int]]:
    fakes = [
        Fake("mg", "app-1", "app", at_ms - 3000, seconds, 1.0),
        Fake("mg", "app-1", "proxy", at_ms - 7000, 2.0, 0.5, limited=True, throttled_s=0.25),
        Fake("other", "app-1", "app", at_ms, 77.0, 7.0),
    ]
    return fakes, (at_ms - 1000, 900.0, 4 << 30)


def _by_part(samples: Any) -> dict[tuple[str, str | None], UsageSample]:
    return {(sample.component, sample.part): sample for sample in samples}


def test_every_container_comes_with_its_own_instant_on_our_clock(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(), WANTED, period_s=0.0)
    fakes, node = _texts(round(time.time() * 1000))
    fake.texts["*/nodes/n1/proxy/metrics/cadvisor"] = cadvisor_text(fakes, *node)
    meter.start()
    now = time.monotonic()
    found = _by_part(meter.sample())
    meter.close()
    assert set(found) == {
        ("app", "mg/app-1/app"),
        ("data_plane/server", "mg/app-1/proxy"),
        ("host", "n1"),
    }
    app, proxy = found["app", "mg/app-1/app"], found["data_plane/server", "mg/app-1/proxy"]
    assert (app.cpu_user_s, app.cpu_system_s, app.cpu_total_s) == (10.0, 1.0, 11.0)
    assert app.source == kubelets.CADVISOR
    assert (app.throttled_s, proxy.throttled_s) == (None, 0.25)
    assert app.at_s - proxy.at_s == pytest.approx(4.0, abs=0.002)
    assert -5.0 < app.at_s - now < -1.0, "3 s ago by the node's clock, and the clocks are one"
    assert meter.host_cores == 4.0
    assert meter.problem is None
    facts = meter.facts()
    assert facts["source"] == kubelets.CADVISOR
    node_facts = meter.nodes()["n1"]
    assert node_facts["instance_type"] == "c7i.xlarge"
    assert node_facts["allocatable_cores"] == pytest.approx(3.92)


def test_a_counter_is_returned_once(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(), WANTED, period_s=0.0)
    at_ms = round(time.time() * 1000)
    fakes, node = _texts(at_ms)
    fake.texts["*/cadvisor"] = cadvisor_text(fakes, *node)
    meter.start()
    assert len(meter.sample()) == 3
    assert meter.sample() == ()
    moved = [Fake("mg", "app-1", "app", at_ms + 10_000, 20.0, 2.0), *fakes[1:]]
    fake.texts["*/cadvisor"] = cadvisor_text(moved, *node)
    (only,) = meter.sample()
    meter.close()
    assert (only.part, only.cpu_total_s) == ("mg/app-1/app", 22.0)


def test_kubelets_are_not_asked_more_often_than_they_count(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(), WANTED)
    fakes, node = _texts(round(time.time() * 1000))
    fake.texts["*/cadvisor"] = cadvisor_text(fakes, *node)
    meter.start()
    for _ in range(5):
        meter.sample()
    meter.close()
    assert [path for _, path in fake.requests if path.endswith("/cadvisor")] == [
        "/api/v1/nodes/n1/proxy/metrics/cadvisor"
    ]


def test_a_container_nobody_counts_is_there_without_cpu(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(), WANTED, period_s=0.0)
    fakes, node = _texts(round(time.time() * 1000))
    fake.texts["*/cadvisor"] = cadvisor_text(fakes[:1], *node)
    meter.start()
    found = _by_part(meter.sample())
    meter.close()
    assert found["data_plane/server", "mg/app-1/proxy"].cpu_total_s is None
    assert found["app", "mg/app-1/app"].cpu_total_s == 11.0


def test_a_component_without_containers_is_there_without_cpu(fake: FakeCluster, ground: Ground) -> None:
    cluster = ground()
    wanted = watched((Containers(None, "mesh-system", "app=none"),), "mg", "app=app", None)
    meter = KubernetesMeter(cluster, wanted, period_s=0.0)
    fakes, node = _texts(round(time.time() * 1000))
    fake.texts["*/cadvisor"] = cadvisor_text(fakes, *node)
    meter.start()
    found = _by_part(meter.sample())
    meter.close()
    assert found["control_plane", "all of its containers"].cpu_total_s is None


def test_a_runtime_that_counts_for_itself_is_read_from_the_resource_endpoint(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(), WANTED, period_s=0.0)
    fakes, node = _texts(round(time.time() * 1000))
    fake.texts["*/cadvisor"] = cadvisor_text([], *node)
    fake.texts["*/resource"] = resource_text(fakes, *node)
    meter.start()
    app = _by_part(meter.sample())["app", "mg/app-1/app"]
    facts = meter.facts()
    meter.close()
    assert (app.cpu_user_s, app.cpu_total_s, app.source) == (None, 11.0, kubelets.RESOURCE)
    assert facts["source"] == kubelets.RESOURCE


def _metrics(fake: FakeCluster, second: int, cpu: str) -> None:
    stamped = {"timestamp": f"2026-11-23T14:00:{second:02d}Z", "window": "15s", "apiVersion": "metrics.k8s.io/v1beta1"}
    usage = {"cpu": cpu, "memory": "64Mi"}
    fake.store.put({"kind": "NodeMetrics", "metadata": {"name": "n1"}, "usage": {**usage, "cpu": "2"}, **stamped})
    containers = [{"name": name, "usage": usage} for name in ("app", "proxy")]
    metadata = {"name": "app-1", "namespace": "mg"}
    fake.store.put({"kind": "PodMetrics", "metadata": metadata, "containers": containers, **stamped})


_EVERYTHING_BUT_KUBELETS = (
    _may("", "nodes"),
    _may("", "pods"),
    _may("metrics.k8s.io", "pods"),
    _may("metrics.k8s.io", "nodes"),
    _may("coordination.k8s.io", "leases"),
)


def test_without_the_right_to_ask_kubelets_the_metrics_server_is_asked(fake: FakeCluster, ground: Ground) -> None:
    cluster = ground(*_EVERYTHING_BUT_KUBELETS)
    fake.serve_metrics()
    _metrics(fake, 0, "100m")
    meter = KubernetesMeter(cluster, WANTED, period_s=0.0)
    meter.start()
    assert _by_part(meter.sample())["app", "mg/app-1/app"].cpu_total_s == 0.0
    _metrics(fake, 15, "500m")
    found = _by_part(meter.sample())
    meter.close()
    app = found["app", "mg/app-1/app"]
    assert (app.cpu_user_s, app.source) == (None, metrics_api.GROUP)
    assert app.cpu_total_s == pytest.approx(7.5)
    assert found["host", "n1"].cpu_total_s == pytest.approx(30.0)
    facts = meter.facts()
    assert facts["source"] == metrics_api.GROUP
    assert facts["gauges_cover_ratio"] == 1.0
    assert "get nodes/proxy" in facts["reason"]


def test_where_neither_may_be_asked_nothing_is_invented_and_the_reason_is_said(
    fake: FakeCluster, ground: Ground
) -> None:
    meter = KubernetesMeter(ground(_may("", "nodes"), _may("", "pods")), WANTED, period_s=0.0)
    meter.start()
    samples = meter.sample()
    meter.close()
    assert {sample.cpu_total_s for sample in samples} == {None}
    assert meter.problem
    assert "get nodes/proxy" in meter.problem
    assert "metrics.k8s.io" in meter.problem


def test_without_a_metrics_server_the_reason_names_it(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(*_EVERYTHING_BUT_KUBELETS), WANTED, period_s=0.0)
    meter.start()
    meter.close()
    assert meter.problem
    assert "install metrics-server" in meter.problem


def test_a_promised_right_that_is_refused_leads_to_the_metrics_server(fake: FakeCluster, ground: Ground) -> None:
    cluster = ground()
    fake.serve_metrics()
    _metrics(fake, 0, "100m")
    fake.fail(1, 403, path="*/cadvisor")
    meter = KubernetesMeter(cluster, WANTED, period_s=0.0)
    meter.start()
    meter.sample()
    found = _by_part(meter.sample())
    meter.close()
    assert found["app", "mg/app-1/app"].source == metrics_api.GROUP, meter.facts()


def test_a_kubelet_that_does_not_answer_costs_samples_and_not_the_trial(fake: FakeCluster, ground: Ground) -> None:
    meter = KubernetesMeter(ground(), WANTED, period_s=0.0)
    meter.start()
    assert {sample.cpu_total_s for sample in meter.sample()} == {None}
    fakes, node = _texts(round(time.time() * 1000))
    fake.texts["*/cadvisor"] = cadvisor_text(fakes, *node)
    assert _by_part(meter.sample())["app", "mg/app-1/app"].cpu_total_s == 11.0
    (failed,) = meter.facts()["reads_failed"]
    meter.close()
    assert failed.startswith("n1: ")


def test_clocks_are_compared_by_the_leases_of_nodes(fake: FakeCluster, ground: Ground) -> None:
    cluster = ground()
    stop = time.monotonic() + 10.0

    def lease(ahead_s: float) -> dict[str, Any]:
        at = time.time() + ahead_s
        written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "n1", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "n1", "renewTime": written},
        }

    fake.store.put(lease(-30.0))  # what stood there before says nothing
    ended = threading.Event()

    def renewing() -> None:
        while not ended.wait(0.05) and time.monotonic() < stop:
            fake.store.put(lease(3.0))

    kubelet = threading.Thread(target=renewing)
    kubelet.start()
    found = nodes.clock_offsets(cluster, ["n1"], timeout_s=8.0)
    ended.set()
    kubelet.join()
    assert found["n1"] == pytest.approx(3.0, abs=0.5)


def test_a_node_that_renews_no_lease_has_no_offset(fake: FakeCluster, ground: Ground) -> None:
    assert nodes.clock_offsets(ground(), ["n1"], timeout_s=0.3) == {}
