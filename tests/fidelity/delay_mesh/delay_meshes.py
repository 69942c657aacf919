"""Three meshes of known cost, registered from outside by entry points, as anybody's own mesh would be."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.contract import FEATURES
from adapters.local.proxy import HopOrder, Launch, ProxyCounters
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile

BASE_S = 2e-3


@dataclass(frozen=True)
class DelayMesh:
    """A LocalProxy that takes ``delay_s`` longer than nothing."""

    name: str
    delay_s: float
    title: str = "a proxy with a known delay"
    package: str = "none-such"
    stage: Literal["stable", "beta", "alpha"] = "alpha"

    def binary(self, installed: Path) -> Path:
        return installed

    def env(self, binary: Path) -> Mapping[str, str]:
        return {}

    def version(self, binary: Path) -> str:
        return "1"

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        return None if placement == "server" and not profile.mtls else "only plain, only as a server's proxy"

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        return dict.fromkeys(FEATURES, "none")

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        ports = (str(order.listen.port), str(order.upstream.port), str(order.admin.port))
        return Launch((sys.executable, str(binary), *ports, str(self.delay_s)), {})

    def is_ready(self, order: HopOrder) -> bool:
        try:
            return self.counters(order).requests is not None
        except OSError:
            return False

    def counters(self, order: HopOrder) -> ProxyCounters:
        with socket.create_connection((order.admin.host, order.admin.port), timeout=5) as asked:
            return ProxyCounters(int(asked.recv(64)), None, None, None, None)


PLUS_0 = DelayMesh("delay-plus-0", BASE_S)
PLUS_0_AGAIN = DelayMesh("delay-plus-0-again", BASE_S)
PLUS_5 = DelayMesh("delay-plus-5", BASE_S * 1.05)
PLUS_20 = DelayMesh("delay-plus-20", BASE_S * 1.20)
