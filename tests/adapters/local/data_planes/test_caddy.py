"""The configuration Caddy is given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.local.caddy import CONFIGURATION, PROXY
from meshgauge.plan import BUILT_IN_PROFILES, Profile

UPSTREAM = Endpoint("127.0.0.1", 9)


def rendered(order: Any) -> Any:
    return json.loads(PROXY.launch(Path("/somewhere/caddy"), order).files[CONFIGURATION])


def transport(document: Any) -> Any:
    return document["apps"]["http"]["servers"]["measured"]["routes"][0]["handle"][0]["transport"]


def test_threads_pools_and_timeouts_follow_the_order(order_of: Any) -> None:
    profile = Profile(name="own", proxy_threads=3, idle_connections=70, request_timeout_s=1.25)
    order = order_of("node", UPSTREAM, profile, connections=50)
    assert PROXY.launch(Path("/somewhere/caddy"), order).env["GOMAXPROCS"] == "3"
    own = transport(rendered(order))
    assert own["keep_alive"]["max_idle_conns_per_host"] == 70
    assert own["dial_timeout"] == own["response_header_timeout"] == "1250ms"
    assert own["versions"] == ["1.1"]
    assert own["compression"] is False
    many = transport(rendered(order_of("node", UPSTREAM, profile, connections=900)))
    assert many["keep_alive"]["max_idle_conns_per_host"] == 900


@pytest.mark.parametrize("name", sorted(BUILT_IN_PROFILES))
def test_the_real_binary_finds_nothing_to_complain_about(name: str, order_of: Any, binary_of: Any) -> None:
    for role in ("client", "server"):
        order = order_of(role, UPSTREAM, BUILT_IN_PROFILES[name])
        launch = PROXY.launch(binary_of(PROXY), order)
        path = order.directory / CONFIGURATION
        path.write_text(launch.files[CONFIGURATION])
        argv = [binary_of(PROXY), "validate", "--config", path]
        done = subprocess.run(argv, env=dict(launch.env), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def test_a_large_access_log_is_neither_rolled_nor_compressed(order_of: Any) -> None:
    document = rendered(order_of("node", UPSTREAM, BUILT_IN_PROFILES["observed"]))
    assert document["logging"]["logs"]["access"]["writer"]["roll"] is False
    assert document["apps"]["http"]["metrics"] == {}


def test_a_wrong_spiffe_id_is_answered_with_403(
    order_of: Any, start: Any, backend: Any, connect: Any, identities: Any
) -> None:
    inbound = order_of("server", backend.endpoint, BUILT_IN_PROFILES["mtls"])
    start(PROXY, inbound)
    assert connect(inbound.listen, identities.neighbour).ask().status == 403
    assert connect(inbound.listen, identities.client).ask().status == 200
