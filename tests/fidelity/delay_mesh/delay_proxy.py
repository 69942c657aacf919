#!/usr/bin/env python3
"""A proxy that holds every request for a known time, then passes it on: the mesh whose cost is the truth.

One thread a connection: ``time.sleep`` is then a nanosleep of its own, which no other request delays.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import threading
import time

_PR_SET_TIMERSLACK = 29


class Counter:
    """Requests seen, as the admin port tells them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self) -> None:
        """Count one request."""
        with self._lock:
            self.value += 1


def message(connection: socket.socket, rest: bytes) -> tuple[bytes, bytes] | None:
    """Return one whole HTTP message and what came after it; None when the peer has closed."""
    while b"\r\n\r\n" not in rest:
        piece = connection.recv(65_536)
        if not piece:
            return None
        rest += piece
    head, _, rest = rest.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = lengths[0] if lengths else 0
    while len(rest) < wanted:
        piece = connection.recv(65_536)
        if not piece:
            return None
        rest += piece
    return head + b"\r\n\r\n" + rest[:wanted], rest[wanted:]


def serve(client: socket.socket, upstream_port: int, delay_s: float, counter: Counter) -> None:
    """Pass messages between one client and an upstream connection of its own."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, socket.create_connection(("127.0.0.1", upstream_port)) as upstream:
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        from_client, from_upstream = b"", b""
        while (request := message(client, from_client)) is not None:
            counter.add()
            time.sleep(delay_s)
            upstream.sendall(request[0])
            reply = message(upstream, from_upstream)
            if reply is None:
                return
            client.sendall(reply[0])
            from_client, from_upstream = request[1], reply[1]


def main(listen_port: int, upstream_port: int, admin_port: int, delay_s: float) -> None:
    """Listen for ever; the admin port answers every connection with the number of requests."""
    counter = Counter()

    def tell() -> None:
        with socket.create_server(("127.0.0.1", admin_port)) as admin:
            while True:
                asker, _ = admin.accept()
                with asker:
                    asker.sendall(str(counter.value).encode())

    threading.Thread(target=tell, daemon=True).start()
    with socket.create_server(("127.0.0.1", listen_port), backlog=1024) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(target=serve, args=(client, upstream_port, delay_s, counter), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
