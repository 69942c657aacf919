"""Whole environments against a cluster of puppets: brought up, looked at, taken down, with nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live_processes import eventually
from living_place import MASTER, Place, failed, none, pair, up

from adapters import registry
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Kind, ObjectRef
from adapters.kubernetes.environments.standing import life_order
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.lifecycle import MeshLife
from adapters.kubernetes.traces.inventory import difference, take
from adapters.kubernetes.traces.ledger import Owner
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError
from meshgauge.infrastructures import Size
from meshgauge.matrix import EnvironmentKey, Workload
from meshgauge.plan import BUILT_IN_PROFILES
from meshgauge.workloads import DeploymentVersion
from meshgauge.workloads import Workload as Spec

POD = Kind("v1", "Pod")
JOB = Kind("batch/v1", "Job")
NAMESPACE = Kind("v1", "Namespace")


@pytest.fixture
def cluster(place: Place) -> Iterator[Cluster]:
    """A look at the cluster of one's own."""
    found = place.connect()
    yield found
    found.close()


def test_the_baseline_comes_up_without_any_proxy_and_leaves_nothing(place: Place, cluster: Cluster) -> None:
    before = take(cluster)
    environment = place.environment(none(), infrastructure=place.infrastructure(size=Size(replicas=2)))
    try:
        entry, phases = up(environment)
        assert phases == ["install", "configure", "workload", "enroll", "ready"]
        assert entry.port == 8080
        assert entry.name.startswith("app.meshgauge-")
        assert entry.name.endswith("-3.svc")
        environment.start_load_workers("trial", MASTER, 2)
        checks = [*environment.verify_before(), *environment.verify_after(1000)]
        assert not failed(checks)
        assert {check.name for check in checks} == {"data_plane/app", "data_plane/load", "restarts"}
        assert len(cluster.list(POD, labels=f"{LABEL_COMPONENT}=app")) == 2
        assert not environment.lost_components()
    finally:
        environment.down()
    assert not difference(before, take(cluster))
    environment.down()  # once more is no error


def test_the_plans_domain_goes_before_that_of_kubelets_and_of_most_clusters(place: Place, cluster: Cluster) -> None:
    def domain(**plan: Any) -> tuple[str, list[str]]:
        infrastructure, lines = place.infrastructure(**plan), list[str]()
        spec = Spec(name="small", app="fixed-reply", reply_bytes=64)
        workload = Workload("small", spec, None)
        key = EnvironmentKey(pair("istio", "1.30.3"), BUILT_IN_PROFILES["mtls"], workload, infrastructure)
        order = life_order(key, Owner("site", 1, "env"), "ns", 0, registry.kubernetes_mesh)
        life = MeshLife(cluster, backend(), order, place.folder / "cache", lines.append)
        return life.mesh_order.cluster_domain, lines

    silent, said = domain()
    assert silent == "cluster.local"
    assert "no kubelet tells the cluster's domain" in said[0]
    place.answers("*/proxy/configz", '{"kubeletconfig": {"clusterDomain": "k8s.example"}}')
    assert domain() == ("k8s.example", [])
    assert domain(domain="other.example") == ("other.example", [])


def test_every_object_of_an_environment_is_found_by_its_labels(place: Place, cluster: Cluster) -> None:
    environment = place.environment(none())
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        for kind in (NAMESPACE, JOB, Kind("apps/v1", "Deployment"), Kind("v1", "Service"), Kind("v1", "ConfigMap")):
            found = cluster.list(kind, labels="meshgauge.io/site=kubernetes.test,meshgauge.io/epoch=3")
            assert found, kind
    finally:
        environment.down()


def test_load_workers_of_a_trial_take_the_place_of_the_trial_before(place: Place, cluster: Cluster) -> None:
    environment = place.environment(none())
    try:
        up(environment)
        environment.start_load_workers("first", MASTER, 2)
        first = {job["metadata"]["name"] for job in cluster.list(JOB)}
        environment.start_load_workers("second", MASTER, 3)
        second = {job["metadata"]["name"] for job in cluster.list(JOB)}
        assert len(second) == 1
        assert first.isdisjoint(second)
        assert len(cluster.list(POD, labels=f"{LABEL_COMPONENT}=load")) == 3
    finally:
        environment.down()


def test_load_workers_that_cannot_start_are_told_with_their_image(place: Place) -> None:
    environment = place.environment(none())
    try:
        up(environment)
        place.puppet.hold("example/meshgauge:1", "InvalidImageName")
        with pytest.raises(EnvironmentUpError, match="example/meshgauge:1"):
            environment.start_load_workers("trial", MASTER, 1)
    finally:
        environment.down()


def test_jobs_without_an_image_say_what_to_set(place: Place) -> None:
    environment = place.environment(none(), load_image="")
    with pytest.raises(ConfigurationError, match="MESHGAUGE_IMAGE"):
        environment.up(lambda _: None)
    environment.down()


def test_a_lost_pod_is_told_and_fails_the_check(place: Place, cluster: Cluster) -> None:
    environment = place.environment(none())
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        (pod,) = cluster.list(POD, labels=f"{LABEL_COMPONENT}=app")
        cluster.delete(ObjectRef.of(pod), grace_s=0)
        (sentence,) = environment.lost_components()
        assert sentence.startswith(f"pod {pod['metadata']['name']} is gone")
        assert "restarts" in [check.name for check in failed(environment.verify_before())]
    finally:
        environment.down()


def test_a_proxy_of_the_load_that_restarts_fails_the_check(place: Place, cluster: Cluster) -> None:
    """It comes back empty: what it counted, and perhaps requests, are lost."""
    version = place.provider().versions("linkerd", place.infrastructure())[0]
    environment = place.environment(pair("linkerd", version), BUILT_IN_PROFILES["mtls"])
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        environment.verify_before()
        (pod,) = cluster.list(POD, labels=f"{LABEL_COMPONENT}=load")
        name = pod["metadata"]["name"]
        place.puppet.restart(f"*/{name}", "linkerd-proxy")
        eventually(lambda: "'exitCode': 137" in str(cluster.get(ObjectRef.of(pod))), 30.0)
        (check,) = [check for check in environment.verify_after(0) if check.name == "restarts"]
        assert not check.passed
        assert f"pod {name}: container linkerd-proxy restarted: it ended with code 137" in check.seen
    finally:
        environment.down()


def test_a_mesh_lives_from_charts_to_nothing_left(place: Place, cluster: Cluster) -> None:
    before = take(cluster)
    version = place.provider().versions("linkerd", place.infrastructure())[0]
    environment = place.environment(pair("linkerd", version), BUILT_IN_PROFILES["mtls"])
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 2)
        checks = {check.name: check for check in environment.verify_before()}
        assert checks["data_plane/app"].passed
        assert checks["data_plane/load"].expected == "linkerd-proxy beside each"
        assert checks["releases"].passed
        assert checks["control_plane"].passed
        assert checks["plaintext from outside the mesh"].seen.startswith("refused")
        artefacts = {artefact.name: artefact.content.decode() for artefact in environment.artefacts()}
        assert not [name for name, text in artefacts.items() if "PRIVATE KEY" in text]
        assert {"application.yaml", "configuration.yaml", "lifecycle.log"} <= artefacts.keys()
        provenance = environment.provenance()
        assert provenance["mesh"] == {"adapter": "linkerd", "version": version}
        assert all(len(chart["sha256"]) == 64 for chart in provenance["charts"].values())
        assert set(provenance["hops"]) == {"client", "server"}
    finally:
        environment.down()
    assert not difference(before, take(cluster))


def test_a_mesh_that_lets_plaintext_in_is_found_out(place: Place) -> None:
    place.probe_exit = 0
    version = place.provider().versions("linkerd", place.infrastructure())[0]
    environment = place.environment(pair("linkerd", version), BUILT_IN_PROFILES["mtls"])
    try:
        up(environment)
        environment.start_load_workers("trial", MASTER, 1)
        (wrong,) = [check for check in failed(environment.verify_before()) if "plaintext" in check.name]
        assert (wrong.expected, wrong.seen) == ("refused", "answered")
    finally:
        environment.down()


def test_the_gateway_api_comes_and_goes_with_a_mesh_that_reads_it(place: Place, cluster: Cluster) -> None:
    before = take(cluster)
    version = place.provider().versions("istio", place.infrastructure())[0]
    environment = place.environment(pair("istio", version))
    crds = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    try:
        up(environment)
        names = {crd["metadata"]["name"] for crd in cluster.list(crds)}
        assert "httproutes.gateway.networking.k8s.io" in names
    finally:
        environment.down()
    assert not difference(before, take(cluster))


def test_what_was_cut_off_is_swept_by_the_next_epoch(place: Place, cluster: Cluster) -> None:
    before = take(cluster)
    version = place.provider().versions("linkerd", place.infrastructure())[0]
    environment = place.environment(pair("linkerd", version), BUILT_IN_PROFILES["mtls"])
    up(environment)  # and then its worker is cut off
    lines = place.provider().sweep("kubernetes", "kubernetes.test", 4)
    assert lines
    assert not difference(before, take(cluster))
    assert not place.provider().sweep("kubernetes", "kubernetes.test", 4)
    environment.down()  # the worker comes back, and finds nothing


def test_an_environment_that_fails_in_the_middle_leaves_nothing(place: Place, cluster: Cluster) -> None:
    before = take(cluster)
    version = place.provider().versions("linkerd", place.infrastructure())[0]
    place.puppet.hold("linkerd/linkerd-destination*", "InvalidImageName")
    environment = place.environment(pair("linkerd", version), BUILT_IN_PROFILES["mtls"])
    with pytest.raises(EnvironmentUpError, match="linkerd-destination"):
        environment.up(lambda _: None)
    assert any("linkerd-destination" in a.content.decode() for a in environment.artefacts())
    environment.down()
    assert not difference(before, take(cluster))


def test_a_users_manifests_are_the_application(place: Place, cluster: Cluster) -> None:
    manifests = place.folder / "shop.yaml"
    manifests.write_text(
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{name: front, image: shop}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 80}]}
"""
    )
    version = DeploymentVersion(version="1", manifests=(str(manifests),), service="front", port=80)
    workload = Workload("shop-1", Spec(name="shop", deployments=(version,)), None, version)
    environment = place.environment(none(), workload=workload)
    try:
        entry, _ = up(environment)
        assert (entry.port, entry.name.split(".")[0]) == (80, "front")
        environment.start_load_workers("trial", MASTER, 1)
        assert not failed(environment.verify_before())
        assert len(cluster.list(POD, labels=f"{LABEL_COMPONENT}=app")) == 2
    finally:
        environment.down()


def test_a_users_chart_is_the_application(place: Place, cluster: Cluster) -> None:
    chart = place.folder / "web"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: web\nversion: 1.0.0\n")
    (chart / "values.yaml").write_text("port: 1\n")
    (chart / "templates" / "all.yaml").write_text(
        """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: {{ .Release.Namespace }}}
spec: {ports: [{port: {{ .Values.port }}}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web}]}}
"""
    )
    version = DeploymentVersion.model_validate(
        {"version": "1", "chart": {"chart": str(chart), "values": {"port": 81}}, "service": "web", "port": 81}
    )
    workload = Workload("web-1", Spec(name="web", deployments=(version,)), None, version)
    environment = place.environment(none(), workload=workload)
    try:
        entry, _ = up(environment)
        assert entry.port == 81
    finally:
        environment.down()
    assert not cluster.list(Kind("apps/v1", "Deployment"))


def test_an_unreachable_cluster_is_told_before_anything_else(place: Place) -> None:
    environment = place.environment(none())
    place.fake.fail(100, 503)
    with pytest.raises(ServiceUnavailableError, match="fake"):
        environment.up(lambda _: None)
    place.fake.failures.clear()
    environment.down()
