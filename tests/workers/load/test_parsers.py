"""Both HTTP/1.1 parsers, fuzzed: the same answer for the same bytes, however they are cut."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.load.engine.http1 import ProtocolError, ResponseParser
from workers.load.engine.library import load_library

Answer = tuple[str, int, int, bool, int]


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut data into pieces of the given sizes, the last size repeated."""
    at, number = 0, 0
    while at < len(data):
        size = sizes[min(number, len(sizes) - 1)]
        yield data[at : at + size]
        at, number = at + size, number + 1


def ask_python(data: bytes, sizes: list[int], *, is_head: bool) -> Answer:
    parser = ResponseParser(is_head=is_head)
    used = 0
    try:
        for piece in cut(data, sizes):
            taken = parser.feed(piece)
            used += taken
            if taken < len(piece):
                break
    except ProtocolError:
        return ("broken", 0, 0, True, 0)
    parser.eof()
    if parser.phase == "complete":
        return ("complete", parser.status, parser.body_bytes, parser.closes, used)
    return ("cut short", 0, parser.body_bytes, True, used)


def ask_native(data: bytes, sizes: list[int], *, is_head: bool) -> Answer:
    library = load_library()
    parser = ctypes.c_void_p(library.mg_parser_new(int(is_head)))
    try:
        used = 0
        for piece in cut(data, sizes):
            taken = library.mg_parser_feed(parser, piece, len(piece))
            if taken < 0:
                return ("broken", 0, 0, True, 0)
            used += taken
            if taken < len(piece):
                break
        library.mg_parser_eof(parser)
        status = library.mg_parser_status(parser)
        body_bytes = library.mg_parser_body_bytes(parser)
        if status:
            return ("complete", status, body_bytes, bool(library.mg_parser_closes(parser)), used)
        return ("cut short", 0, body_bytes, True, used)
    finally:
        library.mg_parser_free(parser)


_FRAGMENTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 404\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 x\n", b"HTTP/1.1 101 Switching\r\n", b"HTTP/1.1 999 no\r\n",
        b"HTTP/2 200\r\n", b"Content-Length: 5\r\n", b"content-length:0\r\n", b"Content-Length: 007\r\n",
        b"Content-Length: -1\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n", b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n", b"Connection: close\r\n", b"Connection: Keep-Alive, upgrade\r\n",
        b"connection: x,close\r\n", b"X-Long: " + b"v" * 3000 + b"\r\n", b" folded: 1\r\n", b"no colon\r\n", b": x\r\n",
        b"\r\n", b"\n", b"\r", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"A;ext=1\r\n0123456789\r\n",
        b"fffffffffffffff\r\n",
        b"1000000000000000\r\n", b"g\r\n", b"5\r\nhelloX\r\n", b"0\r\nTrailer: x\r\n\r\n", b"\x00", b"\xff\xfe",
    ]
)  # fmt: skip
_RESPONSES = st.lists(_FRAGMENTS | st.binary(max_size=12), max_size=12).map(b"".join)
_SIZES = st.lists(st.integers(1, 40) | st.just(100_000), min_size=1, max_size=6)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=_RESPONSES, sizes=_SIZES, is_head=st.booleans())
def test_both_parsers_agree_on_any_bytes(data: bytes, sizes: list[int], is_head: bool) -> None:
    assert ask_native(data, sizes, is_head=is_head) == ask_python(data, sizes, is_head=is_head)


@settings(max_examples=300, deadline=None)
@given(data=_RESPONSES, sizes=_SIZES, is_head=st.booleans())
def test_how_bytes_are_cut_changes_nothing(data: bytes, sizes: list[int], is_head: bool) -> None:
    whole, pieces = (ask_native(data, how, is_head=is_head) for how in ([len(data) + 1], sizes))
    assert whole == pieces


@st.composite
def _valid_responses(draw: st.DrawFn) -> tuple[bytes, int, int]:
    status = draw(st.sampled_from([200, 201, 301, 404, 503]))
    body = draw(st.binary(max_size=200))
    name = draw(st.sampled_from([b"Content-Length", b"CONTENT-LENGTH", b"content-length"]))
    head = b"HTTP/1.1 %d Reason\r\nServer: x\r\n" % status
    if draw(st.booleans()):
        return head + name + b": %d\r\n\r\n" % len(body) + body, status, len(body)
    chunks, at = b"", 0
    while at < len(body):
        size = draw(st.integers(1, 50))
        part = body[at : at + size]
        chunks += b"%x\r\n%s\r\n" % (len(part), part)
        at += size
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", status, len(body)


@settings(max_examples=300, deadline=None)
@given(response=_valid_responses(), sizes=_SIZES, after=st.binary(max_size=20))
def test_valid_responses_are_read_to_their_last_byte_and_no_further(
    response: tuple[bytes, int, int], sizes: list[int], after: bytes
) -> None:
    data, status, body_bytes = response
    for ask in (ask_native, ask_python):
        assert ask(data, sizes, is_head=False) == ("complete", status, body_bytes, False, len(data))
        assert ask(data + after, [len(data) + len(after)], is_head=False)[4] == len(data)


@pytest.mark.parametrize("ask", [ask_native, ask_python])
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
        b"H" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"e" * 9_000,
    ],
)
def test_endless_heads_are_refused(ask: object, data: bytes) -> None:
    assert callable(ask)
    assert ask(data, [1000], is_head=False)[0] == "broken"
