"""The Locust user of the engine: it is one connection."""

from __future__ import annotations

from typing import Protocol, cast

import gevent
from locust import User, task
from locust.env import Environment

_FOREVER_S = 86_400.0


class ConnectionCount(Protocol):
    """Knows how many connections the engine should hold."""

    def change(self, step: int) -> None:
        """So many more, or fewer."""


class MeshEnvironment(Environment):
    """A Locust environment whose users share one engine; ``connection_count`` is set on load workers only."""

    connection_count: ConnectionCount


class MeshUser(User):
    """Holds one connection of the worker's engine open; the engine's thread does the sending."""

    def on_start(self) -> None:
        """One connection more."""
        cast(MeshEnvironment, self.environment).connection_count.change(+1)

    def on_stop(self) -> None:
        """One connection less."""
        cast(MeshEnvironment, self.environment).connection_count.change(-1)

    @task
    def hold(self) -> None:
        """Live until stopped."""
        gevent.sleep(_FOREVER_S)
