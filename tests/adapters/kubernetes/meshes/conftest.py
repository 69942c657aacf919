"""An order for any mesh: what tests give, and for the rest what a plan's defaults would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from adapters.kubernetes.mesh import KubernetesMesh, MeshOrder
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

LABELS: Mapping[str, str] = {"meshgauge.io/site": "a-site", "meshgauge.io/epoch": "3"}

OrderFor = Callable[..., MeshOrder]


@pytest.fixture
def order_for() -> OrderFor:
    """Return what makes an order for a mesh in one version, with secrets of its own making."""

    def make(
        mesh: KubernetesMesh,
        version: str,
        profile: Profile = BUILT_IN_PROFILES["mtls"],
        placement: Placement = "pair",
        **more: Any,
    ) -> MeshOrder:
        charts = more.pop("chart_versions", dict.fromkeys(mesh.charts, version))
        return MeshOrder(
            version=version,
            chart_versions=charts,
            profile=profile,
            placement=placement,
            namespace="bench",
            labels=LABELS,
            **{"secrets": mesh.secrets(), **more},
        )

    return make
