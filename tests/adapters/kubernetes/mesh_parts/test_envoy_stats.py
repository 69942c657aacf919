"""What Envoy's own counters say of passage, encryption and agreement with the control plane."""

from __future__ import annotations

import pytest

from adapters.kubernetes.mesh_parts.envoy_stats import is_in_sync, sent, taken
from adapters.kubernetes.mesh_parts.exposition import Labels

IN_SYNC = """\
envoy_control_plane_connected_state{} 1
envoy_cluster_manager_cds_update_rejected{} 0
envoy_cluster_manager_warming_clusters{} 0
envoy_listener_manager_lds_update_rejected{} 0
envoy_listener_manager_total_listeners_warming{} 0
"""
PAIRS = [(line.split("{", maxsplit=1)[0], line.rsplit(" ", maxsplit=1)[1]) for line in IN_SYNC.splitlines()]


def is_app(labels: Labels) -> bool:
    return "app" in (labels.get("envoy_cluster_name"), labels.get("envoy_http_conn_manager_prefix"))


def inbound(requests: int, connections: int, with_tls: int) -> str:
    return (
        f'envoy_http_downstream_rq_total{{envoy_http_conn_manager_prefix="app"}} {requests}\n'
        'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="admin"} 1000\n'
        f'envoy_http_downstream_cx_total{{envoy_http_conn_manager_prefix="app"}} {connections}\n'
        f'envoy_http_downstream_cx_ssl_total{{envoy_http_conn_manager_prefix="app"}} {with_tls}\n'
        'envoy_cluster_upstream_rq_retry{envoy_cluster_name="app"} 0\n'
    )


def outbound(requests: int, connections: int, failed: int, handshakes: int | None) -> str:
    lines = (
        f'envoy_cluster_upstream_rq_total{{envoy_cluster_name="app"}} {requests}\n'
        'envoy_cluster_upstream_rq_total{envoy_cluster_name="access_log"} 1000\n'
        f'envoy_cluster_upstream_cx_total{{envoy_cluster_name="app"}} {connections}\n'
        f'envoy_cluster_upstream_cx_connect_fail{{envoy_cluster_name="app"}} {failed}\n'
        'envoy_cluster_upstream_rq_retry{envoy_cluster_name="app"} 3\n'
    )
    return lines + (
        "" if handshakes is None else f'envoy_cluster_ssl_handshake{{envoy_cluster_name="app"}} {handshakes}\n'
    )


@pytest.mark.parametrize(("with_tls", "encrypted"), [(16, 500), (0, 0), (15, None)])
def test_requests_taken_were_encrypted_when_all_connections_were(with_tls: int, encrypted: float | None) -> None:
    passage = taken(inbound(500, 16, with_tls), is_app, is_app)
    assert (passage.requests, passage.connections, passage.retries) == (500, 16, 0)
    assert passage.encrypted == encrypted


@pytest.mark.parametrize(
    ("failed", "handshakes", "encrypted"), [(0, 16, 500), (2, 14, 500), (0, None, 0), (0, 12, None)]
)
def test_requests_sent_were_encrypted_when_every_connection_shook_hands(
    failed: int, handshakes: int | None, encrypted: float | None
) -> None:
    passage = sent(outbound(500, 16, failed, handshakes), is_app)
    assert (passage.requests, passage.connections, passage.retries) == (500, 16 - failed, 3)
    assert passage.encrypted == encrypted


def test_a_page_without_these_counters_leaves_everything_unknown() -> None:
    for passage in (taken("up 1\n", is_app, is_app), sent("up 1\n", is_app)):
        assert (passage.requests, passage.connections, passage.encrypted, passage.retries) == (None,) * 4
        assert passage.in_sync is None


@pytest.mark.parametrize(
    ("line", "value", "in_sync"),
    [
        ("envoy_control_plane_connected_state", 0, False),
        ("envoy_cluster_manager_cds_update_rejected", 1, False),
        ("envoy_listener_manager_lds_update_rejected", 2, False),
        ("envoy_cluster_manager_warming_clusters", 1, False),
        ("envoy_control_plane_connected_state", 1, True),
    ],
)
def test_a_proxy_is_in_sync_when_it_is_connected_and_refused_nothing(line: str, value: int, in_sync: bool) -> None:
    page = "\n".join(f"{name}{{}} {value}" if name == line else f"{name}{{}} {was}" for name, was in PAIRS)
    assert is_in_sync(page) is in_sync


def test_in_sync_is_unknown_where_one_of_the_counters_is_missing() -> None:
    assert is_in_sync("\n".join(IN_SYNC.splitlines()[:-1])) is None
