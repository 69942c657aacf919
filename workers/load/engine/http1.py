"""An HTTP/1.1 response parser that may be fed in pieces of any size; http1.c is its twin."""

from __future__ import annotations

import re
from typing import Literal

Phase = Literal[
    "status",
    "headers",
    "body",
    "until_close",
    "chunk_size",
    "chunk_data",
    "chunk_end",
    "trailers",
    "complete",
    "broken",
]

LINE_BYTES = 8192
HEAD_BYTES = 65_536

_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: .*)?\Z", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[; \t].*)?\Z", re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,18}\Z")


class ProtocolError(ValueError):
    """The peer does not speak HTTP/1.1."""


class ResponseParser:
    """Parses one response; ``reset`` makes it ready for the next."""

    __slots__ = (
        "_body_left",
        "_chunked",
        "_head_bytes",
        "_http10",
        "_is_head",
        "_length",
        "_line",
        "_other_coding",
        "_says_close",
        "_says_keep_alive",
        "body_bytes",
        "phase",
        "status",
    )

    def __init__(self, *, is_head: bool) -> None:
        self._is_head = is_head
        self.reset()

    def reset(self) -> None:
        """Forget the last response."""
        self.phase: Phase = "status"
        self.status = 0
        self.body_bytes = 0
        self._body_left = 0
        self._length: int | None = None
        self._chunked = self._other_coding = self._says_close = self._says_keep_alive = self._http10 = False
        self._line = b""
        self._head_bytes = 0

    @property
    def closes(self) -> bool:
        """Whether the connection cannot carry another request."""
        if self._says_close or self.phase != "complete":
            return True
        return self._http10 and not self._says_keep_alive

    def feed(self, data: bytes) -> int:
        """Take bytes; return how many were used: fewer than given once the response is complete.

        Raises:
            ProtocolError: this is not HTTP/1.1.
        """
        at = 0
        while at < len(data) and self.phase != "complete":
            if self.phase == "broken":
                raise ProtocolError("fed after an error")
            if self.phase in ("body", "chunk_data", "until_close"):
                at += self._feed_body(len(data) - at)
                continue
            try:
                at = self._feed_line(data, at)
            except ProtocolError:
                self.phase = "broken"
                raise
        return at

    def eof(self) -> bool:
        """The peer closed: return whether that completes the response."""
        if self.phase != "until_close":
            return False
        self.phase = "complete"
        self._says_close = True
        return True

    def _feed_body(self, available: int) -> int:
        if self.phase == "until_close":
            self.body_bytes += available
            return available
        used = min(available, self._body_left)
        self.body_bytes += used
        self._body_left -= used
        if self._body_left == 0:
            self.phase = "complete" if self.phase == "body" else "chunk_end"
        return used

    def _feed_line(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at)
        end = len(data) if newline < 0 else newline
        after = len(data) if newline < 0 else newline + 1
        text = self._line + data[at:end]
        self._head_bytes += after - at
        if len(text) > LINE_BYTES or self._head_bytes > HEAD_BYTES:
            raise ProtocolError("head too long")
        if newline < 0:
            self._line = text
        else:
            self._line = b""
            self._take_line(text[:-1] if text.endswith(b"\r") else text)
        return after

    def _take_line(self, line: bytes) -> None:
        if self.phase == "headers":
            if line:
                self._header(line)
            else:
                self._head_done()
        elif self.phase == "status":
            self._status_line(line)
        elif self.phase == "chunk_size":
            self._chunk_size(line)
        elif self.phase == "chunk_end":
            if line:
                raise ProtocolError("bytes between a chunk and its end")
            self.phase = "chunk_size"
        elif not line:  # the empty line after the trailers
            self.phase = "complete"

    def _status_line(self, line: bytes) -> None:
        found = _STATUS_LINE.match(line)
        if not found:
            raise ProtocolError("no status line")
        self.status = int(found[2])
        if not 100 <= self.status <= 599 or self.status == 101:
            raise ProtocolError("status out of range")
        self._http10 = found[1] == b"0"
        self.phase = "headers"

    def _header(self, line: bytes) -> None:
        name, colon, value = line.partition(b":")
        if not colon or not name or line[:1] in (b" ", b"\t"):
            raise ProtocolError("malformed header")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length":
            self._content_length(value)
        elif name == b"transfer-encoding":
            self._transfer_codings(value)
        elif name == b"connection":
            tokens = {token.strip(b" \t").lower() for token in value.split(b",")}
            self._says_close |= b"close" in tokens
            self._says_keep_alive |= b"keep-alive" in tokens

    def _content_length(self, value: bytes) -> None:
        if not _LENGTH.match(value) or (self._length is not None and self._length != int(value)):
            raise ProtocolError("bad content length")
        self._length = int(value)

    def _transfer_codings(self, value: bytes) -> None:
        """RFC 9112 6.1: chunked must come last, and once; any other coding ends with the connection."""
        for token in (token.strip(b" \t").lower() for token in value.split(b",")):
            if not token:
                continue
            if self._chunked:
                raise ProtocolError("a coding after chunked")
            if token == b"chunked":
                self._chunked = True
            else:
                self._other_coding = True

    def _head_done(self) -> None:
        """RFC 9112 6.3: how long the body is."""
        if self.status < 200:
            head_bytes = self._head_bytes  # interim responses share the limit: no endless run of them
            self.reset()
            self._head_bytes = head_bytes
        elif self._is_head or self.status in (204, 304):
            self.phase = "complete"
        elif self._chunked:
            self.phase = "chunk_size"
        elif self._other_coding or self._length is None:
            self.phase = "until_close"
        else:
            self._body_left = self._length
            self.phase = "body" if self._length else "complete"

    def _chunk_size(self, line: bytes) -> None:
        found = _CHUNK_SIZE.match(line)
        if not found:
            raise ProtocolError("bad chunk size")
        self._body_left = int(found[1], 16)
        self._head_bytes = 0  # a body may have any number of chunks
        self.phase = "chunk_data" if self._body_left else "trailers"
