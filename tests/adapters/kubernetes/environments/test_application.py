"""The application's objects: what is sent to the API server for our own, for an image, and for a user's objects."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest
import yaml

from adapters.kubernetes.api import LABEL_COMPONENT, Kind, Manifest
from adapters.kubernetes.environments import application
from adapters.kubernetes.environments.application import AppOrder
from adapters.kubernetes.environments.workload import documents_of, parse_documents, replaced, without
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.mesh import Enrolment
from meshgauge.errors import ConfigurationError, UnsupportedError
from meshgauge.infrastructures import Cluster, Infrastructure, Size
from meshgauge.matrix import EnvironmentKey, MeshArm, Workload
from meshgauge.plan import BUILT_IN_PROFILES
from meshgauge.workloads import ChartChoice, DeploymentVersion
from meshgauge.workloads import Workload as Spec

LABELS = {"meshgauge.io/site": "kubernetes.1", "meshgauge.io/epoch": "3"}
ENROLMENT = Enrolment(
    app_labels={"mesh/in": "true"}, app_annotations={"mesh/threads": "1"}, app_service_protocol="http"
)
CLUSTER_WIDE = {"ClusterRole", "Namespace"}

USERS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop, labels: {app: front}}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      nodeSelector: {disk: fast}
      initContainers: [{name: cache, image: c, restartPolicy: Always}, {name: once, image: o}]
      containers: [{name: front, image: f}]
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Service, metadata: {name: front, namespace: shop}, spec: {ports: [{port: 80}]}}
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: {name: front}
    roleRef: {kind: Role, name: front}
    subjects: [{kind: ServiceAccount, name: front, namespace: shop}]
"""


def order(spec: Spec | None = None, deployment: DeploymentVersion | None = None, **cluster: Any) -> AppOrder:
    spec = spec or Spec(name="small", app="fixed-reply", reply_bytes=64)
    size = cluster.pop("size", Size(replicas=3, app_threads=2, app_cpu_cores=1.5, app_memory_bytes=64 << 20))
    infrastructure = Infrastructure(name="k", provider="kubernetes", size=size, cluster=Cluster(**cluster))
    key = EnvironmentKey(
        MeshArm("none", "pair", ()), BUILT_IN_PROFILES["plain"], Workload("w", spec, None, deployment), infrastructure
    )
    return AppOrder(key, "bench", LABELS, ENROLMENT, connections=16)


def deployed(version: DeploymentVersion, **cluster: Any) -> AppOrder:
    return order(Spec(name="own", deployments=(version,)), version, **cluster)


def scope(kind: Kind) -> bool | None:
    return None if kind.name == "Unknown" else kind.name not in CLUSTER_WIDE


def users(text: str = USERS, **cluster: Any) -> list[dict[str, Any]]:
    version = DeploymentVersion(version="1", manifests=("x.yaml",), service="front", port=80)
    return application.users_objects(deployed(version, **cluster), parse_documents(text, "x.yaml"), scope)


def by_kind(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in objects}


def test_our_own_application_is_nginx_with_the_local_providers_configuration() -> None:
    made = by_kind(application.own_objects(order()))
    assert set(made) == {"ConfigMap", "Deployment", "Service"}
    text = made["ConfigMap"]["data"]["nginx.conf"]
    assert f'return 200 "{"x" * 64}"' in text
    assert "worker_processes 2;" in text
    assert "listen 0.0.0.0:8080" in text
    pod = made["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == application.FIXED_REPLY_IMAGE
    assert container["resources"] == {
        "requests": {"cpu": "1500m", "memory": str(64 << 20)},
        "limits": {"cpu": "1500m", "memory": str(64 << 20)},
    }
    assert made["Deployment"]["spec"]["replicas"] == 3
    assert pod["automountServiceAccountToken"] is False


def test_every_object_lies_in_our_namespace_with_our_labels() -> None:
    for one in [*application.own_objects(order()), *users()]:
        assert one["metadata"]["namespace"] == "bench"
        assert LABELS.items() <= one["metadata"]["labels"].items()


def test_the_selector_of_the_service_and_of_the_deployment_choose_the_pods() -> None:
    made = by_kind(application.own_objects(order()))
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert made["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert made["Service"]["spec"]["selector"].items() <= labels.items()
    (port,) = made["Service"]["spec"]["ports"]
    assert (port["name"], port["port"], port["appProtocol"]) == ("http-app", 8080, "http")


def test_the_container_meets_the_restricted_profile() -> None:
    (container,) = by_kind(application.own_objects(order()))["Deployment"]["spec"]["template"]["spec"]["containers"]
    context = container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] != 0
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["readOnlyRootFilesystem"] is True


def test_a_large_reply_is_made_where_the_pod_starts() -> None:
    made = by_kind(application.own_objects(order(Spec(name="big", app="fixed-reply", reply_bytes=1 << 20))))
    assert len(yaml.safe_dump(made["ConfigMap"])) < 10_000
    (container,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert "head -c 1048576 /dev/zero" in container["command"][2]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/etc/meshgauge", "/state"}


def test_our_own_application_refuses_a_status_it_does_not_give() -> None:
    with pytest.raises(UnsupportedError, match="answers 200, not 404"):
        application.own_objects(order(Spec(name="s", app="fixed-reply", reply_bytes=1, expected_status=404)))


def test_pods_are_enrolled_and_keep_to_their_nodes() -> None:
    template = by_kind(application.own_objects(order(app_nodes={"role": "app"})))["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"]["mesh/in"] == "true"
    assert template["metadata"]["annotations"] == {"mesh/threads": "1"}
    assert template["spec"]["nodeSelector"] == {"role": "app"}
    (avoid, spread) = template["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert avoid["podAffinityTerm"]["labelSelector"]["matchLabels"] == {LABEL_COMPONENT: "load"}
    assert spread["podAffinityTerm"]["labelSelector"]["matchLabels"] == {LABEL_COMPONENT: "app"}


def test_pods_go_where_those_went_that_they_are_compared_with() -> None:
    def wanted(made: list[Manifest]) -> Any:
        affinity = by_kind(made)["Deployment"]["spec"]["template"]["spec"]["affinity"]
        terms = affinity.get("nodeAffinity", {}).get("preferredDuringSchedulingIgnoredDuringExecution", [])
        return [term["preference"]["matchFields"] for term in terms]

    near = [[{"key": "metadata.name", "operator": "In", "values": [node]}] for node in ("n1", "n2")]
    assert wanted(application.own_objects(dataclasses.replace(order(), near=("n2", "n1")))) == near
    assert wanted(application.own_objects(order())) == []


def test_a_mesh_that_needs_the_pods_token_gets_it() -> None:
    with_token = dataclasses.replace(order(), enrolment=Enrolment(service_account_token=True))
    pod = by_kind(application.own_objects(with_token))["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True


def test_an_image_gets_its_version_arguments_and_registry() -> None:
    version = DeploymentVersion(
        version="1.2", image="ghcr.io/me/app:{version}", args=("--port={port}",), env={"LEVEL": "1"}, port=9000
    )
    made = by_kind(application.own_objects(deployed(version, images="mirror.example:5000")))
    (container,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mirror.example:5000/me/app:1.2"
    assert container["args"] == ["--port=9000"]
    assert container["env"] == [{"name": "LEVEL", "value": "1"}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/", "port": 9000}
    assert made["Service"]["spec"]["ports"][0]["port"] == 9000


def test_an_image_that_asks_for_reply_bytes_the_plan_does_not_give_is_refused() -> None:
    version = DeploymentVersion(version="1", image="app", args=("--size={reply_bytes}",))
    with pytest.raises(ConfigurationError, match="give reply_bytes"):
        application.own_objects(deployed(version))


def test_a_users_objects_move_into_our_namespace_and_their_pods_are_enrolled() -> None:
    made = by_kind(users(app_nodes={"role": "app"}))
    assert set(made) == {"Deployment", "Service", "RoleBinding"}  # its own Namespace is left out
    template = made["Deployment"]["spec"]["template"]
    assert template["metadata"]["labels"] == {
        "app": "front", "mesh/in": "true", LABEL_COMPONENT: "app", **LABELS,
    }  # fmt: skip
    assert template["spec"]["nodeSelector"] == {"disk": "fast", "role": "app"}
    assert made["RoleBinding"]["subjects"][0]["namespace"] == "bench"
    assert made["Service"]["spec"]["ports"] == [{"port": 80, "appProtocol": "http"}]


def test_containers_that_last_are_known_by_name() -> None:
    assert application.container_names(users()) == {"front", "cache"}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{apiVersion: v1, kind: ClusterRole, metadata: {name: all}}", "ClusterRole all belongs to the whole cluster"),
        ("{apiVersion: x/v1, kind: Unknown, metadata: {name: a}}", "the cluster serves no Unknown"),
        ("{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}}", "change the size"),
        ("{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {}}", "no Service front; there are: other"),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: front}, spec: {ports: [{port: 81}]}}",
            "has no port 80",
        ),
    ],
)
def test_a_users_objects_stay_within_bounds(document: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        users(document)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a: [", "no YAML"), ("", "holds no objects"), ("kind: Pod", "document 1 is no object"), ("- a", "document 1")],
)
def test_what_is_no_manifest_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        parse_documents(text, "own.yaml")


def test_tests_of_a_chart_are_left_out() -> None:
    hook = "{apiVersion: v1, kind: Pod, metadata: {name: t, annotations: {helm.sh/hook: test}}, spec: {containers: []}}"
    assert "Pod" not in by_kind(users(f"{USERS}\n---\n{hook}"))


def test_the_service_of_a_chart_is_the_one_the_plan_names() -> None:
    chart = ChartChoice(chart="./app")
    version = DeploymentVersion(version="1", chart=chart, service="web", port=80)
    assert application.service_of(deployed(version).key) == ("web", 80)
    assert application.service_of(order().key) == ("app", 8080)


OBJECTS: list[Manifest] = [
    {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    for kind, name in (("Service", "front"), ("Service", "load"), ("ServiceAccount", "load"))
]


def test_objects_are_left_out_by_kind_and_name() -> None:
    assert without(OBJECTS, ()) == OBJECTS
    assert without(OBJECTS, ("*/load",)) == OBJECTS[:1]
    assert without(OBJECTS, ("Service/load",)) == [OBJECTS[0], OBJECTS[2]]


def test_what_is_not_there_cannot_be_left_out() -> None:
    with pytest.raises(ConfigurationError, match=r"'Deployment/load' fits no object; there are: Service/front"):
        without(OBJECTS, ("Deployment/load",))


def test_texts_are_replaced_in_every_file_and_must_stand_in_one() -> None:
    texts = [("a.yaml", "host: web.shop:80"), ("b.yaml", "host: db.shop:5432")]
    assert replaced(texts, {".shop:": ".bench:"}) == [
        ("a.yaml", "host: web.bench:80"),
        ("b.yaml", "host: db.bench:5432"),
    ]
    with pytest.raises(ConfigurationError, match=r"'shoop' stands in none of a\.yaml, b\.yaml"):
        replaced(texts, {"shoop": "x"})


def test_manifests_come_from_several_places_into_the_environments_own_namespace() -> None:
    files = {
        name: yaml.safe_dump(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"at": "x.shop"}}
        )
        for name in ("https://a/web.yml", "https://a/db.yml")
    }
    version = DeploymentVersion(
        version="1", manifests=tuple(files), replace={".shop": ".{namespace}"}, service="web", leave_out=("*/*db.yml",)
    )
    (kept,) = documents_of(deployed(version), cast(HelmBackend, None), "1.34.0", files.__getitem__)
    assert kept["metadata"]["name"] == "https://a/web.yml"
    assert kept["spec"]["at"] == f"x.{deployed(version).namespace}"
