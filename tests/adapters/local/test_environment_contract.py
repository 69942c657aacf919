"""One suite over every adapter, placement and profile: up, proof, traffic, proof, down, nothing left."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, get_args

import pytest

from adapters import registry
from adapters.contract import FEATURES, Endpoint, Provider
from adapters.local import environment as environments
from adapters.local.placement import CpuPlacement
from meshgauge.errors import UnsupportedError
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import MeshArm
from meshgauge.plan import BUILT_IN_PROFILES, Placement

ADAPTERS = tuple(registry.local_proxies())
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
SUPPORTED = [
    (adapter, placement, profile)
    for adapter in ADAPTERS
    for placement in PLACEMENTS
    for profile in BUILT_IN_PROFILES
    if registry.local_proxy(adapter).unsupported(BUILT_IN_PROFILES[profile], placement) is None
]
UNSUPPORTED = [
    (adapter, placement, profile)
    for adapter in ADAPTERS
    for placement in PLACEMENTS
    for profile in BUILT_IN_PROFILES
    if (adapter, placement, profile) not in SUPPORTED
]


def _is_open(endpoint: Endpoint) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((endpoint.host, endpoint.port)) == 0


@pytest.mark.parametrize(("adapter", "placement", "profile"), SUPPORTED)
def test_traffic_passes_is_proven_and_leaves_nothing(
    adapter: str,
    placement: Placement,
    profile: str,
    arm: Callable[..., MeshArm],
    orders: Any,
    send: Any,
    failed: Any,
    processes_of: Any,
) -> None:
    environment = orders.open(orders.key(arm(adapter, placement=placement), profile))
    phases: list[str] = []
    entry = environment.up(phases.append)
    assert phases == ["install", "workload", "configure", "enroll", "ready"]

    before = environment.verify_before()
    assert failed(before) == []
    names = {check.name for check in before}
    assert ("mtls_certificate" in names) == BUILT_IN_PROFILES[profile].mtls
    assert ("mtls_plaintext_refused" in names) == BUILT_IN_PROFILES[profile].mtls

    client = send(entry, requests=120, connections=4)
    environment.load_generator_joined([client.process.pid])
    connected = environment.verify_connected()
    assert failed(connected) == []
    roles = {"pair": {"client", "server"}}.get(placement, {placement})
    assert {check.name for check in connected} == {"connections/app"} | {
        f"connections/data_plane/{role}" for role in roles
    }
    components = {sample.component for sample in environment.sample()}
    assert components == {"app", "load_generator", "host"} | {f"data_plane/{role}" for role in roles}
    assert failed(environment.verify_after(client.requests)) == []
    assert client.reply_bytes == 1024
    assert environment.lost_components() == []

    provenance = environment.provenance()
    assert set(provenance["hops"]) == roles
    assert all(len(hop["sha256"]) == 64 for hop in provenance["hops"].values())
    kept = {artefact.name.split("/")[0] for artefact in environment.artefacts()}
    assert roles | {"app"} <= kept
    assert not any(b"PRIVATE KEY" in artefact.content for artefact in environment.artefacts())

    environment.down()
    environment.down()
    assert processes_of(environment._order.environment_id) == []
    assert not _is_open(entry)


@pytest.mark.parametrize(("adapter", "placement", "profile"), UNSUPPORTED)
def test_what_a_mesh_cannot_do_is_said_beforehand_and_never_faked(
    adapter: str, placement: Placement, profile: str, arm: Callable[..., MeshArm], orders: Any, provider: Provider
) -> None:
    mesh = arm(adapter, placement=placement)
    reason = provider.unsupported(mesh, BUILT_IN_PROFILES[profile], Infrastructure())
    assert reason is not None
    assert adapter in reason
    with pytest.raises(UnsupportedError, match=adapter):
        orders.open(orders.key(mesh, profile)).up(lambda _: None)


@pytest.mark.parametrize(("client", "server"), [("envoy", "haproxy"), ("haproxy", "nginx"), ("caddy", "envoy")])
def test_a_mixed_pair_speaks_mutual_tls(
    client: str, server: str, arm: Callable[..., MeshArm], orders: Any, send: Any, failed: Any
) -> None:
    environment = orders.open(orders.key(arm(client, server), "mtls"))
    entry = environment.up(lambda _: None)
    assert failed(environment.verify_before()) == []
    load = send(entry)
    environment.load_generator_joined([load.process.pid])
    assert failed(environment.verify_connected()) == []
    assert failed(environment.verify_after(load.requests)) == []


def test_the_baseline_touches_no_proxy(arm: Callable[..., MeshArm], orders: Any, send: Any, failed: Any) -> None:
    environment = orders.open(orders.key(arm()))
    entry = environment.up(lambda _: None)
    before = environment.verify_before()
    assert failed(before) == []
    assert "no_proxy" in {check.name for check in before}
    load = send(entry)
    environment.load_generator_joined([load.process.pid])
    assert failed(environment.verify_connected()) == []
    assert failed(environment.verify_after(load.requests)) == []
    assert {sample.component for sample in environment.sample()} == {"app", "load_generator", "host"}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_threads_and_pools_follow_the_profile(
    adapter: str, arm: Callable[..., MeshArm], orders: Any, send: Any, failed: Any
) -> None:
    profile = BUILT_IN_PROFILES["mtls"].model_copy(update={"name": "two", "proxy_threads": 2, "tls_version": "1.2"})
    environment = orders.open(orders.key(arm(adapter), profile, app_threads=2))
    entry = environment.up(lambda _: None)
    assert failed(environment.verify_before()) == []
    load = send(entry, requests=200, connections=16)
    environment.load_generator_joined([load.process.pid])
    assert failed(environment.verify_connected()) == []
    assert failed(environment.verify_after(load.requests)) == []


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("profile", BUILT_IN_PROFILES)
def test_every_feature_of_the_table_has_a_value(
    adapter: str, profile: str, arm: Callable[..., MeshArm], provider: Provider
) -> None:
    features = provider.features(arm(adapter), BUILT_IN_PROFILES[profile])
    assert set(features) == {"client", "server"}
    for values in features.values():
        assert set(values) == set(FEATURES)
        assert all(values.values())


def test_the_baseline_has_no_features(arm: Callable[..., MeshArm], provider: Provider) -> None:
    assert provider.features(arm(), BUILT_IN_PROFILES["plain"]) == {}


def test_each_party_keeps_to_its_own_cores(
    arm: Callable[..., MeshArm], orders: Any, send: Any, failed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    parted = CpuPlacement(load=(first,), proxies=(last,), app=(first,))
    monkeypatch.setattr(environments, "place_on_this_host", lambda: parted)
    environment = orders.open(orders.key(arm("nginx")))
    entry = environment.up(lambda _: None)
    assert failed(environment.verify_before()) == []
    assert environment.load_cpus == (first,)
    load = send(entry)
    environment.load_generator_joined([load.process.pid])
    assert os.sched_getaffinity(load.process.pid) == {first}
    assert {core for pid in environment._app.program.process_ids() for core in os.sched_getaffinity(pid)} == {first}
    assert environment.provenance()["cpu_placement"] == {"load": (first,), "proxies": (last,), "app": (first,)}
    assert environment.provenance()["warnings"] == []


def test_shared_cores_are_warned_of(arm: Callable[..., MeshArm], orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "place_on_this_host", CpuPlacement)
    environment = orders.open(orders.key(arm()))
    environment.up(lambda _: None)
    assert environment.load_cpus == ()
    assert ["fewer than 4 cores" in warning for warning in environment.provenance()["warnings"]] == [True]
