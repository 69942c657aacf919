"""What any Envoy says of its traffic in its Prometheus page, under the names Envoy itself gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from adapters.kubernetes.mesh import Passage
from adapters.kubernetes.mesh_parts.exposition import Labels, total

# A proxy that is connected, has taken all it was sent, and warms nothing up any more, is in sync.
# Source: Envoy, "Cluster manager stats", "LDS" and "xDS subscription statistics".
_NONE_LEFT: Final = (
    "envoy_cluster_manager_cds_update_rejected",
    "envoy_cluster_manager_warming_clusters",
    "envoy_listener_manager_lds_update_rejected",
    "envoy_listener_manager_total_listeners_warming",
)


def taken(text: str, is_listener: Callable[[Labels], bool], is_cluster: Callable[[Labels], bool]) -> Passage:
    """Return what a server's proxy took in: requests and connections of its HTTP connection managers.

    Envoy counts connections with TLS, not requests: when all connections had it, so had all requests, and when none
    had it, none; in between nothing is known.

    Args:
        is_listener: accepts the labels of the connection managers in front of the application.
        is_cluster: accepts the labels of the clusters behind them.

    Source: Envoy, "HTTP connection manager statistics" (downstream_cx_ssl_total), "Cluster manager stats".
    """
    requests = total(text, "envoy_http_downstream_rq_total", is_listener)
    connections = total(text, "envoy_http_downstream_cx_total", is_listener)
    with_tls = total(text, "envoy_http_downstream_cx_ssl_total", is_listener)
    return Passage(
        requests=requests,
        connections=connections,
        encrypted=_encrypted(requests, connections, with_tls),
        retries=total(text, "envoy_cluster_upstream_rq_retry", is_cluster),
        in_sync=is_in_sync(text),
    )


def sent(text: str, is_cluster: Callable[[Labels], bool]) -> Passage:
    """Return what a client's proxy sent on: requests and connections of the application's clusters.

    Source: Envoy, "Cluster manager stats" (upstream_rq_total, upstream_cx_total, ssl.handshake).
    """
    requests = total(text, "envoy_cluster_upstream_rq_total", is_cluster)
    opened = total(text, "envoy_cluster_upstream_cx_total", is_cluster)
    failed = total(text, "envoy_cluster_upstream_cx_connect_fail", is_cluster)
    connections = None if opened is None else opened - (failed or 0.0)
    with_tls = total(text, "envoy_cluster_ssl_handshake", is_cluster)
    if connections is not None and with_tls is None:
        with_tls = 0.0  # a cluster without TLS has no such counter
    return Passage(
        requests=requests,
        connections=connections,
        encrypted=_encrypted(requests, connections, with_tls),
        retries=total(text, "envoy_cluster_upstream_rq_retry", is_cluster),
        in_sync=is_in_sync(text),
    )


def is_in_sync(text: str) -> bool | None:
    """Return whether the proxy holds, and took, all its control plane told it; None when the page does not say."""
    connected = total(text, "envoy_control_plane_connected_state")
    left = [total(text, name) for name in _NONE_LEFT]
    if connected is None or None in left:
        return None
    return connected == 1 and not any(left)


def _encrypted(requests: float | None, connections: float | None, with_tls: float | None) -> float | None:
    if requests is None or connections is None or with_tls is None:
        return None
    if not with_tls:
        return 0.0
    return requests if with_tls >= connections else None
