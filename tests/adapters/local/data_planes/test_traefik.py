"""The configuration Traefik is given."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from adapters.contract import Endpoint
from adapters.local import admin
from adapters.local.traefik import DYNAMIC, PROXY, STATIC
from meshgauge.plan import BUILT_IN_PROFILES, Profile

UPSTREAM = Endpoint("127.0.0.1", 9)


def rendered(order: Any) -> tuple[Any, Any]:
    files = PROXY.launch(Path("/somewhere/traefik"), order).files
    return json.loads(files[STATIC]), json.loads(files[DYNAMIC])


def test_threads_pools_and_timeouts_follow_the_order(order_of: Any) -> None:
    profile = Profile(name="own", proxy_threads=3, idle_connections=70, request_timeout_s=1.25)
    order = order_of("node", UPSTREAM, profile, connections=50)
    assert PROXY.launch(Path("/somewhere/traefik"), order).env["GOMAXPROCS"] == "3"
    pool = rendered(order)[1]["http"]["serversTransports"]["pool"]
    assert pool["maxIdleConnsPerHost"] == 70
    assert pool["disableHTTP2"] is True
    assert pool["forwardingTimeouts"]["dialTimeout"] == pool["forwardingTimeouts"]["responseHeaderTimeout"] == "1250ms"
    many = rendered(order_of("node", UPSTREAM, profile, connections=900))[1]
    assert many["http"]["serversTransports"]["pool"]["maxIdleConnsPerHost"] == 900


def test_nothing_calls_home_and_nothing_watches(order_of: Any) -> None:
    static, _ = rendered(order_of("node", UPSTREAM))
    assert static["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert static["providers"]["file"]["watch"] is False
    assert not {"metrics", "accessLog", "tracing", "api"} & set(static)


def test_metrics_and_log_appear_with_the_profile(order_of: Any) -> None:
    static, _ = rendered(order_of("node", UPSTREAM, BUILT_IN_PROFILES["observed"]))
    assert static["metrics"]["prometheus"]["addServicesLabels"] is True
    assert Path(static["accessLog"]["filePath"]).name == "access.log"


def test_it_is_not_ready_while_it_has_no_routes(order_of: Any, binary_of: Any) -> None:
    order = order_of("node", UPSTREAM)
    launch = PROXY.launch(binary_of(PROXY), order)
    (order.directory / STATIC).write_text(launch.files[STATIC])
    (order.directory / DYNAMIC).write_text("{}")
    with (order.directory / "output.log").open("wb") as log:
        process = subprocess.Popen(launch.argv, cwd=order.directory, env=dict(launch.env), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not (admin.accepts_connections(order.listen) and admin.accepts_connections(order.admin)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for _ in range(10):
            assert not PROXY.is_ready(order)
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait(timeout=10)
