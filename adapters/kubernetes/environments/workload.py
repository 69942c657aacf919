"""Brings the application of an environment into its namespace, and load and probes beside it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from adapters.contract import Check, Endpoint
from adapters.kubernetes.api import LABEL_COMPONENT, Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.environments import application, load_jobs
from adapters.kubernetes.environments.application import APP, LOAD, AppOrder
from adapters.kubernetes.environments.load_jobs import OwnPods
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, HelmBackend
from adapters.kubernetes.mesh import Enrolment, Rollout
from adapters.kubernetes.server.waiting import wait_gone, wait_pods, wait_ready
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError
from meshgauge.workloads import ChartChoice

OnLine = Callable[[str], None]

APP_PODS: Final = f"{LABEL_COMPONENT}={APP}"
LOAD_PODS: Final = f"{LABEL_COMPONENT}={LOAD}"
_SERVICE: Final = Kind("v1", "Service")
_NAMESPACE: Final = Kind("v1", "Namespace")
_MANIFESTS_BYTES: Final = 8 << 20
_FETCH_S: Final = 30.0
_PULL_S: Final = 600.0  # an image of some 500 MB onto a fresh node
_GONE_S: Final = 60.0
_PROBE_S: Final = 120.0


def documents_of(
    order: AppOrder, helm: HelmBackend, kube_version: str, fetch: Callable[[str], str] | None = None
) -> list[Manifest]:
    """Return the objects of a user's manifests or chart, as they were written, without those to be left out.

    Raises:
        ConfigurationError: they cannot be read, are no objects, or have none of those to be left out.
        ServiceUnavailableError: their repository is away.
    """
    deployment = order.key.workload.deployment
    if deployment is None or (deployment.manifests is None and deployment.chart is None):
        return []
    if deployment.chart is not None:
        found = list(helm.render(_release(deployment.chart, order.namespace), kube_version))
    else:
        texts = [(where, (fetch or _text)(where)) for where in deployment.manifests or ()]
        asked = {old: new.replace("{namespace}", order.namespace) for old, new in deployment.replace.items()}
        found = [one for where, text in replaced(texts, asked) for one in parse_documents(text, where)]
    return without(found, deployment.leave_out)


def replaced(texts: Sequence[tuple[str, str]], asked: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (where, text) with every text of ``asked`` replaced.

    Raises:
        ConfigurationError: one of them stands in none of the texts.
    """
    for old in asked:
        if not any(old in text for _, text in texts):
            raise ConfigurationError(f"replace: {old!r} stands in none of {', '.join(where for where, _ in texts)}")
    done = []
    for where, text in texts:
        for old, new in asked.items():
            text = text.replace(old, new)  # noqa: PLW2901 - one after the other
        done.append((where, text))
    return done


def without(documents: Sequence[Manifest], patterns: Sequence[str]) -> list[Manifest]:
    """Return the objects whose ``Kind/name`` fits none of ``patterns``.

    Raises:
        ConfigurationError: a pattern fits none of them: it would leave nothing out.
    """
    names = [f"{one['kind']}/{_name(one)}" for one in documents]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigurationError(f"leave_out: {pattern!r} fits no object; there are: {', '.join(sorted(names))}")
    kept = zip(documents, names, strict=True)
    return [one for one, name in kept if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def parse_documents(text: str, where: str) -> list[Manifest]:
    """Return the objects in a text of YAML documents, lists taken apart.

    Raises:
        ConfigurationError: it is no YAML, or one of them is no object.
    """
    try:
        documents = [one for one in yaml.safe_load_all(text) if one]
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is no YAML: {error}") from error
    found: list[Manifest] = []
    for document in documents:
        is_list = isinstance(document, dict) and str(document.get("kind", "")).endswith("List")
        found += document.get("items") or () if is_list else [document]
    for number, one in enumerate(found, 1):
        if not isinstance(one, dict) or not one.get("apiVersion") or not one.get("kind") or not _name(one):
            raise ConfigurationError(f"{where}: document {number} is no object with apiVersion, kind and metadata.name")
    if not found:
        raise ConfigurationError(f"{where} holds no objects")
    return found


def _name(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""


def _release(chart: ChartChoice, namespace: str) -> ChartRelease:
    return ChartRelease(
        APP, namespace, ChartSource(chart.chart, chart.repository or ""), chart.version or "", chart.values
    )


def _text(where: str) -> str:
    if where.startswith("https://"):
        return _fetched(where)
    path = Path(where)
    if not path.is_file():
        raise ConfigurationError(f"manifests {where}: no such file on this worker, and no https:// address")
    if path.stat().st_size > _MANIFESTS_BYTES:
        raise ConfigurationError(f"manifests {where}: larger than {_MANIFESTS_BYTES >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _fetched(address: str) -> str:
    content = b""
    try:
        with httpx.stream("GET", address, timeout=_FETCH_S, follow_redirects=True) as reply:
            reply.raise_for_status()
            for part in reply.iter_bytes():
                content += part
                if len(content) > _MANIFESTS_BYTES:
                    raise ConfigurationError(f"manifests {address}: larger than {_MANIFESTS_BYTES >> 20} MiB")
    except httpx.HTTPStatusError as error:
        raise ConfigurationError(f"manifests {address}: the server says {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise ServiceUnavailableError(f"manifests {address} cannot be had now: {error}") from error
    return content.decode()


class ClusterWorkload:
    """Application, load workers and probes of one environment."""

    def __init__(self, cluster: Cluster, helm: HelmBackend, order: AppOrder, image: str, on_line: OnLine) -> None:
        self._cluster = cluster
        self._order = order
        self._helm = helm
        self._on_line = on_line
        self._pods = OwnPods(image, order.namespace, order.labels, order.key.infrastructure.in_cluster)
        self._objects: list[Manifest] = []
        self._job: ObjectRef | None = None

    @property
    def objects(self) -> Sequence[Manifest]:
        """The application's objects as they were applied."""
        return self._objects

    @property
    def own_containers(self) -> frozenset[str]:
        """Names of the application's own containers, as its objects declare them."""
        return application.container_names(self._objects)

    def deploy(self) -> None:
        """Apply the application's objects, and the Service that stands for the load."""
        documents = documents_of(self._order, self._helm, self._cluster.version())
        if documents:
            # By group and name: what is not the preferred version of a kind is served all the same.
            scopes = {(one.kind.group, one.kind.name): one.is_namespaced for one in self._cluster.kinds()}
            self._objects = application.users_objects(
                self._order, documents, lambda kind: scopes.get((kind.group, kind.name))
            )
        else:
            self._objects = application.own_objects(self._order)
        self._on_line(f"applying {self._order.key.workload.label}: {len(self._objects)} objects")
        for manifest in [*self._objects, load_jobs.load_service(self._pods)]:
            self._cluster.apply(manifest)

    def wait(self) -> None:
        """Wait until every copy of the application is ready.

        Raises:
            EnvironmentUpError: it does not come up: says why, as far as its pods tell.
        """
        wanted = [
            Rollout(ref.kind.name, ref.namespace, ref.name)  # type: ignore[arg-type]  # rollouts_in gives these kinds
            for ref in application.rollouts_in(self._objects)
        ]
        wait_ready(self._cluster, wanted, _PULL_S + self._order.key.workload.spec.health_timeout_s, self._on_line)

    def endpoint(self) -> Endpoint:
        """Return where load is sent.

        Raises:
            ConfigurationError: the Service has no address of its own, so that no mesh could stand behind it.
        """
        name, port = application.service_of(self._order.key)
        service = self._cluster.get(ObjectRef(_SERVICE, self._order.namespace, name))
        address = ((service or {}).get("spec") or {}).get("clusterIP") or "None"
        if address == "None":
            raise ConfigurationError(
                f"Service {name} has no cluster IP: name one in the plan's deployment that has (not headless)"
            )
        host = self._order.enrolment.app_host
        return Endpoint(host or address, port, host or f"{name}.{self._order.namespace}.svc")

    def start_load(
        self, enrolment: Enrolment, trial_id: str, master: str, count: int, near: Sequence[str] = ()
    ) -> None:
        """Start a trial's load workers, on the nodes ``near`` if they can, after those of the trial before have gone.

        Raises:
            EnvironmentUpError: one of them does not come up.
        """
        self.end_load()
        job = load_jobs.load_job(self._pods, enrolment, trial_id, master, count, near)
        self._job = ObjectRef.of(job)
        self._cluster.apply(job)
        wait_pods(self._cluster, self._order.namespace, f"job-name={self._job.name}", count, _PULL_S, self._on_line)

    def end_load(self) -> None:
        """End the load workers of the last trial, sidecars that outlived them included."""
        if self._job is not None:
            self._cluster.delete(self._job)
            left = self._cluster.list(load_jobs.POD, self._order.namespace, f"job-name={self._job.name}")
            wait_gone(self._cluster, [self._job, *map(ObjectRef.of, left)], _GONE_S)
            self._job = None

    def probe_from_outside(self, *, may_answer: bool) -> Check:
        """Send one request from a pod outside the mesh, in a namespace of its own, and say whether it was let in.

        Raises:
            EnvironmentUpError: the probe does not come up.
        """
        outside = replace(self._pods, namespace=f"{self._order.namespace}-outside")
        where = ObjectRef(_NAMESPACE, "", outside.namespace)
        metadata = {"name": outside.namespace, "labels": dict(self._order.labels)}
        self._cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        spec = self._order.key.workload.spec
        method = self._order.enrolment.probe_method
        job = load_jobs.probe_job(outside, self.endpoint(), spec.health_path, spec.expected_status, method)
        self._cluster.apply(job)
        code, said = self._probe_result(ObjectRef.of(job))
        self._cluster.delete(where)
        expected = "answered" if may_answer else "refused"
        seen = {load_jobs.ANSWERED: "answered", load_jobs.REFUSED: "refused"}.get(code, f"the probe ended with {code}")
        return Check(
            "plaintext from outside the mesh", seen == expected, expected, f"{seen} ({said})" if said else seen
        )

    def _probe_result(self, job: ObjectRef) -> tuple[int, str]:
        selector = f"job-name={job.name}"
        for event in self._cluster.watch(load_jobs.POD, job.namespace, _PROBE_S, labels=selector):
            ended = load_jobs.finished(event.object, load_jobs.PROBE)
            if ended is not None:
                return ended.code, ended.said
        raise EnvironmentUpError(f"the probe in namespace {job.namespace} did not end within {_PROBE_S:.0f} s")
