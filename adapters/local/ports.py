"""Free loopback ports, held until the program that needs them is about to start."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from adapters.contract import Endpoint

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def held_ports(count: int) -> Iterator[tuple[tuple[Endpoint, ...], contextlib.ExitStack]]:
    """Yield ``count`` free endpoints the system gave, and the stack whose ``close`` lets go of them.

    Between that and the program's own bind somebody else may take one; the caller then tries again with others.
    """
    with contextlib.ExitStack() as holders:
        endpoints = []
        for _ in range(count):
            holder = holders.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            holder.bind((LOOPBACK, 0))
            endpoints.append(Endpoint(*holder.getsockname()))
        yield tuple(endpoints), holders


def is_port_conflict(log: str) -> bool:
    """Return whether a program's log says that it could not bind its port."""
    lowered = log.lower()
    return any(sign in lowered for sign in ("address already in use", "address in use", "eaddrinuse"))
