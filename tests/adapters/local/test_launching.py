"""Programs come up on free ports, try others when theirs are taken, and say why when they cannot."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.local import launching, processes, procfs
from adapters.local.cookie import Cookie
from adapters.local.launching import PORT_TRIES, Launched, launch
from adapters.local.ports import held_ports, is_port_conflict
from adapters.local.processes import Command, Guarded
from meshgauge.errors import EnvironmentUpError

# Listens on its port; with a second argument it lets others listen there too, as Envoy does.
LISTENER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), reuse_port=len(sys.argv) > 2)
time.sleep(600)
"""


def _listens(endpoints: tuple[Endpoint, ...]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((endpoints[0].host, endpoints[0].port)) == 0


class Rival:
    """Somebody who takes the port of the first tries in the moment between our holding and the program's bind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0
        self.shares = False
        self.sockets: list[socket.socket] = []
        self.taken: list[Endpoint] = []
        self._really_start = processes.start
        monkeypatch.setattr(launching, "start", self._take_and_start)

    def _take_and_start(self, command: Command, cookie: Cookie) -> Guarded:
        if len(self.taken) < self.tries:
            self.taken.append(Endpoint("127.0.0.1", int(command.argv[4])))
            self.sockets.append(socket.create_server(("127.0.0.1", self.taken[-1].port), reuse_port=self.shares))
        return self._really_start(command, cookie)


@pytest.fixture
def rival(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rival]:
    """A rival for ports; takes none until told."""
    made = Rival(monkeypatch)
    yield made
    for taken in made.sockets:
        taken.close()


@pytest.fixture
def bring_up(tmp_path: Path) -> Iterator[Any]:
    """Launch a Python program on one port."""
    up: list[Launched] = []

    def begin(program: str, *arguments: str, ready_within_s: float = 10.0) -> Launched:
        def command(directory: Path, endpoints: tuple[Endpoint, ...]) -> Command:
            argv = (sys.executable, "-I", "-c", program, str(endpoints[0].port), *arguments)
            return Command("listener", argv, directory)

        launched = launch(
            name="listener",
            ports=1,
            make_command=command,
            is_ready=_listens,
            directory=tmp_path / "listener",
            cookie=Cookie("launch-test", 1, tmp_path.name),
            ready_within_s=ready_within_s,
        )
        up.append(launched)
        return launched

    yield begin
    for launched in up:
        launched.program.stop()


def test_a_program_comes_up_on_a_free_port(bring_up: Any) -> None:
    launched = bring_up(LISTENER)
    assert _listens(launched.endpoints)
    owners = procfs.socket_inodes([launched.program.pid])
    assert set(procfs.listeners(launched.endpoints[0])) <= set(owners)


def test_a_taken_port_is_left_for_another(bring_up: Any, rival: Rival, tmp_path: Path) -> None:
    rival.tries = 2
    launched = bring_up(LISTENER)
    assert len(rival.taken) == 2
    assert launched.endpoints[0] not in rival.taken
    assert launched.directory == tmp_path / "listener-3"


def test_a_port_somebody_else_listens_on_too_is_not_taken_for_ours(bring_up: Any, rival: Rival) -> None:
    rival.tries, rival.shares = 1, True
    launched = bring_up(LISTENER, "shared")
    assert launched.endpoints[0] not in rival.taken


def test_ports_taken_every_time_are_an_error_that_says_so(bring_up: Any, rival: Rival) -> None:
    rival.tries = PORT_TRIES
    with pytest.raises(EnvironmentUpError, match=rf"listener found its ports taken {PORT_TRIES} times in a row"):
        bring_up(LISTENER)


def test_a_program_that_never_listens_is_ended_and_told(bring_up: Any) -> None:
    with pytest.raises(EnvironmentUpError, match=r"listener was not ready on .* within 0\.5 s"):
        bring_up("import time; time.sleep(600)", ready_within_s=0.5)


def test_endpoints_are_distinct_and_really_held() -> None:
    with held_ports(20) as (endpoints, holders):
        assert len(set(endpoints)) == 20
        for endpoint in endpoints:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind((endpoint.host, endpoint.port))
        holders.close()
        with socket.socket() as other:
            other.bind((endpoints[0].host, endpoints[0].port))


@pytest.mark.parametrize(
    ("log", "conflict"),
    [
        ("bind() to 127.0.0.1:80 failed (98: Address already in use)", True),
        ("cannot bind '127.0.0.1:80': Address in use", True),
        ("listen tcp 127.0.0.1:80: bind: address already in use", True),
        ("certificate file not found", False),
    ],
)
def test_port_conflicts_are_told_from_other_trouble(log: str, conflict: bool) -> None:
    assert is_port_conflict(log) == conflict
