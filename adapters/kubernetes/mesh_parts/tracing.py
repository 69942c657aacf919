"""Spans: which requests proxies report, where to, and why a mesh cannot. The same for every mesh that can. Pure."""

from __future__ import annotations

from typing import Any, Final

from adapters.kubernetes.mesh import MeshOrder
from adapters.span_sink import SPANS_PATH
from meshgauge.plan import Profile

COLLECTOR_PORT: Final = 9411  # Zipkin's own

# What the collector asks for. It takes 7 us a span, 115,000 spans/s on one core (measured on 2026-11-23, posts of 5
# spans in 5 kB): 0.14 cores for 10,000 requests/s that two proxies report all of, next to nothing for the usual 1 %.
COLLECTOR_CORES: Final = 0.1
COLLECTOR_MEMORY_BYTES: Final = 128 << 20

# An Envoy keeps spans until it has five, or 5 s are over, in each worker thread. What it cannot deliver, because the
# collector is away or slow, it drops: no request waits for it.
# Source: Envoy, zipkin tracer runtime keys (tracing.zipkin.min_flush_spans, tracing.zipkin.flush_interval_ms).
SPANS_HELD: Final = 4
FLUSH_S: Final = 5.0

# Envoy compares the request id modulo 10,000 with its share in hundredths of a percent: finer ones would be rounded,
# and requests without an id are never reported. Measured with Envoy 1.38.3; source: Envoy,
# source/common/http/conn_manager_utility.cc (mutateTracingRequestHeader).
_STEPS: Final = 10_000

NOT_SET_UP: Final = "tracing_ratio: this adapter does not set up traces; leave tracing_ratio at 0"
NEEDS_REQUEST_ID: Final = (
    "tracing_ratio: Envoy chooses requests to report by their id, and reports none without; write request_id: true "
    "with it"
)

# What every request carries on, reported or not. Source: openzipkin/b3-propagation.
HEADERS: Final = "x-b3-traceid, x-b3-spanid, x-b3-parentspanid, x-b3-sampled"


def why_not_sampled(profile: Profile) -> str | None:
    """Return why no Envoy can report this share of requests, or None."""
    steps = profile.tracing_ratio * _STEPS
    if abs(steps - round(steps)) <= 1e-6:
        return None
    return f"tracing_ratio {profile.tracing_ratio:g}: Envoy samples in steps of 0.0001; choose a multiple of it"


def percent(profile: Profile) -> float:
    """Return the share of requests to report, in percent with two digits."""
    return round(profile.tracing_ratio * 100, 2)


def describe(profile: Profile) -> str:
    """Return what proxies report, in the words of the report."""
    if not profile.tracing_ratio:
        return "off"
    share = f"{percent(profile):g} % of requests"
    return f"{share}, one span from each proxy, Zipkin over HTTP/1.1 to a collector in the namespace"


def collector_host(order: MeshOrder) -> str:
    """Return the collector's name, as it is found from every pod of the cluster."""
    return f"{order.collector}.{order.namespace}.svc"


def collector_url(order: MeshOrder) -> str:
    """Return where spans are posted."""
    return f"http://{collector_host(order)}:{COLLECTOR_PORT}{SPANS_PATH}"


def envoy_cluster(order: MeshOrder, name: str) -> dict[str, Any]:
    """Return the collector as a cluster of Envoy's, for meshes that take one as it is."""
    address = {"socket_address": {"address": collector_host(order), "port_value": COLLECTOR_PORT}}
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "dns_lookup_family": "V4_ONLY",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def envoy_tracing(order: MeshOrder, cluster: str) -> dict[str, Any]:
    """Return what Envoy's HTTP connection managers report, as other meshes write it for theirs.

    Source: Envoy API v3, HttpConnectionManager.Tracing, ZipkinConfig. The context is not shared between the spans of
    client and server, and trace ids have 128 bits, as in Istio.
    """
    zipkin = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
        "collector_cluster": cluster,
        "collector_endpoint": SPANS_PATH,
        "collector_endpoint_version": "HTTP_JSON",
        "collector_hostname": f"{collector_host(order)}:{COLLECTOR_PORT}",
        "shared_span_context": False,
        "trace_id_128bit": True,
    }
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "@type": f"{manager}.Tracing",
        "random_sampling": {"value": percent(order.profile)},
        "provider": {"name": "envoy.tracers.zipkin", "typed_config": zipkin},
    }
