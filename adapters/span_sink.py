"""A trace collector that keeps nothing and counts: proxies send it their spans as to Zipkin. Standard library alone.

Run as ``python -m adapters.span_sink --port 9411``. It speaks HTTP/1.1 with keep-alive:

- ``POST /api/v2/spans``: a JSON array of spans, answered 202; anything else is refused and counted as refused.
- ``GET /count``: what came so far, as JSON (:meth:`Tally.document`). ``GET /health``: 200 as soon as it listens.

Source: Zipkin API v2, zipkin2-api.yaml, ``/spans`` and ``Span`` (kind CLIENT, SERVER, PRODUCER, CONSUMER or absent).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SPANS_PATH: Final = "/api/v2/spans"
COUNT_PATH: Final = "/count"
HEALTH_PATH: Final = "/health"

_HEAD_BYTES: Final = 32 << 10
_BODY_BYTES: Final = 1 << 20  # Envoy sends 5 spans at once, some 3 kB
_END_OF_HEAD: Final = b"\r\n\r\n"
_REASONS: Final = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 415: "Unsupported Media Type", 431: "Request Header Fields Too Large",
}  # fmt: skip


class RefusedError(Exception):
    """A request that is no batch of spans, or no HTTP at all.

    Attributes:
        status: of the answer.
        is_readable: whether the next request on the connection can still be told apart.
    """

    def __init__(self, status: int, why: str, *, is_readable: bool = False) -> None:
        super().__init__(why)
        self.status = status
        self.is_readable = is_readable


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    body: bytes
    keeps_alive: bool


@dataclass(slots=True)
class Tally:
    """What came since the collector started.

    Attributes:
        spans: by kind; the empty text: of no kind.
        batches: posts that were taken.
        refused: requests that were not.
    """

    spans: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    refused: int = 0

    def take(self, body: bytes) -> None:
        """Count the spans of one batch: all of them or, where one is none, not one.

        Raises:
            RefusedError: the body is no JSON array of spans.
        """
        try:
            batch = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(400, f"the body is no JSON: {error}", is_readable=True) from error
        if not isinstance(batch, list) or not all(map(_is_span, batch)):
            raise RefusedError(400, "the body is no array of spans with traceId and id", is_readable=True)
        self.spans.update(span.get("kind", "") for span in batch)
        self.batches += 1

    def document(self) -> Mapping[str, Any]:
        """Return the counts as they go over the wire."""
        return {"spans": dict(self.spans), "batches": self.batches, "refused": self.refused}


def _is_span(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("kind", ""), str):
        return False
    return all(isinstance(value.get(key), str) and value[key] for key in ("traceId", "id"))


def take_request(buffer: bytearray) -> Request | None:
    """Take one whole request off the front of ``buffer``; None: it is not all there yet, and nothing is taken.

    Raises:
        RefusedError: it is no HTTP/1.1 request, or too large.
    """
    end = buffer.find(_END_OF_HEAD, 0, _HEAD_BYTES)
    if end < 0:
        if len(buffer) >= _HEAD_BYTES:
            raise RefusedError(431, f"more than {_HEAD_BYTES} bytes of headers")
        return None
    method, path, is_newest, headers = _head(bytes(buffer[:end]))
    start = end + len(_END_OF_HEAD)
    found = _chunked(buffer, start) if "transfer-encoding" in headers else _sized(buffer, start, headers)
    if found is None:
        return None
    body, after = found
    del buffer[:after]
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedError(415, "compressed bodies are not read", is_readable=True)
    asked = headers.get("connection", "").lower()
    return Request(method, path, body, asked != "close" if is_newest else asked == "keep-alive")


def _head(head: bytes) -> tuple[str, str, bool, dict[str, str]]:
    """Return method, path, whether it is HTTP/1.1 (not 1.0), and headers by name in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise RefusedError(400, "no HTTP/1.1 request")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise RefusedError(400, "a header without a colon")
        headers[name.strip().lower()] = value.strip()
    return parts[0], parts[1].partition("?")[0], parts[2] == "HTTP/1.1", headers


def _sized(buffer: bytearray, start: int, headers: Mapping[str, str]) -> tuple[bytes, int] | None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise RefusedError(400, "a content-length that is no number")
    size = _bounded(int(length))
    return (bytes(buffer[start : start + size]), start + size) if len(buffer) >= start + size else None


def _chunked(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    """Return a body in chunks, trailers skipped, and where it ends. Source: RFC 9112, 7.1."""
    body = bytearray()
    while (line := buffer.find(b"\r\n", start)) >= 0:
        try:
            size = int(bytes(buffer[start:line]).partition(b";")[0], 16)
        except ValueError as error:
            raise RefusedError(400, "a chunk without a size") from error
        start = line + 2
        if size == 0:
            return _trailers(buffer, start, bytes(body))
        _bounded(len(body) + max(0, size))
        if size < 0 or (len(buffer) >= start + size + 2 and buffer[start + size : start + size + 2] != b"\r\n"):
            raise RefusedError(400, "a chunk of another size than it says")
        body += buffer[start : start + size]
        start += size + 2
    return None


def _trailers(buffer: bytearray, start: int, body: bytes) -> tuple[bytes, int] | None:
    while (line := buffer.find(b"\r\n", start)) > start:
        start = line + 2
    return (body, start + 2) if line == start else None


def _bounded(size: int) -> int:
    if size > _BODY_BYTES:
        raise RefusedError(413, f"more than {_BODY_BYTES} bytes")
    return size


class Sink(asyncio.Protocol):
    """One connection. Requests that arrive together are answered in one write, in their order."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - asyncio gives TCP connections nothing else
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole by now."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._buffer += data
        answers, goes_on = self._answers()
        if answers:
            transport.write(answers)
        if not goes_on:
            transport.close()

    def _answers(self) -> tuple[bytes, bool]:
        answers = bytearray()
        while True:
            try:
                request = take_request(self._buffer)
                if request is None:
                    return bytes(answers), True
                answers += self._answer(request)
                goes_on = request.keeps_alive
            except RefusedError as error:
                self._tally.refused += 1
                answers += _response(error.status, {"error": str(error)})
                goes_on = error.is_readable
            if not goes_on:
                return bytes(answers), False

    def _answer(self, request: Request) -> bytes:
        asked = (request.method, request.path)
        if asked == ("POST", SPANS_PATH):
            self._tally.take(request.body)
            return _response(202, None)
        if asked == ("GET", COUNT_PATH):
            return _response(200, self._tally.document())
        if asked == ("GET", HEALTH_PATH):
            return _response(200, {"status": "UP"})
        is_known = request.path in (SPANS_PATH, COUNT_PATH, HEALTH_PATH)
        raise RefusedError(405 if is_known else 404, f"no {request.method} {request.path} here", is_readable=True)


def _response(status: int, content: Mapping[str, Any] | None) -> bytes:
    body = b"" if content is None else json.dumps(content).encode() + b"\n"
    kind = "" if content is None else "content-type: application/json\r\n"
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{kind}content-length: {len(body)}\r\n\r\n".encode() + body


async def serve(host: str, port: int, tally: Tally) -> asyncio.Server:
    """Listen on ``host``, and on ``port`` or, when it is 0, on one the system gives."""
    return await asyncio.get_running_loop().create_server(lambda: Sink(tally), host, port)


async def _run(host: str, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = await serve(host, port, Tally())
    sys.stdout.write(f"listening on {host}:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()
    server.close()


def main() -> None:
    """Collect until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - of its pod
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0: one the system gives")
    asked = parser.parse_args()
    asyncio.run(_run(asked.host, asked.port))


if __name__ == "__main__":
    main()
