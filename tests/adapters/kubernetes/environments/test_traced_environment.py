"""Whole environments whose proxies report spans: what takes them comes first, proves the trial, and goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from living_place import MASTER, Place, failed, none, pair, up

from adapters import registry
from adapters.contract import Check
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Kind, ObjectRef
from adapters.kubernetes.environments import collector as collecting
from adapters.kubernetes.environments import evidence
from adapters.kubernetes.environments.environment import KubernetesEnvironment
from adapters.kubernetes.mesh import Condition, Enrolment, MeshOrder
from adapters.kubernetes.meshes.kuma import Kuma
from adapters.kubernetes.traces.inventory import difference, take
from adapters.span_sink import COUNT_PATH, SPANS_PATH
from meshgauge.errors import ConfigurationError, EnvironmentUpError
from meshgauge.plan import Profile

TRACED = Profile(name="traced", mtls=True, request_id=True, tracing_ratio=0.1)
COLLECTORS = f"{LABEL_COMPONENT}=trace_collector"
POD = Kind("v1", "Pod")
MESHES = ("istio", "kuma", pytest.param("consul", marks=pytest.mark.slow))  # whose hooks take a minute to give up


@pytest.fixture(autouse=True)
def _no_flush_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_ARRIVAL_S", 0.2)
    monkeypatch.setattr(collecting, "_AGAIN_S", 0.05)


@pytest.fixture
def cluster(place: Place) -> Iterator[Cluster]:
    """A look at the cluster of one's own."""
    found = place.connect()
    yield found
    found.close()


@pytest.fixture
def collector(place: Place, sink_port: int) -> str:
    """The URL of the program that stands behind the collector's pod."""
    url = f"http://127.0.0.1:{sink_port}"
    place.answers("*/pods/trace-collector-*:9411/proxy/count", lambda _: httpx.get(f"{url}{COUNT_PATH}").text)
    return url


def environment_of(place: Place, mesh: str, profile: Profile = TRACED, **order: Any) -> KubernetesEnvironment:
    version = place.provider().versions(mesh, place.infrastructure())[0]
    return place.environment(pair(mesh, version), profile, **order)


def spans_in(checks: Any) -> list[Check]:
    return [check for check in checks if check.name.endswith(": spans") or check.name.startswith("traces")]


def report(url: str, kind: str, spans: int) -> None:
    body = [{"traceId": "a", "id": "b", "kind": kind}] * spans
    assert httpx.post(f"{url}{SPANS_PATH}", content=json.dumps(body)).status_code == 202


@pytest.mark.parametrize("mesh", MESHES)
def test_spans_prove_the_trial_and_nothing_stays(place: Place, cluster: Cluster, collector: str, mesh: str) -> None:
    before = take(cluster)
    environment = environment_of(place, mesh)
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        (pod,) = cluster.list(POD, labels=COLLECTORS)
        assert [one["name"] for one in pod["spec"]["containers"]] == ["collector"], "a proxy stands beside it"
        assert not pod["spec"].get("initContainers")
        assert not spans_in(environment.verify_before())
        assert "trace_collector" in {sample.component for sample in environment.sample()}
        report(collector, "CLIENT", 1000)
        report(collector, "SERVER", 1000)
        checks = spans_in(environment.verify_after(10_000))
        assert [check.name for check in checks] == [
            "traces: refused",
            "data_plane/client: spans",
            "data_plane/server: spans",
        ]
        assert not failed(checks)
        assert "collector.yaml" in {artefact.name for artefact in environment.artefacts()}
        tracing = [hop["features"]["tracing"] for hop in environment.provenance()["hops"].values()]
        assert all(words.startswith("10 % of requests") for words in tracing)
        in_play = {one["spec"]["nodeName"] for one in cluster.list(POD, labels=f"{LABEL_COMPONENT} in (app, load)")}
        is_shared = pod["spec"]["nodeName"] in in_play
        assert is_shared == (evidence.SHARED_WITH_COLLECTOR in environment.provenance()["warnings"])
    finally:
        environment.down()
    assert not difference(before, take(cluster))


def test_a_trial_whose_spans_do_not_come_is_no_proof_nor_is_one_whose_collector_went(
    place: Place, cluster: Cluster, collector: str
) -> None:
    environment = environment_of(place, "kuma")
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        environment.verify_before()
        report(collector, "CLIENT", 1000)
        (wrong,) = failed(spans_in(environment.verify_after(10_000)))
        assert (wrong.name, wrong.seen) == ("data_plane/server: spans", "0")
        (pod,) = cluster.list(POD, labels=COLLECTORS)
        cluster.delete(ObjectRef.of(pod), grace_s=0)  # and its counts with it
        assert any(pod["metadata"]["name"] in sentence for sentence in environment.lost_components())
    finally:
        environment.down()


def test_the_collector_is_ready_before_a_proxy_hears_of_it(place: Place) -> None:
    place.puppet.hold("*/trace-collector-*", "InvalidImageName")
    environment = environment_of(place, "kuma")
    with pytest.raises(EnvironmentUpError, match="trace-collector"):
        environment.up(lambda _: None)
    assert not [path for method, path in place.fake.requests if method == "PATCH" and "/meshtraces/meshgauge" in path]
    environment.down()


class Waiting(Kuma):
    """A Kuma whose proxies read something once that nobody ever makes."""

    def enrolment(self, order: MeshOrder) -> Enrolment:
        never = ObjectRef(Kind("v1", "ConfigMap"), order.namespace, "read-once")
        return replace(super().enrolment(order), read_once=(Condition(never),))


def test_no_pod_is_made_before_there_is_what_its_proxy_starts_with(
    place: Place, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "kubernetes_mesh", lambda _: Waiting())
    monkeypatch.setattr("adapters.kubernetes.lifecycle._READY_S", 5.0)
    environment = environment_of(place, "kuma")
    with pytest.raises(EnvironmentUpError, match="read-once"):
        environment.up(lambda _: None)
    assert not cluster.list(POD, labels=f"{LABEL_COMPONENT}=app")
    environment.down()


def test_without_traces_and_without_a_mesh_nobody_takes_spans(place: Place, cluster: Cluster) -> None:
    plain = Profile(name="untraced", mtls=True, request_id=True)
    for environment in (environment_of(place, "kuma", plain), place.environment(none(), TRACED)):
        try:
            up(environment)
            environment.start_load_workers("trial", MASTER, 1)
            assert not cluster.list(POD, labels=COLLECTORS)
            assert not spans_in([*environment.verify_before(), *environment.verify_after(10_000)])
        finally:
            environment.down()


def test_a_collector_without_an_image_says_what_to_set(place: Place) -> None:
    outside = place.infrastructure(load_from="workers")
    environment = environment_of(place, "kuma", load_image="", infrastructure=outside)
    with pytest.raises(ConfigurationError, match=r"trace collector.*MESHGAUGE_IMAGE"):
        environment.up(lambda _: None)
    environment.down()
