"""The configuration HAProxy is given."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.local import admin
from adapters.local.haproxy import CONFIGURATION, PROXY, STATISTICS, encoded_uri_name
from meshgauge.errors import MeasurementError
from meshgauge.plan import BUILT_IN_PROFILES, Profile

UPSTREAM = Endpoint("127.0.0.1", 9)


def rendered(order: Any) -> str:
    return PROXY.launch(Path("/somewhere/haproxy"), order).files[CONFIGURATION]


def test_threads_pools_and_timeouts_follow_the_order(order_of: Any) -> None:
    profile = Profile(name="own", proxy_threads=3, idle_connections=70, request_timeout_s=1.25)
    text = rendered(order_of("node", UPSTREAM, profile, connections=50))
    for line in (
        "nbthread 3",
        "pool-max-conn 70",
        "timeout connect 1250ms",
        "timeout server 1250ms",
        "retries 0",
        "retry-on none",
        "http-reuse always",
    ):
        assert line in text
    assert "pool-max-conn 900" in rendered(order_of("node", UPSTREAM, profile, connections=900))


@pytest.mark.parametrize("name", sorted(BUILT_IN_PROFILES))
def test_the_real_binary_finds_nothing_to_complain_about(name: str, order_of: Any, binary_of: Any) -> None:
    for role in ("client", "server"):
        order = order_of(role, UPSTREAM, BUILT_IN_PROFILES[name])
        launch = PROXY.launch(binary_of(PROXY), order)
        (order.directory / CONFIGURATION).write_text(launch.files[CONFIGURATION])
        environment = {"PATH": "/usr/bin:/bin", **launch.env}
        argv = [*launch.argv, "-c"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
        assert "ALERT" not in done.stderr


def test_a_uri_is_encoded_as_in_a_certificate() -> None:
    assert encoded_uri_name("spiffe://a/b") == "860C" + b"spiffe://a/b".hex().upper()
    long = "spiffe://" + "a" * 191
    assert encoded_uri_name(long) == "8681C8" + long.encode().hex().upper()


def test_the_joined_identity_is_readable_by_its_owner_alone(order_of: Any, start: Any, backend: Any) -> None:
    order = order_of("server", backend.endpoint, BUILT_IN_PROFILES["mtls"])
    start(PROXY, order)
    assert (order.directory / "identity.pem").stat().st_mode & 0o777 == 0o600


def test_the_exporter_answers_only_where_metrics_are_ordered(order_of: Any, start: Any, backend: Any) -> None:
    for name, wanted in (("plain", False), ("observed", True)):
        order = order_of("node", backend.endpoint, BUILT_IN_PROFILES[name])
        start(PROXY, order)
        assert admin.answers_ok(order.admin, "/metrics") == wanted


def test_a_page_without_our_rows_is_an_error(order_of: Any, start: Any, backend: Any, monkeypatch: Any) -> None:
    order = order_of("node", backend.endpoint)
    start(PROXY, order)
    monkeypatch.setattr(admin, "fetch_text", lambda *_: "# pxname,svname,req_tot\nother,FRONTEND,1\n")
    with pytest.raises(MeasurementError, match=STATISTICS):
        PROXY.counters(order)
