"""What the views of one application share; they find it with ``installation()``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from flask import Flask, current_app

from adapters.registry import AdapterRow
from coordinator.planner import Planner
from coordinator.submission import Announce
from coordinator.web.reporting import Reporting
from coordinator.web.streams import EventHub
from meshgauge.settings import Settings

_KEY = "meshgauge"

# Clients that follow a run hold a thread each; the rest of the threads answer everybody else.
MAX_STREAMS = 12


def never() -> bool:
    """Return False: an application that is not told to stop."""
    return False


@dataclass(frozen=True, slots=True)
class Installation:
    """One coordinator: its settings, its database and the ways out of it.

    Attributes:
        broker_problem: says why the broker cannot be reached, or None when it can.
        operator_token: secret of the data directory's owner; None: there is none here.
        cores: of this host.
        is_stopping: whether the server wants its threads back.
    """

    settings: Settings
    engine: sa.Engine
    planner: Planner
    announce: Announce
    broker_problem: Callable[[], str | None]
    adapter_rows: Callable[[], Sequence[AdapterRow]]
    operator_token: str | None
    cores: int | None
    hub: EventHub
    reporting: Reporting
    is_stopping: Callable[[], bool] = never
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_STREAMS))


def attach(app: Flask, installed: Installation) -> None:
    """Make ``installed`` the one that ``app``'s views see."""
    app.extensions[_KEY] = installed


def installation() -> Installation:
    """Return the installation of the application that answers this request."""
    found: Installation = current_app.extensions[_KEY]
    return found
