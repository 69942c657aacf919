"""Connections of the pure-Python engine: which are free, which wait for something, and since when."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any, Literal

from workers.load.engine.contract import Target
from workers.load.engine.http1 import ResponseParser
from workers.load.engine.osthreads import unpatched
from workers.load.engine.portable_tally import Stats

RETRY_AFTER_NS = 5_000_000  # pause before a connection that got nowhere is tried again

_EPOLLIN, _EPOLLOUT = 1, 4


class Connection:
    """One slot: a socket, the request on it, and its parser."""

    __slots__ = (
        "fd", "free_since_ns", "intended_ns", "parser", "sent_bytes", "sent_ns", "served", "since_ns", "slot",
        "socket", "state",
    )  # fmt: skip

    def __init__(self, slot: int, *, is_head: bool) -> None:
        self.slot = slot
        self.socket: Any = None
        self.fd = -1
        self.state: Literal["closed", "connecting", "idle", "busy", "retry"] = "closed"
        self.served = 0  # replies on this socket
        self.since_ns = 0  # of a connect, a send or a failure: deadlines count from here
        self.sent_bytes = 0
        self.intended_ns = self.free_since_ns = self.sent_ns = 0
        self.parser = ResponseParser(is_head=is_head)


class Connections:
    """All slots of one engine, by state. Every dict is in the order of waiting: its first entry is due first."""

    def __init__(self, target: Target, stats: Stats) -> None:
        self._address = (target.host, target.port)
        self._stats = stats
        self._slots = [Connection(slot, is_head=target.is_head) for slot in range(target.capacity)]
        self._open_socket = unpatched("_socket", "socket")
        self.epoll = unpatched("select", "epoll")()
        self.by_fd: dict[int, Connection] = {}
        self.idle: dict[Connection, None] = {}  # longest free first, so requests go round
        self.pending: dict[Connection, None] = {}  # connecting or busy
        self.retrying: dict[Connection, None] = {}
        self.applied = 0
        # Sockets are opened after a round of events, so that no event of a closed descriptor meets its successor.
        self._to_open: list[Connection] = []

    def adjust(self, wanted: int) -> None:
        """Open or close slots until ``wanted`` are in use; busy ones close with their reply."""
        wanted = min(wanted, len(self._slots))
        low, high = sorted((wanted, self.applied))
        self.applied = wanted
        for connection in self._slots[low:high]:
            if connection.state == "closed" and connection.slot < wanted:
                self._to_open.append(connection)
            elif connection.state != "busy" and connection.slot >= wanted:
                self.shut(connection)

    def take_to_open(self) -> list[Connection]:
        """Return the slots whose time has come to be opened."""
        waiting, self._to_open = self._to_open, []
        return [connection for connection in waiting if connection.slot < self.applied]

    def take_retries(self, now_ns: int) -> None:
        """Queue the slots whose pause is over."""
        while self.retrying:
            connection = next(iter(self.retrying))
            if connection.since_ns + RETRY_AFTER_NS > now_ns:
                return
            self.shut(connection)
            self._to_open.append(connection)

    def open(self, connection: Connection, now_ns: int) -> int:
        """Start connecting; return 0 or an errno."""
        connection.since_ns = now_ns
        connection.served = 0
        try:
            connection.socket = self._open_socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            return error.errno or errno.EIO
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        result: int = connection.socket.connect_ex(self._address)
        if result not in (0, errno.EINPROGRESS):
            return result
        connection.state = "connecting"
        connection.fd = connection.socket.fileno()
        self.by_fd[connection.fd] = connection
        self.pending[connection] = None
        self.epoll.register(connection.fd, _EPOLLOUT)
        return 0

    def connected(self, connection: Connection) -> int:
        """Finish connecting; return 0 or the errno it failed with."""
        result: int = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            return result
        self.watch(connection, writable=False)
        self.free(connection, time.monotonic_ns())
        self._stats.connections_open += 1
        self._stats.connections_opened += 1
        return 0

    def free(self, connection: Connection, now_ns: int) -> None:
        """Let the connection take requests."""
        self.pending.pop(connection, None)
        connection.state = "idle"
        connection.free_since_ns = now_ns
        self.idle[connection] = None

    def watch(self, connection: Connection, *, writable: bool) -> None:
        """Say which events matter; readable always does."""
        self.epoll.modify(connection.fd, _EPOLLIN | (_EPOLLOUT if writable else 0))

    def shut(self, connection: Connection) -> None:
        """Close the socket and leave the slot empty."""
        for waiting in (self.idle, self.pending, self.retrying):
            waiting.pop(connection, None)
        if connection.socket is not None:
            connection.socket.close()
            connection.socket = None
        self.by_fd.pop(connection.fd, None)
        if connection.state in ("idle", "busy"):
            self._stats.connections_open -= 1
        connection.fd = -1
        connection.state = "closed"

    def retry_later(self, connection: Connection, now_ns: int) -> None:
        """Pause before the slot is opened again."""
        self.shut(connection)
        connection.state = "retry"
        connection.since_ns = now_ns
        self.retrying[connection] = None

    def replace(self, connection: Connection, now_ns: int) -> None:
        """Close the socket and see to its successor."""
        served = connection.served
        self.shut(connection)
        if connection.slot >= self.applied:
            return
        if served:
            self._to_open.append(connection)
        else:
            self.retry_later(connection, now_ns)

    @property
    def has_work_to_open(self) -> bool:
        """Whether slots wait to be opened right now."""
        return bool(self._to_open)

    def close_all(self) -> None:
        """Close every socket."""
        for connection in self._slots:
            self.shut(connection)
