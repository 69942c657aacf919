"""Where external load may be sent: the operator's allow-list against addresses a plan could smuggle in."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from meshgauge.errors import ConfigurationError, InvalidPlanError, Problem
from meshgauge.plan import Plan

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Returns all addresses of a host name. Raises OSError when there is none.
Resolve = Callable[[str, int], Sequence[Address]]

# Nobody's business by default: an allowed network has to lie inside one of these to open it, so that
# 0.0.0.0/0 opens none. 192.0.0.192 (Oracle) and 100.100.100.200 (Alibaba) are cloud metadata servers that
# ipaddress takes for ordinary addresses. Source: reference/operations.md 8.
_GUARDED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "100.100.100.200/32",
        "224.0.0.0/3",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::254/128",
        "ff00::/8",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def resolve_host(host: str, port: int) -> Sequence[Address]:
    """Return every address ``host`` has now."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def allowed_networks(texts: Iterable[str], setting: str = "ALLOWED_TARGETS") -> tuple[Network, ...]:
    """Return the operator's allow-list as ``setting`` has it.

    Raises:
        ConfigurationError: an entry is no network.
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError as error:
            raise ConfigurationError(
                f"MESHGAUGE_{setting}: {text!r} is no network; write 10.0.0.0/8 or 192.0.2.7/32"
            ) from error
    return tuple(networks)


def refuse_foreign_targets(plan: Plan, allowed: Sequence[Network], resolve: Resolve = resolve_host) -> None:
    """See that every address a plan names, external targets and Prometheus servers, is one the operator allowed.

    Raises:
        InvalidPlanError: lists each target that is not, and the setting that would allow it.
    """
    problems = []
    for at, infrastructure in enumerate(plan.infrastructures):
        named = {
            "target_url": infrastructure.target_url,
            "cluster.prometheus_url": infrastructure.cluster and infrastructure.cluster.prometheus_url,
        }
        for field, url in named.items():
            message = _refusal(url, allowed, resolve) if url else None
            if message:
                problems.append(Problem(f"infrastructures[{at}].{field}", message))
    if problems:
        raise InvalidPlanError(problems)


def _refusal(url: str, allowed: Sequence[Network], resolve: Resolve) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        return f"not a URL: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "write http://host:port or https://host:port"
    if parts.username or parts.password:
        return "a user name or password does not belong in a plan; leave it out of the URL"
    try:
        addresses = resolve(parts.hostname, port)
    except (OSError, UnicodeError) as error:
        return f"host {parts.hostname!r} has no address: {error}"
    for address in addresses:
        if not is_allowed(address, allowed):
            return (
                f"{parts.hostname!r} is {address}, where nothing may be sent; "
                f"an operator can allow it: MESHGAUGE_ALLOWED_TARGETS={address}/{address.max_prefixlen}"
            )
    return None


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Return whether load may be sent to ``address``; an address hidden in an IPv6 one is judged itself."""
    address = _unwrapped(address)
    guarded = next((network for network in _GUARDED if address in network), None)
    return any(address in network and (guarded is None or _inside(network, guarded)) for network in allowed)


def is_public(address: Address) -> bool:
    """Return whether ``address`` belongs to the public internet: no private, loopback or metadata network."""
    address = _unwrapped(address)
    return address.is_global and not any(address in network for network in _GUARDED)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False
