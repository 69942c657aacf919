"""Receivers on loopback: an HTTP server that notes what it is sent, certificates, a mail server."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator.notify.message import Message

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@dataclass
class Received:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server; ``answers`` are given in turn, then 200 for ever."""

    port: int
    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    delay_s: float = 0.0
    drips: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?room=7"


def handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.lock:
                receiver.received.append(Received(self.path, dict(self.headers.items()), body))
                status, headers, answer = receiver.answers.pop(0) if receiver.answers else (200, {}, b"ok")
            time.sleep(receiver.delay_s)
            with contextlib.suppress(OSError):  # whoever asked has gone
                self._drip() if receiver.drips else self._answer(status, headers, answer)

        def _answer(self, status: int, headers: dict[str, str], answer: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _drip(self) -> None:
            """Talk for ever, a byte at a time, and say nothing."""
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the standard library
            """Say nothing."""

    return Handler


def serve(server: ThreadingHTTPServer) -> threading.Thread:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    return thread


@pytest.fixture
def make_receiver() -> Iterator[Callable[..., Receiver]]:
    """Return a function that starts an HTTP receiver, with ``context`` an HTTPS one; all end with the test."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def make(context: ssl.SSLContext | None = None) -> Receiver:
        receiver = Receiver(0)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(receiver))
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        receiver.port = server.server_address[1]
        running.append((server, serve(server)))
        return receiver

    yield make
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver(make_receiver: Callable[..., Receiver]) -> Receiver:
    """One HTTP receiver."""
    return make_receiver()


@pytest.fixture
def closed_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server_context(tmp_path: Path) -> ssl.SSLContext:
    """TLS for servers named localhost and 127.0.0.1, under an authority nobody knows; see ``trusted``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "authority.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def trusted(server_context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The same context, its authority known the way an operator makes a private one known."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return server_context


@pytest.fixture
def make_message() -> Callable[..., Message]:
    """Return a function that makes a message; fields can be given."""

    def make(**fields: Any) -> Message:
        usual: dict[str, Any] = {
            "delivery": str(uuid.uuid4()),
            "event": "gate_failed",
            "at": dt.datetime(2026, 11, 23, 2, 30, tzinfo=dt.UTC),
            "title": "Gate not passed: nightly",
            "answer": "p99 of envoy is 12 % (0.31 ms) higher than allowed.",
            "url": "https://bench.example.org/runs/1",
            "data": {"subject": "nightly", "run": "1"},
        }
        return Message(**{**usual, **fields})

    return make


@dataclass
class Post:
    """A mail server; ``refusal``: its reply to every receiver."""

    port: int
    mails: list[Envelope] = field(default_factory=list)
    refusal: str | None = None

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if self.refusal is not None:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        self.mails.append(envelope)
        return "250 taken"


@pytest.fixture
def authenticator() -> Callable[..., AuthResult]:
    """Lets one user in."""

    def judge(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == (b"bench@example.org", b"p@ss/word"), handled=False)

    return judge


@pytest.fixture
def make_post(closed_port: int) -> Iterator[Callable[..., Post]]:
    """Return a function that starts a mail server with aiosmtpd's options; it ends with the test."""
    running: list[Controller] = []

    def make(**options: Any) -> Post:
        post = Post(closed_port)
        controller = Controller(post, hostname="127.0.0.1", port=closed_port, **options)
        controller.start()
        running.append(controller)
        return post

    yield make
    for controller in running:
        controller.stop()
