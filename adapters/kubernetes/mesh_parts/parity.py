"""Settings that are the same for every mesh in a cluster, so that meshes differ in code and not in settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from adapters.kubernetes.api import LABEL_OWNER, OWNER, Kind, Manifest, ObjectRef
from adapters.kubernetes.mesh import MeshOrder
from adapters.kubernetes.mesh_parts import tracing
from adapters.local.parity import KEEP_IDLE_S, MTLS_NEEDS_PAIR
from meshgauge.plan import Placement, Profile

# "No limit" where a circuit breaker cannot be switched off. Source: Envoy's FAQ "disable circuit breaking".
NO_LIMIT: Final = 1_000_000_000

# Idle connections outlive the longest window, as they do on one host.
IDLE_S: Final = KEEP_IDLE_S

# What a proxy may count on when the profile sets no limit, so that busy nodes share alike between meshes; what Istio's
# and Consul's charts ask for as they come. Source: istiod 1.30.3 global.proxy.resources.requests.
CPU_REQUEST: Final = "100m"
MEMORY_REQUEST: Final = "128Mi"

# One copy of each control plane, small enough for a cluster on a laptop; it is not on the way of a request.
CONTROL_PLANE_REQUESTS: Final = {"cpu": "100m", "memory": "256Mi"}

HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io/v1", "HTTPRoute")


def why_unsupported(
    title: str,
    profile: Profile,
    placement: Placement,
    placements: Sequence[Placement],
    mtls_in: Sequence[Placement] = ("pair",),
    no_traces: str | None = tracing.NOT_SET_UP,
) -> str | None:
    """Return why no mesh that stands in ``placements`` can run ``profile`` in ``placement``, or None.

    Args:
        mtls_in: placements in which both ends of the encrypted connection are the mesh's.
        no_traces: why its proxies cannot report a share of requests; None: they can.
    """
    if placement not in placements:
        return f"placement {placement}: {title} stands as {' or '.join(placements)}"
    if profile.mtls and placement not in mtls_in:
        return MTLS_NEEDS_PAIR if mtls_in == ("pair",) else f"mtls: {title} has it as {' or '.join(mtls_in)}"
    return (no_traces or tracing.why_not_sampled(profile)) if profile.tracing_ratio else None


def metadata(order: MeshOrder, name: str, namespace: str | None = None) -> dict[str, Any]:
    """Return the metadata of an object of ours.

    Args:
        namespace: None: the environment's; empty: a cluster-scoped object.
    """
    where = order.namespace if namespace is None else namespace
    labels = {LABEL_OWNER: OWNER, **order.labels}
    return {"name": name, **({"namespace": where} if where else {}), "labels": labels}


def namespace_of_mesh(order: MeshOrder, name: str, labels: dict[str, str] | None = None) -> Manifest:
    """Return the namespace a mesh's own pods live in, which their node agents need privileges for."""
    described = metadata(order, name, namespace="")
    described["labels"] |= {"pod-security.kubernetes.io/enforce": "privileged", **(labels or {})}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": described}


def duration(seconds: float) -> str:
    """Return ``seconds`` (at most 99999) as the Gateway API writes durations, in whole milliseconds.

    Source: GEP-2257, ``^([0-9]{1,5}(h|m|s|ms)){1,4}$``.
    """
    whole_s, rest_ms = divmod(max(1, round(seconds * 1000)), 1000)
    parts = ((whole_s, "s"), (rest_ms, "ms"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def http_route(order: MeshOrder) -> Manifest:
    """Return one rule for all requests to the application, with the profile's time-out. Means the same to every mesh.

    Source: Gateway API, HTTPRoute with a Service as its parent (GAMMA, standard channel since 1.1).
    """
    parent = {"group": "", "kind": "Service", "name": order.app, "port": order.port}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": order.app, "port": order.port}],
        # Not backendRequest, which Istio takes for a retry's time-out.
        "timeouts": {"request": duration(order.profile.request_timeout_s)},
    }
    return {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.name,
        "metadata": metadata(order, order.app),
        "spec": {"parentRefs": [parent], "rules": [rule]},
    }


def http_route_ref(order: MeshOrder) -> ObjectRef:
    """Return the name of what :func:`http_route` returns."""
    return ObjectRef(HTTP_ROUTE, order.namespace, order.app)


def cpu_quantity(cores: float) -> str:
    """Return ``cores`` as a Kubernetes quantity, ``1500m``."""
    return f"{max(1, round(cores * 1000))}m"


def proxy_resources(profile: Profile) -> dict[str, dict[str, str]]:
    """Return requests and limits of each proxy: equal where the profile sets a limit, else the small common request."""
    requests, limits = {"cpu": CPU_REQUEST, "memory": MEMORY_REQUEST}, {}
    if profile.proxy_cpu_cores:
        requests["cpu"] = limits["cpu"] = cpu_quantity(profile.proxy_cpu_cores)
    if profile.proxy_memory_bytes:
        requests["memory"] = limits["memory"] = str(profile.proxy_memory_bytes)
    return {"requests": requests} | ({"limits": limits} if limits else {})


def proxy_requests(profile: Profile) -> dict[str, str]:
    """Return what each proxy asks its node for."""
    return proxy_resources(profile)["requests"]


def equal_features(profile: Profile) -> dict[str, str]:
    """Return the features set alike for every mesh, in the words of the report. Meshes replace what differs.

    Idle connections are kept without limit: no mesh has a pool that grows only to a given size.
    """
    return {
        "threads": str(profile.proxy_threads),
        "tls": "off",
        "http_downstream": "HTTP/1.1, keep-alive without limit",
        "http_upstream": "HTTP/1.1, keep-alive without limit",
        "idle_connections": "without limit",
        "retries": "none",
        "timeout": f"{profile.request_timeout_s:g} s for the whole request",
        "circuit_breaker": "none",
        "access_log": "one line a request to standard output" if profile.access_log else "off",
        "metrics": "off",
        "tracing": tracing.describe(profile),
        "request_id": "added" if profile.request_id else "off",
        "header_rewriting": "none",
    }
