"""What is kept of an environment in a cluster: objects as applied, pods as they ran, the ends of their logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from adapters.contract import Artefact
from adapters.fixed_reply import VERSION
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Manifest
from adapters.kubernetes.counting.components import COLLECTOR
from adapters.kubernetes.environments.application import APP, FIXED_REPLY_IMAGE, LOAD
from adapters.kubernetes.environments.load_jobs import POD
from adapters.kubernetes.environments.pods import containers_of, images_of, is_running, name_of, nodes_of
from adapters.kubernetes.mesh import KubernetesMesh
from meshgauge.errors import MeshgaugeError
from meshgauge.matrix import EnvironmentKey

_LOG_LINES: Final = 200
_PODS_KEPT: Final = 4  # of each component: the others are made alike
_SECRET_KINDS: Final = frozenset({"Secret"})
SHARED_NODE: Final = (
    "load and application shared a node: what one of them took, the other did without; give app_nodes and load_nodes"
)

SHARED_WITH_COLLECTOR: Final = (
    "the trace collector shared a node with application or load: component trace_collector tells what CPU it took "
    "there; a node without their labels would take it"
)


def text(name: str, content: str) -> Artefact:
    """Return a file of plain text."""
    return Artefact(name, "text/plain", content.encode())


def document(name: str, content: Mapping[str, Any]) -> Artefact:
    """Return a file of one YAML document."""
    return Artefact(name, "application/yaml", yaml.safe_dump(dict(content), sort_keys=False).encode())


def documents(name: str, objects: Iterable[Manifest]) -> Artefact:
    """Return a file of YAML documents, without Secrets."""
    shown = [one for one in objects if one["kind"] not in _SECRET_KINDS]
    return Artefact(name, "application/yaml", yaml.safe_dump_all(shown, sort_keys=False).encode())


def pods(cluster: Cluster, namespace: str) -> list[Artefact]:
    """Return the pods of application and load as they were injected, and the ends of their containers' logs."""
    found = []
    for component in (APP, LOAD):
        for pod in cluster.list(POD, namespace, f"{LABEL_COMPONENT}={component}")[:_PODS_KEPT]:
            found.append(document(f"pods/{name_of(pod)}.yaml", _shown(pod)))
            found += [_log(cluster, pod, container) for container in sorted(containers_of(pod))]
    return found


def _shown(pod: Manifest) -> dict[str, Any]:
    metadata = {name: value for name, value in pod["metadata"].items() if name != "managedFields"}
    return {**pod, "metadata": metadata}


def _log(cluster: Cluster, pod: Manifest, container: str) -> Artefact:
    where = pod["metadata"]
    path = f"/api/v1/namespaces/{where['namespace']}/pods/{where['name']}/log"
    try:
        end = cluster.text(f"{path}?container={container}&tailLines={_LOG_LINES}")
    except MeshgaugeError as error:  # a container that never started has none
        end = f"the log could not be read: {error}"
    return text(f"logs/{where['name']}/{container}.log", end)


def provenance(cluster: Cluster, namespace: str, key: EnvironmentKey, mesh: KubernetesMesh | None) -> dict[str, Any]:
    """Return application, images with digests, features in play, and what to know of where it ran."""
    found: dict[str, Any] = {"app": _app(key), "hops": _hops(key, mesh), "warnings": []}
    try:
        running = [pod for pod in cluster.list(POD, namespace) if is_running(pod)]
    except MeshgaugeError as error:
        return found | {"pods_missing": str(error)}
    found["images"] = images_of(running)
    app, load, collector = (nodes_of(_of(running, component)) for component in (APP, LOAD, COLLECTOR))
    if app & load:
        found["warnings"].append(SHARED_NODE)
    if collector & (app | load):
        found["warnings"].append(SHARED_WITH_COLLECTOR)
    return found


def _of(running: Iterable[Manifest], component: str) -> list[Manifest]:
    return [pod for pod in running if pod["metadata"]["labels"].get(LABEL_COMPONENT) == component]


def _app(key: EnvironmentKey) -> dict[str, Any]:
    deployment = key.workload.deployment
    if deployment is None:
        threads = key.infrastructure.size.app_threads
        return {"app": "fixed-reply", "binary": f"nginx {VERSION}", "image": FIXED_REPLY_IMAGE, "threads": threads}
    given = deployment.model_dump(mode="json", exclude_none=True, exclude={"env"})
    return {"app": key.workload.label, **given}


def _hops(key: EnvironmentKey, mesh: KubernetesMesh | None) -> dict[str, Any]:
    if mesh is None:
        return {}
    return {
        hop.role: {
            "adapter": hop.adapter,
            "version_ordered": hop.version,
            "features": dict(mesh.features(key.profile, hop.role)),
        }
        for hop in key.mesh.hops
    }
