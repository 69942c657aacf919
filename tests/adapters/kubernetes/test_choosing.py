"""What an operation means where it leaves something open, and what it cannot be."""

from __future__ import annotations

import pytest

from adapters.kubernetes.choosing import chosen_profile
from adapters.kubernetes.meshes import consul, kuma
from meshgauge.errors import UnsupportedError
from meshgauge.operations import OperationRequest
from meshgauge.plan import Profile


def test_the_first_built_in_profile_a_mesh_can_run_is_taken() -> None:
    request = OperationRequest(action="install", adapter="consul")
    assert chosen_profile(request, consul.MESH, "pair").name == "mtls"


def test_traces_are_refused_where_nobody_would_take_them() -> None:
    request = OperationRequest(action="install", adapter="kuma", profile=Profile(name="traced", tracing_ratio=0.1))
    with pytest.raises(UnsupportedError, match="outside of a run there is no trace collector"):
        chosen_profile(request, kuma.MESH, "pair")
