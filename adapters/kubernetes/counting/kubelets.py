"""Asks kubelets for counters, through the API server's node proxy, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from adapters.kubernetes.api import Cluster, Permission
from adapters.kubernetes.counting.cadvisor import CADVISOR_PATH, RESOURCE_PATH, Counted, Reading, readings
from meshgauge.errors import ServiceUnavailableError

CADVISOR: Final = "kubelet /metrics/cadvisor"
RESOURCE: Final = "kubelet /metrics/resource"
PERMISSIONS: Final = (Permission("", "nodes/proxy", ("get",)),)
_TIMEOUT_S = 5.0
_MOST_AT_ONCE = 8


class KubeletSource:
    """Counters of containers and nodes as their kubelets have them.

    ``/metrics/cadvisor`` tells user from system time, and throttling. Where it knows no container (a runtime that
    counts for itself), ``/metrics/resource`` is asked from then on: CPU in total, and memory.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="kubelet")
        self._endpoints: dict[str, str] = {}
        self.failures: list[str] = []

    def read(self, nodes: Sequence[str], namespaces: Sequence[str]) -> Mapping[Counted, Reading]:  # noqa: ARG002
        """Return the counters of these nodes and of all their containers.

        A kubelet that does not answer leaves its counters out, and a line in ``failures``.

        Raises:
            ConfigurationError, EnvironmentUpError: we may not ask kubelets, or one has no such endpoint.
        """
        found: dict[Counted, Reading] = {}
        for part in self._pool.map(self._read_or_note, nodes):
            found.update(part)
        return found

    def endpoints(self) -> Sequence[str]:
        """Return the endpoints that answered."""
        return sorted(set(self._endpoints.values()))

    def close(self) -> None:
        """End the threads. Idempotent."""
        self._pool.shutdown(cancel_futures=True)

    def _read_or_note(self, node: str) -> Mapping[Counted, Reading]:
        try:
            return self._read(node)
        except ServiceUnavailableError as error:
            self.failures.append(f"{node}: {error}")
            return {}

    def _read(self, node: str) -> Mapping[Counted, Reading]:
        endpoint = self._endpoints.get(node, CADVISOR)
        found = self._ask(node, endpoint)
        if node not in self._endpoints and not any(counted.container for counted in found):
            endpoint = RESOURCE
            found = self._ask(node, endpoint)
        self._endpoints[node] = endpoint
        return found

    def _ask(self, node: str, endpoint: str) -> Mapping[Counted, Reading]:
        path = CADVISOR_PATH if endpoint == CADVISOR else RESOURCE_PATH
        return readings(self._cluster.text(path.format(node=node), _TIMEOUT_S), node, endpoint)
