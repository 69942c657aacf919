"""What NGINX, HAProxy, Traefik and Caddy all have to do, with their real binaries."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import FEATURES
from adapters.local import caddy, haproxy, nginx, procfs, traefik
from adapters.local.proxy import CountsWorkers, HopOrder, LocalProxy
from meshgauge.errors import MeasurementError
from meshgauge.matrix import Role
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

PROXIES: tuple[LocalProxy, ...] = (nginx.PROXY, haproxy.PROXY, traefik.PROXY, caddy.PROXY)
PLAIN, MTLS = BUILT_IN_PROFILES["plain"], BUILT_IN_PROFILES["mtls"]

pytestmark = pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.name)


@pytest.fixture
def mtls_pair(order_of: Any, start: Any, backend: Any) -> Callable[..., tuple[HopOrder, HopOrder]]:
    """Return a maker of running client and server hops of one proxy."""

    def make(proxy: LocalProxy, profile: Profile = MTLS, **server: Any) -> tuple[HopOrder, HopOrder]:
        inbound = order_of("server", backend.endpoint, profile, **server)
        outbound = order_of("client", inbound.listen, profile)
        start(proxy, inbound)
        start(proxy, outbound)
        return outbound, inbound

    return make


@pytest.mark.parametrize("role", ["client", "server", "node"])
def test_plain_traffic_arrives_unchanged_in_every_role(
    proxy: LocalProxy, role: Role, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of(role, backend.endpoint)
    start(proxy, order)
    reply = connect(order.listen).ask("/some/path?a=%2Fb&c=d", "POST", b"question" * 100)
    assert (reply.status, reply.body) == (200, backend.body)
    head = backend.requests[0].lower()
    assert head.startswith(b"post /some/path?a=%2fb&c=d http/1.1\r\n")
    assert b"\r\nhost: app.example:81\r\n" in head
    assert b"\r\nx-probe: kept\r\n" in head
    assert backend.received == [b"question" * 100]


def test_kept_alive_connections_are_reused_on_both_sides(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint)
    start(proxy, order)
    clients = [connect(order.listen) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda client: [client.ask() for _ in range(50)], clients))
    assert len(backend.requests) == 400
    assert backend.connections <= 16


def test_more_connections_than_any_default_pool_stay_open(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint, connections=300)
    start(proxy, order)
    clients = [connect(order.listen) for _ in range(300)]
    request = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"
    for _ in range(2):
        for client in clients:
            client.socket.sendall(request)
        for client in clients:
            assert client.read_reply().status == 200
    busy = backend.connections
    assert busy <= 310
    for client in clients:
        assert client.ask().status == 200
    assert backend.connections == busy


@pytest.mark.parametrize("size", [0, 1, 1024, 100_000, 16 << 20])
def test_bodies_of_all_sizes_arrive_whole(
    proxy: LocalProxy, size: int, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint)
    start(proxy, order)
    client = connect(order.listen)
    for _ in range(2):
        reply = client.ask(f"/bytes/{size}")
        assert (reply.status, len(reply.body)) == (200, size)
        assert f"content-length: {size}\r\n".encode() in reply.head.lower()


def test_requests_that_fail_reach_the_application_once(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint)
    start(proxy, order)
    reply = connect(order.listen).ask("/reset")
    assert reply.status in {502, 503}
    assert len(backend.requests) == 1


def test_a_post_on_a_reused_connection_is_never_repeated(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint)
    start(proxy, order)
    client = connect(order.listen)
    assert client.ask().status == 200
    # HAProxy answers with the same silence when it was not the client's first request.
    with contextlib.suppress(ConnectionResetError):
        assert client.ask("/reset", "POST", b"x").status == 502
    assert len(backend.requests) == 2


def test_the_request_time_out_of_the_profile_holds(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    profile = Profile(name="hasty", request_timeout_s=0.3)
    order = order_of("node", backend.endpoint, profile)
    start(proxy, order)
    began = time.monotonic()
    assert connect(order.listen).ask("/silent").status == 504
    assert time.monotonic() - began >= 0.3
    assert len(backend.requests) == 1


def test_a_mutual_tls_pair_carries_traffic_and_keeps_its_connections(
    proxy: LocalProxy, mtls_pair: Any, backend: Any, connect: Any
) -> None:
    outbound, _ = mtls_pair(proxy)
    client = connect(outbound.listen)
    for _ in range(20):
        reply = client.ask()
        assert (reply.status, reply.body) == (200, backend.body)
    assert b"\r\nhost: app.example:81\r\n" in backend.requests[-1].lower()
    assert len(backend.requests) == 20
    assert backend.connections <= 2


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_any_two_of_them_make_a_mutual_tls_pair(
    proxy: LocalProxy, step: int, version: Any, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    peer = PROXIES[(PROXIES.index(proxy) + step) % len(PROXIES)]
    profile = Profile(name="tls", mtls=True, tls_version=version)
    inbound = order_of("server", backend.endpoint, profile)
    outbound = order_of("client", inbound.listen, profile)
    start(peer, inbound)
    start(proxy, outbound)
    client = connect(outbound.listen)
    for _ in range(3):
        reply = client.ask()
        assert (reply.status, reply.body) == (200, backend.body)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_tls_version_and_cipher_are_those_of_the_plan(
    proxy: LocalProxy, version: Any, mtls_pair: Any, connect: Any, identities: Any
) -> None:
    profile = Profile(name="tls", mtls=True, tls_version=version)
    outbound, inbound = mtls_pair(proxy, profile)
    assert connect(outbound.listen).ask().status == 200
    own = connect(inbound.listen, identities.client)
    assert own.ask().status == 200
    assert own.socket.version() == f"TLSv{version}"
    assert own.socket.cipher()[0] in {"TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"}
    assert b"spiffe" in own.socket.getpeercert(binary_form=True)
    other = ssl.create_default_context(cafile=identities.client.trust_path)
    other.minimum_version = other.maximum_version = (
        ssl.TLSVersion.TLSv1_2 if version == "1.3" else ssl.TLSVersion.TLSv1_3
    )
    address = (inbound.listen.host, inbound.listen.port)
    with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError):
        other.wrap_socket(plain, server_hostname="server.meshgauge.local")


def test_plaintext_strangers_and_clients_without_certificate_are_refused(
    proxy: LocalProxy, mtls_pair: Any, backend: Any, connect: Any, identities: Any
) -> None:
    _, inbound = mtls_pair(proxy)
    assert _refuses(lambda: connect(inbound.listen))
    assert _refuses(lambda: connect(inbound.listen, None, identities.client.trust_path))
    assert _refuses(lambda: connect(inbound.listen, identities.stranger, identities.client.trust_path))
    assert backend.requests == []
    assert connect(inbound.listen, identities.client).ask().status == 200


def _refuses(open_connection: Callable[[], Any]) -> bool:
    """Return whether no reply of the application comes back: closed, or a 4xx of the proxy's own."""
    try:
        return bool(400 <= open_connection().ask().status < 500)
    except (OSError, ssl.SSLError):
        return True


def test_a_neighbour_of_the_same_mesh_is_refused_where_the_features_say_so(
    proxy: LocalProxy, mtls_pair: Any, connect: Any, identities: Any
) -> None:
    _, inbound = mtls_pair(proxy)
    claims = "cannot check a SPIFFE id" not in proxy.features(MTLS, "server")["tls"]
    assert _refuses(lambda: connect(inbound.listen, identities.neighbour)) == claims


def test_a_server_with_a_foreign_certificate_gets_no_request(
    proxy: LocalProxy, mtls_pair: Any, backend: Any, connect: Any, identities: Any
) -> None:
    for impostor in (identities.stranger, identities.neighbour):
        outbound, _ = mtls_pair(proxy, terminate_tls=impostor, peer_spiffe_id=None)
        assert connect(outbound.listen).ask().status >= 500
    assert backend.requests == []


def test_a_server_under_a_wrong_spiffe_id_is_refused_where_the_features_say_so(
    proxy: LocalProxy, mtls_pair: Any, backend: Any, connect: Any, identities: Any
) -> None:
    outbound, _ = mtls_pair(proxy, terminate_tls=identities.lookalike, peer_spiffe_id=None)
    told = proxy.features(MTLS, "client")["tls"]
    status = connect(outbound.listen).ask().status
    assert (status == 200) == ("not the SPIFFE id" in told or "cannot check a SPIFFE id" in told)


def test_no_tls_session_is_ever_resumed(proxy: LocalProxy, mtls_pair: Any, identities: Any) -> None:
    _, inbound = mtls_pair(proxy)
    context = ssl.create_default_context(cafile=identities.client.trust_path)
    context.load_cert_chain(identities.client.certificate_path, identities.client.key_path)
    session: ssl.SSLSession | None = None
    for _ in range(2):
        with (
            socket.create_connection((inbound.listen.host, inbound.listen.port)) as plain,
            context.wrap_socket(plain, server_hostname="server.meshgauge.local", session=session) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            assert secure.recv(1024).startswith(b"HTTP/1.1 200")
            assert not secure.session_reused
            session = secure.session


@pytest.mark.parametrize("name", sorted(BUILT_IN_PROFILES))
def test_counters_equal_what_was_sent_or_are_none(
    proxy: LocalProxy, name: str, order_of: Any, start: Any, backend: Any, connect: Any, mtls_pair: Any
) -> None:
    profile = BUILT_IN_PROFILES[name]
    if proxy.unsupported(profile, "pair"):
        pytest.skip(str(proxy.unsupported(profile, "pair")))
    outbound, inbound = mtls_pair(proxy, profile)
    before = [proxy.counters(order) for order in (outbound, inbound)]
    for client in [connect(outbound.listen) for _ in range(3)]:
        for _ in range(7):
            assert client.ask().status == 200
    for order, old in zip((outbound, inbound), before, strict=True):
        if old.requests is not None:
            assert _settled_requests(proxy, order, old.requests + 21) == old.requests + 21
        new = proxy.counters(order)
        assert (new.requests is None) == (old.requests is None)
        if new.upstream_connections is not None:
            assert 1 <= new.upstream_connections <= 4
        if new.tls_handshakes is not None:
            assert profile.mtls
            assert 1 <= new.tls_handshakes <= 4
        assert new.upstream_retries in {None, 0}
        assert new.upstream_overflows in {None, 0}


def _settled_requests(proxy: LocalProxy, order: HopOrder, expected: int) -> int | None:
    """Return the request counter once it has reached ``expected``: NGINX and Traefik count after they answered."""
    deadline = time.monotonic() + 10
    while (proxy.counters(order).requests or 0) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    return proxy.counters(order).requests


def test_counters_of_a_proxy_that_is_gone_are_an_error(proxy: LocalProxy, order_of: Any, backend: Any) -> None:
    profile = Profile(name="counted", access_log=True, metrics=True)
    with pytest.raises(MeasurementError, match=proxy.name):
        proxy.counters(order_of("node", backend.endpoint, profile))


def test_connections_without_a_request_are_not_counted_as_one(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    profile = BUILT_IN_PROFILES["observed"]
    if proxy.unsupported(profile, "node"):
        profile = Profile(name="logged", access_log=True)
    order = order_of("node", backend.endpoint, profile)
    start(proxy, order)
    client = connect(order.listen)
    client.close()
    for _ in range(3):
        connect(order.listen).close()
    client = connect(order.listen)
    assert client.ask().status == client.ask().status == 200
    client.close()
    assert _settled_requests(proxy, order, 2) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_it_works_on_as_many_threads_as_the_plan_says(
    proxy: LocalProxy, threads: int, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint, Profile(name="threads", proxy_threads=threads))
    process = start(proxy, order)
    clients = [connect(order.listen) for _ in range(8)]
    assert [client.ask().status for client in clients] == [200] * 8
    assert isinstance(proxy, CountsWorkers)
    assert proxy.workers(procfs.tree(process.pid)) == threads


def test_an_access_log_has_one_line_a_request_and_only_when_asked_for(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    for wanted in (False, True):
        order = order_of("node", backend.endpoint, Profile(name="logged", access_log=wanted))
        start(proxy, order)
        client = connect(order.listen)
        for _ in range(5):
            assert client.ask("/find-me").status == 200
        client.close()
        assert _eventually_lines_about(order, "find-me", 5 if wanted else 0)


def _lines_about(order: HopOrder, word: str) -> int:
    logs = [path.read_text(errors="replace") for path in order.directory.glob("*.log")]
    return sum(word in line for text in logs for line in text.splitlines())


def _eventually_lines_about(order: HopOrder, word: str, count: int) -> bool:
    deadline = time.monotonic() + 10
    while _lines_about(order, word) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    return _lines_about(order, word) == count


def test_a_request_id_is_added_only_when_asked_for(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    for wanted in (False, True):
        profile = Profile(name="identified", request_id=wanted)
        if proxy.unsupported(profile, "node"):
            continue
        order = order_of("node", backend.endpoint, profile)
        start(proxy, order)
        client = connect(order.listen)
        client.ask()
        client.ask()
        ids = [line for head in backend.requests[-2:] for line in head.lower().splitlines() if b"request-id" in line]
        assert len(set(ids)) == (2 if wanted else 0)


def test_the_added_headers_are_those_the_features_name(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint)
    start(proxy, order)
    reply = connect(order.listen).ask()
    told = proxy.features(PLAIN, "node")["header_rewriting"].lower()
    seen = backend.requests[0].lower() + reply.head.lower()
    for header in (b"x-forwarded-", b"via:", b"x-real-ip:", b"accept-encoding:"):
        assert (header in seen) == (header.decode().rstrip(":-") in told), header
    assert b"\r\nserver: app\r\n" in reply.head.lower()


def test_it_runs_in_the_foreground_ends_on_sigterm_and_writes_nowhere_else(
    proxy: LocalProxy, order_of: Any, start: Any, backend: Any, connect: Any
) -> None:
    order = order_of("node", backend.endpoint)
    process = start(proxy, order)
    assert connect(order.listen).ask().status == 200
    opened = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
    files = [path for path in opened if path.startswith("/") and not path.startswith(("/dev/", "/proc/", "/sys/"))]
    assert all(path.startswith(str(order.directory)) for path in files), files
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=10)
    assert not proxy.is_ready(order)


def test_the_binary_says_its_version(proxy: LocalProxy, binary_of: Any) -> None:
    version = proxy.version(binary_of(proxy))
    assert str(binary_of(proxy)).find(f"{proxy.package}-{version}") > 0


@pytest.mark.parametrize("placement", ["pair", "client", "server", "node"])
def test_mutual_tls_needs_a_pair(proxy: LocalProxy, placement: Placement) -> None:
    reason = proxy.unsupported(MTLS, placement)
    assert reason == (None if placement == "pair" else "mtls needs a proxy at both ends: placement pair")
    assert proxy.unsupported(PLAIN, placement) is None


@pytest.mark.parametrize("name", sorted(BUILT_IN_PROFILES))
@pytest.mark.parametrize("role", ["client", "server", "node"])
def test_every_feature_is_named(proxy: LocalProxy, name: str, role: Role) -> None:
    features = proxy.features(BUILT_IN_PROFILES[name], role)
    assert set(features) == set(FEATURES)
    assert all(features.values())


def test_an_empty_folder_holds_no_binary_that_runs(proxy: LocalProxy, tmp_path: Any) -> None:
    with pytest.raises((OSError, Exception), match=r"nginx|No such file"):
        proxy.version(proxy.binary(tmp_path))
