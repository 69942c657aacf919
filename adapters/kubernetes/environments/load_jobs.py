"""The pods Meshgauge itself runs in a cluster: load workers of a trial, and probes from outside the mesh. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.contract import Endpoint
from adapters.kubernetes.api import LABEL_COMPONENT, Kind, Manifest
from adapters.kubernetes.environments.application import APP, LOAD, placed, restricted
from adapters.kubernetes.mesh import Enrolment
from meshgauge.infrastructures import Cluster

JOB: Final = Kind("batch/v1", "Job")
POD: Final = Kind("v1", "Pod")
PROBE: Final = "probe"
LOAD_PORT: Final = 8080  # nobody listens there: a Service has to have a port
_USER: Final = 65_532  # any but root; the image of deploy/ runs as this one
MEMORY_REQUEST: Final = "256Mi"  # a load worker takes 90 MiB; histograms of long windows come on top
_GRACE_S: Final = 2
_LINGER_S: Final = 600  # after a trial; whoever was cut off in between leaves no pod that runs for good

# What a probe's container exits with. Anything else means that the probe itself went wrong.
ANSWERED: Final = 0
REFUSED: Final = 3

# One request without any mesh: the expected reply means that plaintext was let in, and so does an application that
# does not know the method; any other (Linkerd answers 403), or a connection that is reset, closed or ignored, means
# that it was not.
_PROBE: Final = f"""\
import http.client, sys
host, port, method, path, expected = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
connection = http.client.HTTPConnection(host, port, timeout=10)
try:
    connection.request(method, path)
    status = connection.getresponse().status
    print("status", status)
    sys.exit({ANSWERED} if status in (expected, 405, 501) else {REFUSED})
except (OSError, http.client.HTTPException) as error:
    print(f"{{type(error).__name__}}: {{error}}")
    sys.exit({REFUSED})
"""


@dataclass(frozen=True, slots=True)
class OwnPods:
    """What all pods of ours in one environment have in common.

    Attributes:
        image: that ``deploy/`` builds: it carries the load worker.
        labels: of everything made.
    """

    image: str
    namespace: str
    labels: Mapping[str, str]
    cluster: Cluster


def load_job(
    pods: OwnPods, enrolment: Enrolment, trial_id: str, master: str, count: int, near: Sequence[str] = ()
) -> Manifest:
    """Return the load workers of one trial: ``count`` pods, one try each, in the mesh as ``enrolment`` says.

    The conductor ends their work. Their pods stay until the Job is deleted, when the next one is made or with the
    environment: a native sidecar ends with its pod's work, and takes along what it counted before anybody has read it.
    """
    name = f"{LOAD}-{hashlib.sha256(trial_id.encode()).hexdigest()[:10]}"
    container = {
        **own_container(
            pods, LOAD, ["python", "-m", "workers.load.worker", "--master", master, "--linger-s", str(_LINGER_S)]
        ),
        "resources": {"requests": {"cpu": f"{round(pods.cluster.load_cpu_cores * 1000)}m", "memory": MEMORY_REQUEST}},
    }
    pod = own_pod(container, token=enrolment.service_account_token)
    placed(pod, pods.cluster.load_nodes, pods.namespace, away_from=APP, together=LOAD, near=near)
    job = _job(pods, name, LOAD, pod, count)
    described = job["spec"]["template"]["metadata"]
    described["labels"] |= enrolment.load_labels
    described["annotations"] = dict(enrolment.load_annotations)
    return job


def load_service(pods: OwnPods) -> Manifest:
    """Return the Service that stands for the load generator: some meshes know workloads by their Service alone."""
    labels = {**pods.labels, LABEL_COMPONENT: LOAD}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": LOAD, "namespace": pods.namespace, "labels": labels},
        "spec": {
            "selector": {LABEL_COMPONENT: LOAD},
            "ports": [{"name": "http-load", "port": LOAD_PORT, "targetPort": LOAD_PORT, "appProtocol": "http"}],
        },
    }


def probe_job(pods: OwnPods, target: Endpoint, path: str, expected_status: int, method: str = "GET") -> Manifest:
    """Return a Job that sends one request without a mesh, to be made in a namespace that is not enrolled."""
    arguments = [target.host, str(target.port), method, path, str(expected_status)]
    container = own_container(pods, PROBE, ["python", "-c", _PROBE, *arguments])
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"  # what it said stands in the pod's status
    return _job(pods, PROBE, PROBE, own_pod(container, token=False), 1)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container ended: its exit code, and what it said last when that was not 0."""

    code: int
    said: str


def finished(pod: Mapping[str, Any], container: str) -> Ended | None:
    """Return how ``container`` of ``pod`` ended, or None while it has not."""
    statuses: Sequence[Mapping[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or ()
    for status in statuses:
        ended = (status.get("state") or {}).get("terminated")
        if status["name"] == container and ended:
            return Ended(int(ended["exitCode"]), str(ended.get("message") or "").strip())
    return None


def own_container(pods: OwnPods, name: str, command: Sequence[str]) -> dict[str, Any]:
    """Return a container of our own image that meets Kubernetes' restricted profile and may write to /tmp alone."""
    return {
        "name": name,
        "image": pods.image,
        "command": list(command),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - of the container, an emptyDir
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
        "securityContext": restricted() | {"runAsUser": _USER, "runAsGroup": _USER},
    }


def own_pod(container: dict[str, Any], *, token: bool) -> dict[str, Any]:
    """Return a pod of that one container, tried once.

    Args:
        token: whether it gets its ServiceAccount's, which some meshes know pods by.
    """
    return {
        "containers": [container],
        "restartPolicy": "Never",
        "automountServiceAccountToken": token,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_S,
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _job(pods: OwnPods, name: str, component: str, pod: dict[str, Any], count: int) -> Manifest:
    labels = {**pods.labels, LABEL_COMPONENT: component, "app.kubernetes.io/name": component}
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.name,
        "metadata": {"name": name, "namespace": pods.namespace, "labels": labels},
        "spec": {
            "completions": count,
            "parallelism": count,
            "backoffLimit": 0,
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }
