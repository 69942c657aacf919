"""Which providers and meshes there are: plain dicts, and entry points for those that live elsewhere."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final, Protocol, get_args

from adapters.contract import Provider
from adapters.kubernetes.mesh import KubernetesMesh, Unavailable
from adapters.local import caddy, envoy, haproxy, nginx, traefik
from adapters.local.provider import LocalProvider
from adapters.local.proxy import LocalProxy
from adapters.stage import checked_on, shipped, stage_of
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import ConfigurationError, UnknownNameError
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

PROVIDER_GROUP = "meshgauge.providers"
LOCAL_PROXY_GROUP = "meshgauge.local_proxies"
KUBERNETES_MESH_GROUP = "meshgauge.kubernetes_meshes"
BASELINE = "none"
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)

MakeProvider = Callable[[Path], Provider]

LOCAL_PROXIES: dict[str, LocalProxy] = {
    "envoy": envoy.PROXY,
    "nginx": nginx.PROXY,
    "haproxy": haproxy.PROXY,
    "traefik": traefik.PROXY,
    "caddy": caddy.PROXY,
}

# Name -> module whose MESH it is; loaded when asked for, because most commands need none of them.
KUBERNETES_MESHES: dict[str, str] = {
    "istio": "adapters.kubernetes.meshes.istio",
    "istio-ambient": "adapters.kubernetes.meshes.ambient",
    "linkerd": "adapters.kubernetes.meshes.linkerd",
    "consul": "adapters.kubernetes.meshes.consul",
    "kuma": "adapters.kubernetes.meshes.kuma",
    "cilium": "adapters.kubernetes.meshes.cilium",
    "traefik-mesh": "adapters.kubernetes.meshes.traefik_mesh",
    "nginx-service-mesh": "adapters.kubernetes.meshes.nginx_service_mesh",
    "osm": "adapters.kubernetes.meshes.osm",
}
_UNAVAILABLE_MODULE: Final = "adapters.kubernetes.meshes.unavailable"


def _local(cache_dir: Path) -> Provider:
    return LocalProvider(local_proxy, cache_dir)


def _kubernetes(cache_dir: Path) -> Provider:
    from adapters.kubernetes.provider import KubernetesProvider  # noqa: PLC0415 - only who asks for a cluster pays

    return KubernetesProvider(kubernetes_mesh, cache_dir)


PROVIDERS: dict[str, MakeProvider] = {"local": _local, "kubernetes": _kubernetes}


def provider(name: str, cache_dir: Path) -> Provider:
    """Return the provider called ``name``.

    Args:
        cache_dir: where it may keep binaries and lists of versions between runs.

    Raises:
        UnknownNameError: nobody registered it; lists those there are.
    """
    known = PROVIDERS | _entry_points(PROVIDER_GROUP)
    if name not in known:
        raise UnknownNameError("infrastructure provider", name, known)
    made: Provider = known[name](cache_dir)
    return made


def local_proxy(name: str) -> LocalProxy:
    """Return the data plane called ``name``, run as a local process.

    Raises:
        UnknownNameError: nobody registered it; lists those there are.
    """
    known = local_proxies()
    if name not in known:
        elsewhere = name in KUBERNETES_MESHES or name in _entry_points(KUBERNETES_MESH_GROUP)
        hint = f"{name} is installed into clusters: write infrastructures: [kubernetes]." if elsewhere else ""
        raise UnknownNameError("mesh adapter", name, [*known, BASELINE], hint)
    return known[name]


def local_proxies() -> Mapping[str, LocalProxy]:
    """Return every data plane that runs as a local process, ours first."""
    return LOCAL_PROXIES | _entry_points(LOCAL_PROXY_GROUP)


def kubernetes_mesh(name: str) -> KubernetesMesh:
    """Return the mesh called ``name`` that is installed in clusters.

    Raises:
        UnknownNameError: nobody registered it; lists those there are.
        ConfigurationError: it is named here, and cannot be run any more: says what became of it.
    """
    if name in KUBERNETES_MESHES:
        return _mesh_of(KUBERNETES_MESHES[name])
    elsewhere = _entry_points(KUBERNETES_MESH_GROUP)
    if name in elsewhere:
        found: KubernetesMesh = elsewhere[name]
        return found
    gone = {mesh.name: mesh for mesh in unavailable_meshes()}
    if name in gone:
        raise ConfigurationError(f"{gone[name].title} cannot be run: {gone[name].reason}")
    is_local = name in local_proxies()
    hint = f"{name} runs as a process of a host: write infrastructures: [local]." if is_local else ""
    raise UnknownNameError("mesh adapter", name, [*KUBERNETES_MESHES, *elsewhere, BASELINE], hint)


def kubernetes_meshes() -> Mapping[str, KubernetesMesh]:
    """Return every mesh that is installed in clusters, ours first."""
    ours = {name: _mesh_of(module) for name, module in KUBERNETES_MESHES.items()}
    return ours | _entry_points(KUBERNETES_MESH_GROUP)


def unavailable_meshes() -> Sequence[Unavailable]:
    """Return the meshes that are named and not run."""
    found: Sequence[Unavailable] = import_module(_UNAVAILABLE_MODULE).UNAVAILABLE
    return found


def _mesh_of(module: str) -> KubernetesMesh:
    found: KubernetesMesh = import_module(module).MESH
    return found


@cache
def _entry_points(group: str) -> dict[str, Any]:
    """Load what other distributions registered.

    Raises:
        ConfigurationError: one of them cannot be imported.
    """
    found = {}
    for entry in metadata.entry_points(group=group):
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            raise ConfigurationError(
                f"entry point {entry.name!r} of {group} ({entry.value}) fails: {error!r}"
            ) from error
    return found


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """One line of ``meshgauge adapters``.

    Attributes:
        providers: infrastructures it runs on; none: it cannot be run any more, and ``note`` says why.
        stage: maturity of the adapter; of one that cannot be run, how its makers keep it (dormant, archived, ended).
        package: distribution its binary comes from, or the chart it is installed from.
        checked_on: day of the newest result of the contract suite that the stage is read from; None: there is none.
    """

    name: str
    title: str
    providers: tuple[str, ...]
    stage: str
    package: str
    placements: tuple[Placement, ...]
    profiles: tuple[str, ...]
    note: str
    checked_on: dt.date | None = None


def adapter_rows(results: Sequence[ConformanceResult] = (), as_of: dt.date | None = None) -> list[AdapterRow]:
    """Return what there is to compare, the baseline first. Placements and profiles are those that work at all.

    Args:
        results: of the contract suite on this installation; those that come with the release count too.
        as_of: the day stages are read for; None: today.
    """
    rows = _unstaged_rows()
    known, day = [*shipped(), *results], as_of or dt.datetime.now(dt.UTC).date()
    return [_staged(row, known, day) if row.name != BASELINE and row.providers else row for row in rows]


def _staged(row: AdapterRow, results: Sequence[ConformanceResult], day: dt.date) -> AdapterRow:
    provider = row.providers[0]
    return replace(
        row,
        stage=stage_of(row.name, provider, results, day),
        checked_on=checked_on(row.name, provider, results, day),
    )


def _unstaged_rows() -> list[AdapterRow]:
    baseline = AdapterRow(
        BASELINE,
        "No mesh",
        ("local", "kubernetes"),
        "stable",
        "",
        (),
        ("plain",),
        "the baseline: load goes to the app itself",
    )
    local = [_proxy_row(proxy) for proxy in local_proxies().values()]
    meshes = [_mesh_row(mesh) for mesh in kubernetes_meshes().values()]
    return [baseline, *local, *meshes, *(_unavailable_row(mesh) for mesh in unavailable_meshes())]


class _SaysWhyNot(Protocol):
    def unsupported(self, profile: Profile, placement: Placement) -> str | None: ...


def _refusals(adapter: _SaysWhyNot) -> dict[tuple[Placement, str], str | None]:
    """Return, for each placement and built-in profile, why it cannot be run, or None."""
    return {
        (placement, profile.name): adapter.unsupported(profile, placement)
        for placement in PLACEMENTS
        for profile in BUILT_IN_PROFILES.values()
    }


def _workable(reasons: Mapping[tuple[Placement, str], str | None]) -> tuple[tuple[Placement, ...], tuple[str, ...]]:
    works = {pair for pair, reason in reasons.items() if reason is None}
    placements = tuple(placement for placement in PLACEMENTS if any(at == placement for at, _ in works))
    return placements, tuple(name for name in BUILT_IN_PROFILES if any(profile == name for _, profile in works))


def _proxy_row(proxy: LocalProxy) -> AdapterRow:
    reasons = _refusals(proxy)
    placements, profiles = _workable(reasons)
    note = "; ".join(sorted({reason for reason in reasons.values() if reason is not None}))
    return AdapterRow(proxy.name, proxy.title, ("local",), "alpha", proxy.package, placements, profiles, note)


def _mesh_row(mesh: KubernetesMesh) -> AdapterRow:
    placements, profiles = _workable(_refusals(mesh))
    chart = next(iter(mesh.charts.values()), None)
    return AdapterRow(
        mesh.name,
        mesh.title,
        ("kubernetes",),
        "alpha",
        str(chart) if chart else "",
        placements,
        profiles,
        mesh.note,
    )


def _unavailable_row(mesh: Unavailable) -> AdapterRow:
    return AdapterRow(mesh.name, mesh.title, (), mesh.upkeep, "", (), (), f"cannot be run: {mesh.reason}")
