"""Which providers and meshes there are: plain dicts, and entry points for those that live elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from adapters.contract import Provider
from adapters.local import caddy, envoy, haproxy, nginx, traefik
from adapters.local.provider import LocalProvider
from adapters.local.proxy import LocalProxy
from meshgauge.errors import ConfigurationError, UnknownNameError
from meshgauge.plan import BUILT_IN_PROFILES, Placement

PROVIDER_GROUP = "meshgauge.providers"
LOCAL_PROXY_GROUP = "meshgauge.local_proxies"
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


def _local(cache_dir: Path) -> Provider:
    return LocalProvider(local_proxy, cache_dir)


PROVIDERS: dict[str, MakeProvider] = {"local": _local}


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
        raise UnknownNameError("mesh adapter", name, [*known, BASELINE])
    return known[name]


def local_proxies() -> Mapping[str, LocalProxy]:
    """Return every data plane that runs as a local process, ours first."""
    return LOCAL_PROXIES | _entry_points(LOCAL_PROXY_GROUP)


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
    """One line of ``meshgauge adapters``."""

    name: str
    title: str
    stage: str
    package: str
    placements: tuple[Placement, ...]
    profiles: tuple[str, ...]
    note: str


def adapter_rows() -> list[AdapterRow]:
    """Return what there is to compare, the baseline first. Placements and profiles are those that work at all."""
    baseline = AdapterRow(
        BASELINE, "No mesh", "stable", "", (), ("plain",), "the baseline: load goes to the app itself"
    )
    return [baseline, *(_row(proxy) for proxy in local_proxies().values())]


def _row(proxy: LocalProxy) -> AdapterRow:
    reasons = {
        (placement, profile.name): proxy.unsupported(profile, placement)
        for placement in PLACEMENTS
        for profile in BUILT_IN_PROFILES.values()
    }
    works = {pair for pair, reason in reasons.items() if reason is None}
    return AdapterRow(
        name=proxy.name,
        title=proxy.title,
        stage=proxy.stage,
        package=proxy.package,
        placements=tuple(placement for placement in PLACEMENTS if any(at == placement for at, _ in works)),
        profiles=tuple(name for name in BUILT_IN_PROFILES if any(profile == name for _, profile in works)),
        note="; ".join(sorted({reason for reason in reasons.values() if reason is not None})),
    )
