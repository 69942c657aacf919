"""The trace collector as a pod of an environment, and the proof it gives, with the real program behind it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fake_api import FakeCluster
from plain_client import PlainClient

from adapters.contract import Check
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster
from adapters.kubernetes.environments import collector as collecting
from adapters.kubernetes.environments.collector import Collector, Reading, collector_objects, reporting
from adapters.kubernetes.environments.load_jobs import OwnPods
from adapters.kubernetes.environments.treatment import SpanOrder
from adapters.span_sink import COUNT_PATH, SPANS_PATH
from meshgauge.errors import MeasurementError
from meshgauge.infrastructures import Cluster as ClusterPlan

PODS = OwnPods("example/meshgauge:1", "bench", {"meshgauge.io/site": "k.1"}, ClusterPlan())
NAME = "trace-collector"


def objects(pods: OwnPods = PODS, **labels: str) -> tuple[Any, Any]:
    deployment, service = collector_objects(pods, NAME, labels)
    return deployment, service


def test_one_pod_of_the_image_there_is_anyway_takes_spans() -> None:
    deployment, service = objects()
    assert deployment["spec"]["replicas"] == 1
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example/meshgauge:1"
    assert container["command"] == ["python", "-m", "adapters.span_sink", "--port", "9411"]
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["resources"]["requests"] == {"cpu": "100m", "memory": str(128 << 20)}
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (9411, 9411)
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["template"]["spec"]["restartPolicy"] == "Always"


def test_it_is_neither_application_nor_load_nor_part_of_the_mesh() -> None:
    for one in (*objects(inject="false"), objects(inject="false")[0]["spec"]["template"]):
        labels = one["metadata"]["labels"]
        assert labels[LABEL_COMPONENT] == "trace_collector"
        assert labels["meshgauge.io/site"] == "k.1"
        assert labels["inject"] == "false"


def test_it_keeps_off_the_nodes_of_application_and_load_where_it_can() -> None:
    plan = ClusterPlan(app_nodes={"pool": "app"}, load_nodes={"pool": "load", "size": "big"})
    affinity = objects(OwnPods("i", "bench", {}, plan))[0]["spec"]["template"]["spec"]["affinity"]
    apart = affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    kept_from = [term["podAffinityTerm"]["labelSelector"]["matchLabels"][LABEL_COMPONENT] for term in apart]
    assert kept_from == ["app", "load"]
    others = affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    avoided = [
        (e["key"], e["operator"], *e["values"]) for term in others for e in term["preference"]["matchExpressions"]
    ]
    assert avoided == [("pool", "NotIn", "app"), ("pool", "NotIn", "load"), ("size", "NotIn", "big")]
    assert "nodeAffinity" not in objects()[0]["spec"]["template"]["spec"]["affinity"]


def test_proxies_that_see_connections_alone_report_nothing() -> None:
    assert reporting(("client", "server"), replicas=3, load_workers=2) == {"client": 2, "server": 3}
    assert reporting(("node",), replicas=3, load_workers=2) == {}


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"spans": {}}', '{"spans": {"CLIENT": "x"}, "refused": 0}'])
def test_what_is_no_count_is_no_reading(text: str) -> None:
    with pytest.raises(MeasurementError, match="is it the one of this release"):
        Reading.of(text)


# -- with the program itself


@dataclass
class Proxies:
    """What proxies do: they post spans to a collector."""

    port: int

    def report(self, kind: str, spans: int) -> None:
        body = json.dumps([{"traceId": "a", "id": "b", "kind": kind}] * spans).encode()
        assert self.post(body) == 202

    def post(self, body: bytes) -> int:
        return httpx.post(f"http://127.0.0.1:{self.port}{SPANS_PATH}", content=body).status_code

    def read(self, path: str) -> str:
        assert path.endswith(COUNT_PATH)
        return httpx.get(f"http://127.0.0.1:{self.port}{COUNT_PATH}").text


@pytest.fixture
def proxies(fake: FakeCluster, sink_port: int) -> Proxies:
    """Proxies, and a pod whose program is a process of this host."""
    found = Proxies(sink_port)
    _pod(fake, "trace-collector-1")
    fake.texts["*/pods/trace-collector-1:9411/proxy/count"] = found.read
    return found


def _pod(fake: FakeCluster, name: str) -> None:
    fake.store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}})
    fake.store.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "bench", "labels": {LABEL_COMPONENT: "trace_collector"}},
            "spec": {"containers": [{"name": "collector", "image": "i"}]},
        }
    )
    client = PlainClient(fake.kubeconfig)
    client.patch(f"/api/v1/namespaces/bench/pods/{name}/status", {"status": {"phase": "Running"}})
    client.close()


@pytest.fixture
def collector(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """What reads them, for a pair of proxies that report a tenth."""
    monkeypatch.setattr(collecting, "_ARRIVAL_S", 0.2)
    monkeypatch.setattr(collecting, "_AGAIN_S", 0.05)
    return Collector(cluster, PODS, SpanOrder(0.1, held=4), {"client": 1, "server": 1})


def failed(checks: Any) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_spans_of_this_trial_prove_it_and_those_of_the_one_before_do_not(
    proxies: Proxies, collector: Collector
) -> None:
    proxies.report("CLIENT", 1000)
    proxies.report("SERVER", 1000)
    assert not collector.remember()
    found = collector.checks(10_000)
    assert failed(found) == ["data_plane/client: spans", "data_plane/server: spans"]
    assert [check.seen for check in found] == ["0", "0", "0"]
    proxies.report("CLIENT", 1000)
    proxies.report("SERVER", 990)
    assert not failed(collector.checks(10_000))


def test_a_side_that_reports_nothing_is_named(proxies: Proxies, collector: Collector) -> None:
    assert not collector.remember()
    proxies.report("CLIENT", 1000)
    assert failed(collector.checks(10_000)) == ["data_plane/server: spans"]


def test_the_last_spans_have_the_time_to_arrive(
    proxies: Proxies, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_ARRIVAL_S", 30.0)
    assert not collector.remember()

    def arrive() -> None:
        proxies.report("CLIENT", 1000)
        proxies.report("SERVER", 1000)

    late = threading.Timer(0.5, arrive)
    late.start()
    assert not failed(collector.checks(10_000))
    late.join()


def test_what_it_could_not_read_is_no_proof_of_spans(proxies: Proxies, collector: Collector) -> None:
    assert not collector.remember()
    proxies.report("CLIENT", 1000)
    proxies.report("SERVER", 1000)
    assert proxies.post(b"\x0a\x10protobuf") == 400
    assert failed(collector.checks(10_000)) == ["traces: refused"]


def test_a_collector_that_does_not_answer_fails_the_check_and_not_the_trial(
    fake: FakeCluster, proxies: Proxies, collector: Collector
) -> None:
    assert not collector.remember()
    fake.texts["*/pods/trace-collector-1:9411/proxy/count"] = "<html>"
    (check,) = collector.checks(10_000)
    assert not check.passed
    assert "is it the one of this release" in check.seen
    assert failed(collector.remember()) == ["traces: collector"]
    assert failed(collector.checks(10_000)) == ["traces: collector"], "nothing to compare with"


def test_two_collectors_or_none_tell_nothing(fake: FakeCluster, cluster: Cluster, collector: Collector) -> None:
    (check,) = collector.remember()
    assert check == Check("traces: collector", False, "tells its counts", "0 trace collectors run, not 1")
    _pod(fake, "trace-collector-1")
    _pod(fake, "trace-collector-2")
    assert collector.remember()[0].seen == "2 trace collectors run, not 1"
