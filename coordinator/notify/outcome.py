"""What came of one attempt to send a notice, and the time it may take."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SAID_CHARACTERS = 160  # of a receiver's answer: enough for "invalid_payload", too little to be a store


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt.

    Attributes:
        said: what the receiver answered, or why nothing reached it; one line.
        again: whether another attempt may succeed; False for what was sent.
        pause_s: wait the receiver asked for before the next attempt; None: it asked for none.
    """

    sent: bool
    said: str
    again: bool = False
    pause_s: float | None = None


def one_line(text: str, most: int = SAID_CHARACTERS) -> str:
    """Return ``text`` without line breaks and control characters, cut to ``most`` characters."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


class Deadline:
    """Cuts a conversation after ``seconds``: time-outs of single reads let a slow talker go on for ever."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.has_passed = False
        self._lock = threading.Lock()
        self._watched: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            if self._watched is not None:
                self._watched.close()
                self._watched = None

    def watch(self, connected: socket.socket) -> None:
        """Cut this connection when the time is over; a copy is kept, so that TLS may wrap the original."""
        with self._lock:
            if self._watched is not None:
                self._watched.close()
            self._watched = socket.socket(fileno=os.dup(connected.fileno()))
            if self.has_passed:
                self._shut(self._watched)

    def _cut(self) -> None:
        with self._lock:
            self.has_passed = True
            if self._watched is not None:
                self._shut(self._watched)

    @staticmethod
    def _shut(connected: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other side was faster
            connected.shutdown(socket.SHUT_RDWR)
