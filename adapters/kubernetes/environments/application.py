"""The application of an environment as objects of a cluster: our own, a user's image, or a user's objects. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.fixed_reply import VERSION, FixedReply
from adapters.kubernetes.api import LABEL_COMPONENT, Kind, Manifest, ObjectRef
from adapters.kubernetes.counting.components import lasting_containers
from adapters.kubernetes.helm.images import with_registry
from adapters.kubernetes.mesh import Enrolment
from meshgauge.errors import ConfigurationError, UnsupportedError
from meshgauge.matrix import EnvironmentKey
from meshgauge.workloads import DeploymentVersion

APP: Final = "app"
LOAD: Final = "load"
FIXED_REPLY_PORT: Final = 8080
FIXED_REPLY_IMAGE: Final = f"docker.io/library/nginx:{VERSION}"
_NGINX_USER: Final = 101  # of that image. Source: docker-nginx, Dockerfile-debian.template, "adduser --uid 101"
_CONFIGURATION: Final = "/etc/meshgauge"
_STATE: Final = "/state"
_START_PERIOD_S: Final = 1
_PROBE_PERIOD_S: Final = 10  # while it is measured: each probe is a request more
_GRACE_S: Final = 5  # nothing of value is lost when an application under test ends
_HOOK: Final = "helm.sh/hook"
PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

# Workloads by the path of their pod template.
_TEMPLATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}


@dataclass(frozen=True, slots=True)
class AppOrder:
    """The application as it is to stand in one namespace.

    Attributes:
        labels: of everything made.
        connections: the most the load opens.
        near: nodes its pods are to stand on, where there is room.
    """

    key: EnvironmentKey
    namespace: str
    labels: Mapping[str, str]
    enrolment: Enrolment
    connections: int
    near: Sequence[str] = ()

    def metadata(self, name: str) -> dict[str, Any]:
        """Return the metadata of an object of the application."""
        labels = {**self.labels, LABEL_COMPONENT: APP, "app.kubernetes.io/name": name}
        return {"name": name, "namespace": self.namespace, "labels": labels}


def service_of(key: EnvironmentKey) -> tuple[str, int]:
    """Return name and port of the Service that load is sent to."""
    deployment = key.workload.deployment
    if deployment is None:
        return APP, FIXED_REPLY_PORT
    return deployment.service or APP, deployment.port


def own_objects(order: AppOrder) -> list[Manifest]:
    """Return the objects of the built-in application, or of a user's image.

    Raises:
        UnsupportedError: the workload asks for what the built-in application does not do.
        ConfigurationError: the image's arguments ask for ``{reply_bytes}``, which the plan does not give.
    """
    deployment = order.key.workload.deployment
    if deployment is None:
        return [_reply_file(order), _deployment(order, _reply_pod(order)), _service(order)]
    return [_deployment(order, _image_pod(order, deployment)), _service(order)]


def users_objects(
    order: AppOrder, documents: Iterable[Manifest], is_namespaced: Callable[[Kind], bool | None]
) -> list[Manifest]:
    """Return a user's objects moved into the environment's namespace, labelled, their pods enrolled and placed.

    Args:
        is_namespaced: of a kind; None: the cluster does not serve it.

    Raises:
        ConfigurationError: an object would reach beyond the namespace, or change the size while it is measured.
    """
    made = [_adopted(order, document, is_namespaced) for document in documents if not _is_beside(document)]
    service, port = service_of(order.key)
    found = next((one for one in made if one["kind"] == "Service" and one["metadata"]["name"] == service), None)
    label = order.key.workload.label
    if found is None:
        there = sorted(one["metadata"]["name"] for one in made if one["kind"] == "Service")
        raise ConfigurationError(f"workload {label}: no Service {service}; there are: {', '.join(there) or 'none'}")
    ports = [one for one in found["spec"].get("ports", ()) if one["port"] == port]
    if not ports:
        raise ConfigurationError(f"workload {label}: Service {service} has no port {port}; correct the plan's port")
    ports[0].setdefault("appProtocol", order.enrolment.app_service_protocol)
    return made


def rollouts_in(objects: Sequence[Manifest]) -> list[ObjectRef]:
    """Return the workloads among ``objects`` whose rollout has to be complete before load is sent."""
    return [ObjectRef.of(one) for one in objects if one["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}]


def container_names(objects: Sequence[Manifest]) -> frozenset[str]:
    """Return the names of the containers that the pods of ``objects`` declare, native sidecars included."""
    specs = [template["spec"] for one in objects for template in _templates(one)]
    return frozenset(name for spec in specs for name in lasting_containers(spec))


def placed(
    pod: dict[str, Any],
    nodes: Mapping[str, str],
    namespace: str,
    away_from: str,
    together: str,
    near: Sequence[str] = (),
) -> None:
    """Keep the pods of ``pod`` (a pod's spec) on ``nodes``, spread over them, off the nodes of ``away_from``.

    All but ``nodes`` is preferred, not required: a cluster of one node still runs, and its results say that all shared
    a node; where there is no room ``near`` what the trial is compared with, a gate says so.

    Args:
        away_from, together: values of LABEL_COMPONENT.
    """
    if nodes:
        pod["nodeSelector"] = {**pod.get("nodeSelector", {}), **nodes}

    def term(component: str) -> dict[str, Any]:
        return {
            "labelSelector": {"matchLabels": {LABEL_COMPONENT: component}},
            "namespaces": [namespace],
            "topologyKey": "kubernetes.io/hostname",
        }

    avoid = [{"weight": 100, "podAffinityTerm": term(away_from)}, {"weight": 50, "podAffinityTerm": term(together)}]
    pod.setdefault("affinity", {}).setdefault("podAntiAffinity", {PREFERRED: avoid})
    if near:
        wanted = pod["affinity"].setdefault("nodeAffinity", {})
        wanted.setdefault(PREFERRED, []).extend({"weight": 100, "preference": _node(name)} for name in sorted(near))


def _node(name: str) -> dict[str, Any]:
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


def restricted() -> dict[str, Any]:
    """Return the security context of a container that meets Kubernetes' restricted profile.

    It belongs to the container and not to the pod: a mesh's own init containers need more.
    """
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _reply(order: AppOrder) -> FixedReply:
    spec, size = order.key.workload.spec, order.key.infrastructure.size
    if spec.expected_status != 200:
        raise UnsupportedError(f"workload {spec.name}: app fixed-reply answers 200, not {spec.expected_status}")
    listen = f"0.0.0.0:{FIXED_REPLY_PORT}"
    return FixedReply(listen, spec.reply_bytes or 0, size.app_threads, order.connections, _STATE)


def _reply_file(order: AppOrder) -> Manifest:
    data = {"nginx.conf": _reply(order).configuration()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": order.metadata(APP), "data": data}


def _reply_pod(order: AppOrder) -> dict[str, Any]:
    reply = _reply(order)
    start = f"exec nginx -p {_STATE} -c {_CONFIGURATION}/nginx.conf -e stderr"
    if reply.is_file:  # too large for a ConfigMap
        start = f"head -c {reply.reply_bytes} /dev/zero | tr '\\0' x > {_STATE}/{FixedReply.FILE} && {start}"
    container = {
        **_container(order, FIXED_REPLY_IMAGE, FIXED_REPLY_PORT),
        "command": ["sh", "-c", start],
        "volumeMounts": [
            {"name": "configuration", "mountPath": _CONFIGURATION, "readOnly": True},
            {"name": "state", "mountPath": _STATE},
        ],
    }
    container["securityContext"] |= {"runAsUser": _NGINX_USER, "runAsGroup": _NGINX_USER}
    volumes = [{"name": "configuration", "configMap": {"name": APP}}, {"name": "state", "emptyDir": {}}]
    return _pod(order, container) | {"volumes": volumes}


def _image_pod(order: AppOrder, version: DeploymentVersion) -> dict[str, Any]:
    image = (version.image or "").replace("{version}", version.version)
    container = _container(order, image, version.port)
    container["args"] = [_filled_in(order, part, version.port) for part in version.args]
    container["env"] = [{"name": name, "value": value} for name, value in version.env.items()]
    # What a user's image writes, and as whom it runs, is its own business.
    container["securityContext"] = {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}
    return _pod(order, container)


def _filled_in(order: AppOrder, part: str, port: int) -> str:
    reply_bytes = order.key.workload.spec.reply_bytes
    if reply_bytes is None and "{reply_bytes}" in part:
        raise ConfigurationError(
            f"workload {order.key.workload.label}: its arguments ask for {{reply_bytes}}: give reply_bytes"
        )
    return part.replace("{port}", str(port)).replace("{reply_bytes}", str(reply_bytes))


def _container(order: AppOrder, image: str, port: int) -> dict[str, Any]:
    spec, cluster = order.key.workload.spec, order.key.infrastructure.in_cluster
    probe = {"httpGet": {"path": spec.health_path, "port": port}}
    patience = max(1, round(spec.health_timeout_s / _START_PERIOD_S))
    return {
        "name": APP,
        "image": with_registry(image, cluster.images or ""),
        "ports": [{"name": "http", "containerPort": port}],
        "startupProbe": {**probe, "periodSeconds": _START_PERIOD_S, "failureThreshold": patience},
        "readinessProbe": {**probe, "periodSeconds": _PROBE_PERIOD_S},
        "resources": _resources(order),
        "securityContext": restricted(),
    }


def _resources(order: AppOrder) -> dict[str, Any]:
    size = order.key.infrastructure.size
    given = {
        "cpu": f"{round(size.app_cpu_cores * 1000)}m" if size.app_cpu_cores else None,
        "memory": str(size.app_memory_bytes) if size.app_memory_bytes else None,
    }
    bounds = {name: value for name, value in given.items() if value}
    return {"requests": dict(bounds), "limits": bounds} if bounds else {}


def _pod(order: AppOrder, container: dict[str, Any]) -> dict[str, Any]:
    pod = {
        "containers": [container],
        "automountServiceAccountToken": order.enrolment.service_account_token,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_S,
    }
    placed(
        pod,
        order.key.infrastructure.in_cluster.app_nodes,
        order.namespace,
        away_from=LOAD,
        together=APP,
        near=order.near,
    )
    return pod


def _deployment(order: AppOrder, pod: dict[str, Any]) -> Manifest:
    metadata = order.metadata(APP)
    selector = {"app.kubernetes.io/name": APP, LABEL_COMPONENT: APP}
    template = {"metadata": {"labels": dict(metadata["labels"])}, "spec": pod}
    _enrol(template["metadata"], order.enrolment)
    spec = {
        "replicas": order.key.infrastructure.size.replicas,
        "selector": {"matchLabels": selector},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _service(order: AppOrder) -> Manifest:
    _, port = service_of(order.key)
    protocol = order.enrolment.app_service_protocol
    spec = {
        "selector": {"app.kubernetes.io/name": APP, LABEL_COMPONENT: APP},
        "ports": [{"name": f"{protocol}-{APP}", "port": port, "targetPort": port, "appProtocol": protocol}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": order.metadata(APP), "spec": spec}


def _enrol(metadata: dict[str, Any], enrolment: Enrolment) -> None:
    metadata["labels"] = {**metadata.get("labels", {}), **enrolment.app_labels}
    metadata["annotations"] = {**metadata.get("annotations", {}), **enrolment.app_annotations}


def _is_beside(document: Manifest) -> bool:
    """Return whether the object is no part of the application: a chart's test, or a namespace we replace by ours."""
    annotations = document["metadata"].get("annotations") or {}
    return document["kind"] == "Namespace" or str(annotations.get(_HOOK, "")).startswith("test")


def _adopted(order: AppOrder, document: Manifest, is_namespaced: Callable[[Kind], bool | None]) -> Manifest:
    ref, label = ObjectRef.of(document), order.key.workload.label
    scope = is_namespaced(ref.kind)
    if scope is None:
        raise ConfigurationError(f"workload {label}: {ref}: the cluster serves no {ref.kind}")
    if not scope:
        raise ConfigurationError(
            f"workload {label}: {ref} belongs to the whole cluster; an application stays in its own namespace: "
            "install it beforehand, or leave it out"
        )
    if ref.kind.name == "HorizontalPodAutoscaler":
        raise ConfigurationError(f"workload {label}: {ref} would change the size while it is measured; leave it out")
    made = copy.deepcopy(document)
    labels = {**(made["metadata"].get("labels") or {}), **order.labels}
    made["metadata"] = {**made["metadata"], "namespace": order.namespace, "labels": labels}
    for subject in made.get("subjects") or ():
        if subject.get("kind") == "ServiceAccount":
            subject["namespace"] = order.namespace
    for template in _templates(made):
        template["metadata"] = dict(template.get("metadata") or {})
        own = {**(template["metadata"].get("labels") or {}), **order.labels, LABEL_COMPONENT: APP}
        template["metadata"]["labels"] = own
        template["metadata"]["annotations"] = dict(template["metadata"].get("annotations") or {})
        _enrol(template["metadata"], order.enrolment)
        nodes = order.key.infrastructure.in_cluster.app_nodes
        placed(template["spec"], nodes, order.namespace, away_from=LOAD, together=APP, near=order.near)
    return made


def _templates(document: Manifest) -> Iterator[dict[str, Any]]:
    path = _TEMPLATES.get(document["kind"])
    if path is None:
        return
    found: Any = document
    for key in path:
        found = found[key]
    yield found
