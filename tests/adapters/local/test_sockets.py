"""Who is connected to whom is read off the kernel's tables."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from adapters.contract import Endpoint
from adapters.local import procfs
from adapters.local.procfs import Connection
from adapters.local.sockets import STRANGER, Parties, link_to

A, B, C = (Endpoint("127.0.0.1", port) for port in (1001, 1002, 1003))


def test_both_ends_are_attributed() -> None:
    table = [Connection(A, C, 1), Connection(C, A, 2), Connection(B, C, 3), Connection(C, B, 4)]
    link = link_to(C, table, {1: "client", 3: "client", 2: "server", 4: "server"})
    assert link.opened_by == {"client": 2}
    assert link.served_by == {"server"}


def test_an_unknown_holder_is_a_stranger_and_a_closing_end_is_nobody() -> None:
    table = [Connection(A, C, 9), Connection(B, C, 0), Connection(C, A, 0)]
    link = link_to(C, table, {})
    assert link.opened_by == {STRANGER: 1}
    assert link.served_by == frozenset()


@pytest.fixture
def connected() -> Iterator[tuple[Endpoint, socket.socket, socket.socket]]:
    """A listener's address and both ends of a connection to it, all held by this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(*server.getsockname())
        with socket.create_connection((endpoint.host, endpoint.port)) as client:
            accepted, _ = server.accept()
            with accepted:
                yield endpoint, client, accepted


def test_the_kernel_names_holder_listener_and_connection(
    connected: tuple[Endpoint, socket.socket, socket.socket],
) -> None:
    endpoint, client, accepted = connected
    owners = Parties({"me": [os.getpid()]}).owners()
    link = link_to(endpoint, procfs.connections(), owners)
    assert link.opened_by == {"me": 1}
    assert link.served_by == {"me"}
    assert [owners[inode] for inode in procfs.listeners(endpoint)] == ["me"]
    before = procfs.closed_connections(endpoint)
    client.close()
    accepted.close()
    assert link_to(endpoint, procfs.connections(), owners).opened_by == {}
    assert procfs.closed_connections(endpoint) == before + 1
