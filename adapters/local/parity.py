"""What is set alike in every local data plane, so that meshes differ in code and not in settings."""

from __future__ import annotations

from adapters.local.proxy import HopOrder
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

# Certificates carry this DNS name beside their SPIFFE id; it is sent as SNI and checked where an id cannot be.
SERVER_NAME = "server.meshgauge.local"

# One cipher, one key exchange. Left alone, OpenSSL picks AES-256 and Go a post-quantum hybrid exchange.
TLS13_CIPHER = "TLS_AES_128_GCM_SHA256"
TLS12_CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"  # Go calls it TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
TLS_GROUP = "X25519"
# With TLS 1.2 the list also has to allow the curve of the certificates' keys.
CERTIFICATE_GROUP = "P-256"

# Idle connections outlive the longest window (1 day). Above 24.8 days milliseconds overflow NGINX's epoll_wait.
KEEP_IDLE_S = 7 * 86_400

MTLS_NEEDS_PAIR = "mtls needs a proxy at both ends: placement pair"


def why_unsupported(profile: Profile, placement: Placement) -> str | None:
    """Return why no local data plane can run ``profile`` in ``placement``, or None."""
    if profile.mtls and placement != "pair":
        return MTLS_NEEDS_PAIR
    if profile.permissive:
        return "permissive: a local proxy has one listener, which demands mutual TLS or speaks plaintext"
    if profile.tracing_ratio:
        return "tracing_ratio: there is no trace collector beside local proxies"
    if profile.proxy_cpu_cores or profile.proxy_memory_bytes:
        return "proxy_cpu_cores and proxy_memory_bytes are limits of containers; processes of this host have none"
    return None


def pool_connections(order: HopOrder) -> int:
    """Return how many idle upstream connections are kept: what the plan says, and never fewer than clients bring."""
    return max(order.profile.idle_connections, order.connections)


def limit_connections(order: HopOrder) -> int:
    """Return a limit on client connections that load, probes and reconnects never reach."""
    return 2 * order.connections + 256


def timeout_ms(profile: Profile) -> int:
    """Return the upstream time-out in whole milliseconds, at least 1."""
    return max(1, round(profile.request_timeout_s * 1000))


def equal_features(profile: Profile) -> dict[str, str]:
    """Return the features set alike everywhere, in the words of the report. Proxies replace what differs."""
    wait = f"{profile.request_timeout_s:g} s"
    return {
        "threads": str(profile.proxy_threads),
        "tls": "off",
        "http_downstream": "HTTP/1.1, keep-alive without limit",
        "http_upstream": "HTTP/1.1, keep-alive without limit",
        "idle_connections": f"{profile.idle_connections}, or one for each client connection when those are more",
        "retries": "none",
        "timeout": f"{wait} to connect, {wait} to wait for a reply",
        "circuit_breaker": "none",
        "access_log": "off",
        "metrics": "off",
        "tracing": "off",
        "request_id": "added" if profile.request_id else "off",
        "header_rewriting": "none",
    }


def describe_tls(profile: Profile, role: Role, checks: str) -> str:
    """Return the ``tls`` feature of one hop.

    Args:
        checks: what this proxy verifies about its peer.
    """
    if not profile.mtls:
        return "off"
    cipher = TLS13_CIPHER if profile.tls_version == "1.3" else TLS12_CIPHER
    side = "terminates" if role == "server" else "originates"
    return f"{side} mutual TLS {profile.tls_version}, {cipher}, {TLS_GROUP}, no resumption; peer: {checks}"
