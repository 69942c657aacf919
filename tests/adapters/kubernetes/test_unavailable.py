"""Meshes that cannot be run say so, by name, before anything is installed."""

from __future__ import annotations

import pytest

from adapters import registry
from adapters.kubernetes.mesh import Unavailable
from adapters.kubernetes.meshes.unavailable import UNAVAILABLE
from meshgauge.errors import ConfigurationError


def test_their_names_are_nobody_elses() -> None:
    names = [mesh.name for mesh in UNAVAILABLE]
    assert len(set(names)) == len(names)
    assert not set(names) & {*registry.KUBERNETES_MESHES, *registry.LOCAL_PROXIES}


@pytest.mark.parametrize("mesh", UNAVAILABLE, ids=lambda mesh: mesh.name)
def test_who_asks_for_one_is_told_what_became_of_it(mesh: Unavailable) -> None:
    with pytest.raises(ConfigurationError, match="cannot be run: ") as raised:
        registry.kubernetes_mesh(mesh.name)
    assert mesh.reason in str(raised.value)
