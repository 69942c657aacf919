"""A target whose delays and faults are known: one thread, epoll, its own counts. Run as a process.

It reads its behaviour as JSON from argv, prints its port, answers each line on standard input with its counts.
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import statistics
import struct
import sys
import time
from dataclasses import dataclass, field

from workers.load.engine.osthreads import Timer, set_timer_slack_ns


@dataclass
class Behaviour:
    """What the target does. Every 100th request of a kind of fault gets it, at different offsets."""

    body_bytes: int = 1024
    delay_s: float = 0.0
    reply: str | None = None  # raw bytes, latin-1, instead of the normal reply
    piece_bytes: int = 0  # send replies in pieces of this size
    close_after: int = 0  # close each connection after so many replies
    silent_close: bool = False  # with close_after: without announcing it
    with_503: bool = False
    with_resets: bool = False
    with_stalls: bool = False
    freeze_at_s: float | None = None  # after the first request
    freeze_s: float = 1.0
    port: int = 0  # 0: the system's choice


@dataclass
class Counts:
    """What the target saw and did."""

    connections: int = 0
    requests: int = 0
    ok: int = 0
    status_503: int = 0
    resets: int = 0
    stalls: int = 0
    holds_s: list[float] = field(default_factory=list)

    def report(self) -> str:
        plain = {key: value for key, value in vars(self).items() if key != "holds_s"}
        plain["hold_p50_s"] = statistics.median(self.holds_s) if self.holds_s else None
        return json.dumps(plain)


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.unsent = b""
        self.replies = 0


class TargetServer:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.counts = Counts()
        self.listener = socket.create_server(("127.0.0.1", behaviour.port), backlog=1024)
        self.listener.setblocking(False)
        self.timer = Timer()
        self.epoll = select.epoll()
        for fd in (self.listener.fileno(), self.timer.fd, sys.stdin.fileno()):
            self.epoll.register(fd, select.EPOLLIN)
        self.clients: dict[int, Client] = {}
        self.due: list[tuple[int, int, int, Client]] = []
        self.first_ns: int | None = None
        self.has_frozen = False

    def run(self) -> None:
        set_timer_slack_ns(1)
        tell(str(self.listener.getsockname()[1]))
        while True:
            for fd, events in self.epoll.poll():
                if fd == self.listener.fileno():
                    self.accept()
                elif fd == sys.stdin.fileno():
                    if not sys.stdin.readline():
                        return
                    tell(self.counts.report())
                elif fd in self.clients:
                    self.on_client(fd, events)
            self.freeze_once()
            self.answer_due()

    def accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counts.connections += 1
        self.clients[connection.fileno()] = Client(connection)
        self.epoll.register(connection.fileno(), select.EPOLLIN)

    def drop(self, client: Client) -> None:
        if client.connection.fileno() >= 0:
            self.epoll.unregister(client.connection.fileno())
            del self.clients[client.connection.fileno()]
            client.connection.close()

    def on_client(self, fd: int, events: int) -> None:
        client = self.clients[fd]
        if events & select.EPOLLOUT:
            self.flush(client)
        if not events & ~select.EPOLLOUT or client.connection.fileno() < 0:
            return
        try:
            data = client.connection.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.drop(client)
            return
        client.received += data
        while self.take_request(client) and client.connection.fileno() >= 0:
            self.on_request(client)

    def take_request(self, client: Client) -> bool:
        head, separator, rest = client.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        if len(rest) < length:
            return False
        client.received = rest[length:]
        return True

    def on_request(self, client: Client) -> None:
        now = time.monotonic_ns()
        self.first_ns = self.first_ns or now
        number = self.counts.requests
        self.counts.requests += 1
        behaviour = self.behaviour
        if behaviour.with_resets and number % 100 == 37:
            self.counts.resets += 1
            client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.drop(client)
        elif behaviour.with_stalls and number % 100 == 67:
            self.counts.stalls += 1
        else:
            heapq.heappush(self.due, (now + round(behaviour.delay_s * 1e9), number, now, client))

    def answer_due(self) -> None:
        while self.due and self.due[0][0] <= time.monotonic_ns():
            _, number, received_ns, client = heapq.heappop(self.due)
            if client.connection.fileno() >= 0:
                self.answer(client, number)
                self.counts.holds_s.append((time.monotonic_ns() - received_ns) / 1e9)
        self.timer.set(self.due[0][0] if self.due else None)

    def answer(self, client: Client, number: int) -> None:
        behaviour = self.behaviour
        client.replies += 1
        closes = bool(behaviour.close_after) and client.replies >= behaviour.close_after
        says = b"Connection: close\r\n" if closes and not behaviour.silent_close else b""
        if behaviour.with_503 and number % 100 == 7:
            self.counts.status_503 += 1
            reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
        elif behaviour.reply is not None:
            reply = behaviour.reply.encode("latin-1")
        else:
            self.counts.ok += 1
            body = b"y" * behaviour.body_bytes
            reply = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (says, len(body), body)
        size = behaviour.piece_bytes or len(reply)
        for at in range(0, len(reply), size):
            client.unsent += reply[at : at + size]
            self.flush(client)
            if behaviour.piece_bytes:
                time.sleep(0.0002)
        if closes and not client.unsent:
            self.drop(client)

    def flush(self, client: Client) -> None:
        try:
            sent = client.connection.send(client.unsent) if client.unsent else 0
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            self.drop(client)
            return
        client.unsent = client.unsent[sent:]
        interest = select.EPOLLIN | (select.EPOLLOUT if client.unsent else 0)
        self.epoll.modify(client.connection.fileno(), interest)

    def freeze_once(self) -> None:
        freeze_at_s = self.behaviour.freeze_at_s
        if freeze_at_s is None or self.first_ns is None or self.has_frozen:
            return
        if time.monotonic_ns() - self.first_ns > freeze_at_s * 1e9:
            self.has_frozen = True
            time.sleep(self.behaviour.freeze_s)


if __name__ == "__main__":
    TargetServer(Behaviour(**json.loads(sys.argv[1]))).run()
