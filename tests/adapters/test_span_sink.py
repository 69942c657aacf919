"""The trace collector over real sockets: what it takes, what it refuses, and that its counts are right."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from adapters.span_sink import COUNT_PATH, HEALTH_PATH, SPANS_PATH

SPAN = {"traceId": "463ac35c9f6413ad48485a3953bb6124", "id": "a2fb4a1d1a96d312", "kind": "SERVER", "name": "get"}


def batch(*kinds: str | None) -> bytes:
    """Return a body of spans of these kinds; None: a span without one."""
    spans = [{key: value for key, value in SPAN.items() if key != "kind"} for _ in kinds]
    return json.dumps([s | ({} if k is None else {"kind": k}) for s, k in zip(spans, kinds, strict=True)]).encode()


class Listening:
    """The program, on a port the system gave."""

    def __init__(self) -> None:
        argv = [sys.executable, "-m", "adapters.span_sink", "--host", "127.0.0.1", "--port", "0"]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self._before = self._told()

    def forget(self) -> None:
        """Count from here."""
        self._before = self._told()

    def close(self) -> int:
        """Tell it to end, and return the code it ended with."""
        with self.process as process:
            process.terminate()
            return process.wait(10)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = self.connect()
        try:
            return answer(connection, method, path, body, **headers)
        finally:
            connection.close()

    def count(self) -> dict[str, Any]:
        """Return what came since the test began; kinds that did not come are left out."""
        now, before = self._told(), self._before
        spans = {kind: count - before["spans"].get(kind, 0) for kind, count in now["spans"].items()}
        told = {name: now[name] - before[name] for name in ("batches", "refused")}
        return {"spans": {kind: count for kind, count in spans.items() if count}, **told}

    def _told(self) -> dict[str, Any]:
        status, content = self.ask("GET", COUNT_PATH)
        assert status == 200
        return dict(content)

    def raw(self, *parts: bytes) -> bytes:
        """Send parts one after the other, say no more, and return all that comes back until the collector closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            said = b""
            while data := connection.recv(65_536):
                said += data
            return said


def answer(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    content = reply.read()
    return reply.status, json.loads(content) if content else None


def post(body: bytes, *headers: str) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"POST {SPANS_PATH} HTTP/1.1", "Host: collector", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture(scope="module")
def program() -> Iterator[Listening]:
    """A collector that listens."""
    found = Listening()
    yield found
    found.close()


@pytest.fixture
def collector(program: Listening) -> Listening:
    """The collector, which counts from here."""
    program.forget()
    return program


def test_spans_are_counted_by_their_kind(collector: Listening) -> None:
    assert collector.ask("GET", HEALTH_PATH) == (200, {"status": "UP"})
    assert collector.count() == {"spans": {}, "batches": 0, "refused": 0}
    assert collector.ask("POST", SPANS_PATH, batch("CLIENT", "SERVER", "SERVER", None)) == (202, None)
    assert collector.ask("POST", SPANS_PATH, b"[]") == (202, None)
    assert collector.count() == {"spans": {"CLIENT": 1, "SERVER": 2, "": 1}, "batches": 2, "refused": 0}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"not json", {}, 400),
        (b'{"traceId": "a", "id": "b"}', {}, 400),
        (b"[1]", {}, 400),
        (b'[{"id": "b"}]', {}, 400),
        (b'[{"traceId": "", "id": "b"}]', {}, 400),
        (b'[{"traceId": "a", "id": "b", "kind": 3}]', {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (batch("SERVER"), {"content_encoding": "gzip"}, 415),
    ],
)
def test_what_is_no_batch_of_spans_is_refused_and_the_connection_goes_on(
    collector: Listening, body: bytes, headers: dict[str, str], status: int
) -> None:
    connection = collector.connect()
    refused, said = answer(connection, "POST", SPANS_PATH, body, **headers)
    assert (refused, list(said)) == (status, ["error"])
    used = connection.sock
    assert answer(connection, "POST", SPANS_PATH, batch("SERVER"))[0] == 202
    assert connection.sock is used, "the connection was opened anew"
    connection.close()
    assert collector.count() == {"spans": {"SERVER": 1}, "batches": 1, "refused": 1}


def test_a_batch_with_one_bad_span_is_not_counted_in_part(collector: Listening) -> None:
    body = json.dumps([SPAN, SPAN, {"id": "alone"}]).encode()
    assert collector.ask("POST", SPANS_PATH, body)[0] == 400
    assert collector.count()["spans"] == {}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", SPANS_PATH, 405), ("POST", COUNT_PATH, 405), ("POST", "/api/v1/spans", 404)]
)
def test_other_requests_are_told_apart(collector: Listening, method: str, path: str, status: int) -> None:
    assert collector.ask(method, path, b"[]" if method == "POST" else None)[0] == status
    assert collector.count()["refused"] == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /api/v2/spans HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /api/v2/spans HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /api/v2/spans HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST /api/v2/spans HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n", 400),
        (b"POST /api/v2/spans HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n[]\r\n", 400),
        (b"POST /api/v2/spans HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]]]\r\n0\r\n\r\n", 400),
        (b"POST /api/v2/spans HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000, 431),
    ],
)
def test_what_cannot_be_told_apart_ends_the_connection(collector: Listening, sent: bytes, status: int) -> None:
    assert collector.raw(sent).startswith(f"HTTP/1.1 {status} ".encode())
    assert collector.count()["refused"] == 1


def test_requests_that_come_together_are_answered_in_their_order(collector: Listening) -> None:
    said = collector.raw(post(batch("CLIENT")) + post(b"{}") + post(batch("SERVER"), "Connection: close"))
    assert re.findall(rb"HTTP/1\.1 ([0-9]+) ", said) == [b"202", b"400", b"202"]
    assert collector.count()["spans"] == {"CLIENT": 1, "SERVER": 1}


def test_a_request_may_come_byte_by_byte_and_in_chunks(collector: Listening) -> None:
    body = batch("SERVER", "CLIENT")
    whole = post(body, "Connection: close")
    assert collector.raw(*(whole[at : at + 1] for at in range(len(whole)))).startswith(b"HTTP/1.1 202 ")
    chunks = b"".join(b"%x;of=spans\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    head = f"POST {SPANS_PATH} HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode()
    assert collector.raw(head, chunks[:20], chunks[20:], b"0\r\nx-trailer: 1\r\n\r\n").startswith(b"HTTP/1.1 202 ")
    assert collector.count() == {"spans": {"SERVER": 2, "CLIENT": 2}, "batches": 2, "refused": 0}


def test_a_body_that_never_ends_counts_for_nothing(collector: Listening) -> None:
    assert collector.raw(post(batch("SERVER"))[:-1]) == b""
    assert collector.count() == {"spans": {}, "batches": 0, "refused": 0}


def test_an_older_client_is_answered_and_let_go(collector: Listening) -> None:
    body = batch("SERVER")
    head = f"POST {SPANS_PATH} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert collector.raw(head, body).startswith(b"HTTP/1.1 202 ")


def test_many_connections_at_once_lose_nothing(collector: Listening) -> None:
    def send(number: int) -> set[int]:
        connection = collector.connect()
        kinds = ["CLIENT" if number % 2 else "SERVER"] * 5
        statuses = {answer(connection, "POST", SPANS_PATH, batch(*kinds))[0] for _ in range(100)}
        connection.close()
        return statuses

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(send, range(16))) == {202}
    assert collector.count() == {"spans": {"SERVER": 4000, "CLIENT": 4000}, "batches": 1600, "refused": 0}


def test_it_ends_when_told_to_although_a_proxy_is_connected() -> None:
    collector = Listening()
    connection = collector.connect()
    assert answer(connection, "POST", SPANS_PATH, batch("SERVER"))[0] == 202
    assert collector.close() == 0
    connection.close()
