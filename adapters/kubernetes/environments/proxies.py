"""Reads what the proxies of an environment counted, through the API server."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from adapters.contract import Check
from adapters.kubernetes.api import Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.environments.load_jobs import POD
from adapters.kubernetes.environments.pods import is_running, name_of, nodes_of
from adapters.kubernetes.environments.workload import APP_PODS, LOAD_PODS
from adapters.kubernetes.mesh import Containers, KubernetesMesh, MeshOrder, MetricsEndpoint, Passage
from meshgauge.errors import MeshgaugeError
from meshgauge.matrix import Role

_SERVICE: Final = Kind("v1", "Service")
_AT_ONCE: Final = 8
_READ_S: Final = 10.0
_SIDES: Final = {"server": APP_PODS, "client": LOAD_PODS}


class Proxies:
    """The data plane of one environment, as its metrics tell it.

    Attributes:
        problems: a failed check for each proxy that could not be read.
    """

    def __init__(self, cluster: Cluster, mesh: KubernetesMesh, order: MeshOrder) -> None:
        self._cluster = cluster
        self._mesh = mesh
        self._order = order
        self.problems: list[Check] = []

    def passages(self) -> dict[Role, dict[str, Passage]]:
        """Return what each proxy counted so far, by role and pod; roles whose proxies tell nothing are left out."""
        found: dict[Role, dict[str, Passage]] = {}
        for group in self._mesh.containers(self._order):
            endpoint = self._mesh.metrics(group.role) if group.role is not None else None
            if group.role is not None and endpoint is not None:
                found.setdefault(group.role, {}).update(self._read(group, group.role, endpoint))
        return found

    def _read(self, group: Containers, role: Role, endpoint: MetricsEndpoint) -> dict[str, Passage]:
        pods = self._pods(group, role)
        with ThreadPoolExecutor(_AT_ONCE, "proxy-metrics") as pool:
            read = list(pool.map(lambda pod: self._passage(pod, role, endpoint), pods))
        return {name_of(pod): passage for pod, passage in zip(pods, read, strict=True)}

    def _passage(self, pod: Manifest, role: Role, endpoint: MetricsEndpoint) -> Passage:
        where = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{name_of(pod)}:{endpoint.port}/proxy"
        try:
            text = self._cluster.text(f"{where}{endpoint.path}", _READ_S)
        except MeshgaugeError as error:
            # The trial is not lost for it: it is measured, and the check says that nobody knows what passed here.
            self.problems.append(Check(f"data_plane/{role}: metrics", False, f"of {name_of(pod)}", str(error)))
            return Passage()
        return self._mesh.passage(text, role, self._order)

    def _pods(self, group: Containers, role: Role) -> Sequence[Manifest]:
        own = self._order.namespace
        namespace = group.namespace or own
        labels = group.labels or (self._side(role) if namespace == own else "")
        pods = [pod for pod in self._cluster.list(POD, namespace, labels or None) if is_running(pod)]
        if namespace == own:
            return pods
        # A data plane of the nodes: on those in play alone.
        in_play = nodes_of(
            [pod for side in _SIDES.values() for pod in self._cluster.list(POD, own, side) if is_running(pod)]
        )
        return [pod for pod in pods if nodes_of([pod]) & in_play]

    def _side(self, role: Role) -> str:
        """Return the selector of the pods of a role: of the application, those behind the Service load is sent to.

        Its other pods pass what the application's parts say to each other, which nobody counted when it was sent.
        """
        if role == "server":
            service = self._cluster.get(ObjectRef(_SERVICE, self._order.namespace, self._order.app))
            selector = ((service or {}).get("spec") or {}).get("selector") or {}
            if selector:
                return ",".join(f"{name}={value}" for name, value in selector.items())
        return _SIDES.get(role, "")
