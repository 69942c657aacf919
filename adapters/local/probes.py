"""Single requests of our own, outside every measured window: is it there, and what refuses whom."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from dataclasses import dataclass

from adapters.contract import Endpoint
from adapters.local.proxy import Identity
from meshgauge.workloads import Workload as WorkloadSpec

_LOOK_S = 1.0
_PROBE_S = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request. ``status`` None: no reply; ``seen`` says what happened instead."""

    status: int | None
    body_bytes: int | None
    seen: str
    certificate_der: bytes | None = None


def answers(endpoint: Endpoint, path: str) -> bool:
    """Return whether a GET of ``path`` gives a status of success or redirection at once."""
    reply = _exchange(http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_LOOK_S), "GET", path)
    return reply.status is not None and 200 <= reply.status < 400


def request(endpoint: Endpoint, spec: WorkloadSpec) -> Reply:
    """Send the workload's request in plain text and return what came back."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_PROBE_S)
    return _exchange(connection, spec.method, spec.path, spec.headers, b"x" * spec.body_bytes)


def request_over_tls(
    endpoint: Endpoint, spec: WorkloadSpec, identity: Identity | None, trust: Identity, server_name: str
) -> Reply:
    """Send the workload's request over TLS as ``identity`` (None: without a certificate).

    With TLS 1.3 a server may refuse a client only after the client finished its handshake, so that only a reply
    proves admission.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trust.trust_path)
    if identity is not None:
        context.load_cert_chain(identity.certificate_path, identity.key_path)
    try:
        raw = socket.create_connection((endpoint.host, endpoint.port), timeout=_PROBE_S)
        with contextlib.closing(raw), context.wrap_socket(raw, server_hostname=server_name) as stream:
            certificate = stream.getpeercert(binary_form=True)
            connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
            connection.sock = stream
            reply = _exchange(connection, spec.method, spec.path, spec.headers, b"x" * spec.body_bytes)
            return Reply(reply.status, reply.body_bytes, reply.seen, certificate)
    except OSError as error:  # ssl.SSLError is one
        return Reply(None, None, f"no TLS connection: {error}")


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    try:
        connection.request(method, path, body=body or None, headers={**(headers or {}), "Connection": "close"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        return Reply(None, None, f"no reply: {error!r}")
    finally:
        connection.close()
    return Reply(response.status, len(content), f"status {response.status}, {len(content)} bytes")


def expected_body_bytes(spec: WorkloadSpec) -> int | None:
    """Return the size a good reply's body has, or None when any will do."""
    return 0 if spec.method == "HEAD" else spec.reply_bytes


def is_expected(reply: Reply, spec: WorkloadSpec) -> bool:
    """Return whether ``reply`` is what the workload calls a good one."""
    size = expected_body_bytes(spec)
    return reply.status == spec.expected_status and (size is None or reply.body_bytes == size)
