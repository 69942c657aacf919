"""The treatment check fails when the mesh is not what it claims: each lie of a data plane is caught."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.local.authority import Authority
from adapters.local.envoy import Envoy
from adapters.local.provider import LocalProvider
from adapters.local.proxy import HopOrder, Launch, LocalProxy, ProxyCounters
from meshgauge.matrix import MeshArm


@dataclass(frozen=True, slots=True)
class Lying(Envoy):
    """Envoy that renders or counts something else than it was ordered to."""

    change_order: Callable[[HopOrder], HopOrder] = lambda order: order
    change_counters: Callable[[ProxyCounters], ProxyCounters] = lambda counters: counters

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        return Envoy.launch(self, binary, self.change_order(order))

    def counters(self, order: HopOrder) -> ProxyCounters:
        return self.change_counters(Envoy.counters(self, order))


@pytest.fixture
def lie(orders: Any, arm: Callable[..., MeshArm], cache_dir: Path) -> Callable[..., Any]:
    """Open an environment whose proxies lie; returns it up, with its entry."""

    def begin(profile: str, placement: str = "pair", **lies: Any) -> tuple[Any, Endpoint]:
        proxy: LocalProxy = Lying(**lies)
        orders.provider = LocalProvider(lambda _: proxy, cache_dir)
        environment = orders.open(orders.key(arm("envoy", placement=placement), profile))
        return environment, environment.up(lambda _: None)

    return begin


def test_a_client_proxy_that_bypasses_the_server_proxy_is_caught(lie: Any, send: Any, failed: Any) -> None:
    servers: list[HopOrder] = []

    def bypass(order: HopOrder) -> HopOrder:
        if order.role == "server":
            servers.append(order)
            return order
        return replace(order, upstream=servers[-1].upstream)

    environment, entry = lie("plain", change_order=bypass)
    before = failed(environment.verify_before())
    assert [line for line in before if line.startswith("requests/data_plane/server: expected 3")]
    client = send(entry)
    environment.load_generator_joined([client.process.pid])
    connected = failed(environment.verify_connected())
    assert [line for line in connected if line.startswith("connections/data_plane/server") and "seen none" in line]
    assert [line for line in connected if line.startswith("connections/app") and "by data_plane/client" in line]
    after = failed(environment.verify_after(client.requests))
    assert [line for line in after if line.startswith("requests/data_plane/server")]


def test_traffic_that_does_not_come_from_the_load_generator_is_caught(lie: Any, send: Any, failed: Any) -> None:
    environment, entry = lie("plain", "node")
    assert failed(environment.verify_before()) == []
    client, other = send(entry), send(entry)
    environment.load_generator_joined([client.process.pid])
    connected = failed(environment.verify_connected())
    assert [line for line in connected if line.startswith("connections/data_plane/node") and "another process" in line]
    after = failed(environment.verify_after(client.requests))
    total = client.requests + other.requests
    assert f"requests/data_plane/node: expected {client.requests} (requests sent), seen {total}" in after


def test_requests_that_never_came_are_caught(lie: Any, send: Any, failed: Any) -> None:
    environment, entry = lie("plain", "node")
    environment.verify_before()
    client = send(entry)
    after = failed(environment.verify_after(client.requests + 1))
    assert after == [
        f"requests/data_plane/node: expected {client.requests + 1} (requests sent), seen {client.requests}"
    ]


def test_a_mesh_without_its_mtls_is_caught(lie: Any, failed: Any) -> None:
    environment, _ = lie("mtls", change_order=lambda order: replace(order, terminate_tls=None, originate_tls=None))
    lines = failed(environment.verify_before())
    assert {line.split(":")[0] for line in lines} >= {"mtls_certificate", "mtls_plaintext_refused"}


def test_a_server_that_lets_anybody_in_is_caught(lie: Any, failed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Envoy.launch

    def lenient(self: Envoy, binary: Path, order: HopOrder) -> Launch:
        launch = real(self, binary, order)
        bootstrap = json.loads(launch.files["envoy.json"])
        chain = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
        if order.terminate_tls:
            context = chain["transport_socket"]["typed_config"]
            context["require_client_certificate"] = False
            del context["common_tls_context"]["validation_context"]
        return replace(launch, files={"envoy.json": json.dumps(bootstrap)})

    monkeypatch.setattr(Envoy, "launch", lenient)
    environment, _ = lie("mtls")
    lines = failed(environment.verify_before())
    assert [line.split(":")[0] for line in lines] == ["mtls_without_certificate_refused"]


def test_a_certificate_other_than_the_one_issued_is_caught(lie: Any, failed: Any, tmp_path: Path) -> None:
    """The proxies agree with each other, under an authority nobody ordered."""
    other = Authority(tmp_path / "other", "impostor")
    identities = {role: other.issue(role) for role in ("client", "server")}

    def impostor(order: HopOrder) -> HopOrder:
        own, peer = identities[order.role], identities["client" if order.role == "server" else "server"]
        return replace(
            order,
            terminate_tls=own if order.terminate_tls else None,
            originate_tls=own if order.originate_tls else None,
            peer_spiffe_id=peer.spiffe_id,
        )

    environment, _ = lie("mtls", change_order=impostor)
    lines = failed(environment.verify_before())
    assert [line for line in lines if line.startswith("mtls_certificate")]


def test_a_server_of_another_identity_gets_no_traffic(lie: Any, failed: Any) -> None:
    """The client proxy checks who it talks to: a server with a foreign SPIFFE id is not spoken to."""
    stranger = "spiffe://meshgauge.local/env/other/server"
    environment, _ = lie(
        "mtls", change_order=lambda order: replace(order, peer_spiffe_id=stranger) if order.originate_tls else order
    )
    assert [line for line in failed(environment.verify_before()) if line.startswith("reply") and "503" in line]


def test_other_threads_than_ordered_are_caught(lie: Any, failed: Any) -> None:
    def more(order: HopOrder) -> HopOrder:
        return replace(order, profile=order.profile.model_copy(update={"proxy_threads": 3}))

    environment, _ = lie("plain", "node", change_order=more)
    assert failed(environment.verify_before()) == ["threads/data_plane/node: expected 1, seen 3"]


def test_another_core_set_than_ordered_is_caught(lie: Any, failed: Any) -> None:
    environment, _ = lie("plain", "node")
    assert failed(environment.verify_before()) == []
    (hop,) = environment._hops
    os.sched_setaffinity(hop.launched.program.pid, {min(os.sched_getaffinity(0))})
    if len(os.sched_getaffinity(0)) > 1:
        assert [line.split(":")[0] for line in failed(environment.verify_after(0))] == ["cpu_set/data_plane/node"]


def test_retries_overflows_and_reconnects_are_caught(lie: Any, failed: Any) -> None:
    reads: list[int] = []

    def later_worse(counters: ProxyCounters) -> ProxyCounters:
        reads.append(1)
        rest = {"upstream_retries": len(reads), "upstream_overflows": len(reads)}
        return replace(counters, upstream_connections=1000 * len(reads), **rest)

    environment, _ = lie("plain", "node", change_counters=later_worse)
    environment.verify_before()
    names = {line.split(":")[0] for line in failed(environment.verify_after(0))}
    assert names == {f"{name}/data_plane/node" for name in ("retries", "overflows", "keep_alive")}


def test_a_proxy_that_closes_its_upstream_connections_is_caught_by_the_kernel(
    lie: Any, send: Any, failed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Envoy.launch

    def one_request_each(self: Envoy, binary: Path, order: HopOrder) -> Launch:
        launch = real(self, binary, order)
        once = '"max_requests_per_connection": 1, "idle_timeout"'
        head, tail = launch.files["envoy.json"].split('"clusters"')
        return replace(launch, files={"envoy.json": head + '"clusters"' + tail.replace('"idle_timeout"', once)})

    monkeypatch.setattr(Envoy, "launch", one_request_each)
    environment, entry = lie(
        "plain", "node", change_counters=lambda counters: replace(counters, upstream_connections=None)
    )
    assert failed(environment.verify_before()) == []
    client = send(entry, requests=200)
    lines = failed(environment.verify_after(client.requests))
    assert [line.split(":")[0] for line in lines] == ["keep_alive/data_plane/node"]


def test_a_wrong_reply_is_caught(arm: Callable[..., MeshArm], orders: Any, failed: Any, within: Any) -> None:
    environment = orders.open(orders.key(arm(), reply_bytes=10))
    environment.up(lambda _: None)
    (environment._app.directory / "nginx.conf").write_text(
        (environment._app.directory / "nginx.conf").read_text().replace('"xxxxxxxxxx"', '"xxxxxxxxx"')
    )
    os.kill(environment._app.program.pid, 1)  # NGINX reads its configuration again

    wrong = ["reply: expected 3 x status 200, 10 bytes, seen status 200, 9 bytes"]
    assert within(lambda: failed(environment.verify_before()) == wrong)
