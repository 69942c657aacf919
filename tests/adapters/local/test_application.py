"""The application behind the mesh: exact replies whatever is asked, or a user's program with its health check."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from meshgauge.errors import ConfigurationError, EnvironmentUpError, UnsupportedError
from meshgauge.matrix import MeshArm
from meshgauge.workloads import CommandVersion

SERVER = """
import http.server, sys
class Reply(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(sys.argv[2])
        self.send_response(200 if self.path != "/health" or len(sys.argv) < 4 else 503)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(b"y" * size)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Reply).serve_forever()
"""


def _ask(endpoint: Endpoint, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=10)
    try:
        connection.request(method, path, body=body, headers={"X-Echo": "me"})
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize("size", [0, 1, 1024, 2048, 2049, 100_000, 16 << 20])
def test_the_reply_has_exactly_the_size_for_every_method_path_and_body(
    size: int, arm: Callable[..., MeshArm], orders: Any
) -> None:
    environment = orders.open(orders.key(arm(), reply_bytes=size))
    entry = environment.up(lambda _: None)
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"):
        for body in (None, b"b" * 5000, b"b" * (1 << 20)):
            status, content, headers = _ask(entry, method, "/any/path?with=query", body)
            assert (method, status) == (method, 200)
            assert len(content) == (0 if method == "HEAD" else size)
            assert headers["Content-Length"] == str(size)
            assert "me" not in headers.values()


def test_one_connection_carries_any_number_of_requests(arm: Callable[..., MeshArm], orders: Any) -> None:
    environment = orders.open(orders.key(arm(), reply_bytes=10))
    entry = environment.up(lambda _: None)
    connection = http.client.HTTPConnection(entry.host, entry.port, timeout=10)
    connection.connect()
    first = connection.sock
    for number in range(1500):  # NGINX closes after 1000 by default
        method, body = ("POST", b"b" * 100) if number % 2 else ("GET", None)
        connection.request(method, "/", body=body)
        assert connection.getresponse().read() == b"x" * 10
    assert connection.sock is first
    connection.close()


def test_a_user_program_gets_its_port_size_and_variables(
    arm: Callable[..., MeshArm], orders: Any, tmp_path: Path, failed: Any
) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    version = CommandVersion(
        version="1.0",
        command=(sys.executable, "./server.py", "{port}", "{reply_bytes}"),
        env={"PYTHONUNBUFFERED": "1"},
        working_directory=str(tmp_path),
    )
    environment = orders.open(orders.key(arm("envoy"), command=version, reply_bytes=333, health_path="/health"))
    entry = environment.up(lambda _: None)
    assert _ask(entry, "GET", "/")[:2] == (200, b"y" * 333)
    assert failed(environment.verify_before()) == []
    assert environment.provenance()["app"]["version"] == "1.0"


def test_a_program_that_exits_at_once_is_told_with_the_end_of_its_log(arm: Callable[..., MeshArm], orders: Any) -> None:
    program = "import sys; print('cannot open the database', file=sys.stderr); sys.exit(3)"
    version = CommandVersion(version="1", command=(sys.executable, "-c", program))
    with pytest.raises(EnvironmentUpError, match=r"(?s)app exited with 3.*cannot open the database"):
        orders.open(orders.key(arm(), command=version)).up(lambda _: None)


def test_a_program_that_is_never_healthy_is_told_with_its_address(
    arm: Callable[..., MeshArm], orders: Any, tmp_path: Path
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    version = CommandVersion(version="1", command=(sys.executable, str(tmp_path / "server.py"), "{port}", "1", "sick"))
    key = orders.key(arm(), command=version, health_path="/health", health_timeout_s=1.0)
    with pytest.raises(EnvironmentUpError, match=r"app was not ready on 127\.0\.0\.1:\d+ within 1 s"):
        orders.open(key).up(lambda _: None)


@pytest.mark.parametrize(
    ("command", "directory", "reason"),
    [
        (("no-such-program-here",), None, "no executable 'no-such-program-here'"),
        (("./server",), "/", "no executable './server'"),
        (("/bin/sleep",), "/no/such/directory", "working_directory /no/such/directory does not exist"),
    ],
)
def test_a_program_that_is_not_there_is_named(
    command: tuple[str, ...], directory: str | None, reason: str, arm: Callable[..., MeshArm], orders: Any
) -> None:
    version = CommandVersion(version="1", command=command, working_directory=directory)
    with pytest.raises(ConfigurationError, match=reason):
        orders.open(orders.key(arm(), command=version)).up(lambda _: None)


def test_a_command_that_wants_a_size_needs_one(arm: Callable[..., MeshArm], orders: Any) -> None:
    version = CommandVersion(version="1", command=("/bin/sleep", "{reply_bytes}"))
    with pytest.raises(ConfigurationError, match="give reply_bytes"):
        orders.open(orders.key(arm(), command=version, reply_bytes=None)).up(lambda _: None)


def test_the_fixed_reply_answers_200_and_says_so(arm: Callable[..., MeshArm], orders: Any) -> None:
    with pytest.raises(UnsupportedError, match="answers 200, not 404"):
        orders.open(orders.key(arm(), expected_status=404)).up(lambda _: None)
