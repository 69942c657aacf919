"""What Istio's proxies say of the application's traffic: Envoy as a sidecar or waypoint, and ztunnel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from adapters.kubernetes.mesh import MeshOrder, Passage
from adapters.kubernetes.mesh_parts import envoy_stats
from adapters.kubernetes.mesh_parts.exposition import Labels, samples, total
from meshgauge.matrix import Role

# Who counts a request of the application in ``istio_requests_total``.
SIDECARS: Final[dict[Role, str]] = {"client": "source", "server": "destination"}
WAYPOINT: Final = "waypoint"

_ENCRYPTED: Final = "mutual_tls"

# A proxy that is connected, has taken all it was sent, and warms nothing up any more, is in sync.
# Source: Envoy, "Cluster manager stats", "LDS" and "xDS subscription statistics"; names seen with Envoy 1.38.3.
_TAKEN: Final = ("envoy_cluster_manager_cds_update_success", "envoy_listener_manager_lds_update_success")


def envoy_passage(text: str, reporter: str, order: MeshOrder) -> Passage:
    """Return what one Envoy counted.

    Istio's counters appear with the first request; until then ``istio_build`` tells that the proxy would count.

    Args:
        reporter: the value of label ``reporter``: which side of a request this proxy is. Only the side that ends the
            encrypted connection knows of its encryption; the client's says ``unknown``.
    """

    def is_ours(labels: Labels) -> bool:
        return labels.get("reporter") == reporter and is_for_application(labels, order)

    def is_encrypted(labels: Labels) -> bool:
        return is_ours(labels) and labels.get("connection_security_policy") == _ENCRYPTED

    sees_encryption = reporter != SIDECARS["client"]
    return Passage(
        requests=_counted(text, "istio_requests_total", is_ours),
        encrypted=_counted(text, "istio_requests_total", is_encrypted) if sees_encryption else None,
        retries=total(text, "envoy_cluster_upstream_rq_retry", _is_cluster_of(order)),
        in_sync=_is_in_sync(text),
    )


def ztunnel_passage(text: str, order: MeshOrder) -> Passage:
    """Return what ztunnel counted where it ends connections, and how many of them came under mutual TLS.

    Source: istio/ztunnel, src/proxy/metrics.rs (CommonTrafficLabels, SecurityPolicy).
    """

    def is_ours(labels: Labels) -> bool:
        return labels.get("reporter") == "destination" and is_for_application(labels, order)

    def is_encrypted(labels: Labels) -> bool:
        return is_ours(labels) and labels.get("connection_security_policy") == _ENCRYPTED

    name = "istio_tcp_connections_opened_total"
    return Passage(connections=_counted(text, name, is_ours), encrypted=_counted(text, name, is_encrypted))


def is_for_application(labels: Labels, order: MeshOrder) -> bool:
    """Return whether these labels are the application's: by its Service, or where that is unknown by its workload."""
    service = (labels.get("destination_service_namespace"), labels.get("destination_service_name"))
    workload = (labels.get("destination_workload_namespace"), labels.get("destination_workload"))
    return (order.namespace, order.app) in (service, workload)


def _counted(text: str, name: str, keep: Callable[[Labels], bool]) -> float | None:
    """Return the sum, 0 for a proxy that counts and has nothing to count yet, None for one that does not count."""
    found = total(text, name, keep)
    if found is None and any(True for _ in samples(text, "istio_build")):
        return 0.0
    return found


def _is_cluster_of(order: MeshOrder) -> Callable[[Labels], bool]:
    """Return what tells the application's clusters: ``inbound|8080||``, or with its Service in the last part.

    A sidecar's way out is ``outbound|8080||app.ns.svc...``, a waypoint's ``inbound-vip|8080|http|app.ns.svc...``.
    """
    host = f"{order.app}.{order.namespace}."

    def is_ours(labels: Labels) -> bool:
        direction, _, rest = labels.get("cluster_name", "").partition("|")
        port, _, rest = rest.partition("|")
        is_its_host = port == str(order.port) and rest.partition("|")[2].startswith(host)
        return direction == "inbound" or (direction in ("outbound", "inbound-vip") and is_its_host)

    return is_ours


def _is_in_sync(text: str) -> bool | None:
    settled, taken = envoy_stats.is_in_sync(text), [total(text, name) for name in _TAKEN]
    return None if settled is None or None in taken else settled and all(taken)
