"""What an infrastructure and a mesh promise to the workers, whatever they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import EnvironmentKey, MeshArm
from meshgauge.plan import Profile
from meshgauge.trial import Nodes, UsageSample

# Rows of the report's first table, in this order: what a proxy does to a request (measurement.md 7).
FEATURES = (
    "threads",
    "tls",
    "http_downstream",
    "http_upstream",
    "idle_connections",
    "retries",
    "timeout",
    "circuit_breaker",
    "access_log",
    "metrics",
    "tracing",
    "request_id",
    "header_rewriting",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP address: numeric IPv4 host and port.

    Attributes:
        name: what requests call it in their Host header, where a mesh routes by it; empty: any name will do.
    """

    host: str
    port: int
    name: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Check:
    """One treatment check: what was expected, what was seen, and whether they agree."""

    name: str
    passed: bool
    expected: str
    seen: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file worth keeping with the environment: rendered configuration, tail of a log, certificate."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class HostTuning:
    """How quiet the host is made while measuring; the same for all arms of a run.

    Attributes:
        idle_spinners: keep idle cores awake with SCHED_IDLE spinners.
        fifo_priority: SCHED_FIFO priority of the engine thread; None: normal scheduling.
        measured: what the calibration saw, for the provenance.
    """

    idle_spinners: bool = False
    fifo_priority: int | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnvironmentOrder:
    """Everything a provider needs to bring one environment up.

    Attributes:
        site, epoch: stamped on every process or object, so that leftovers of older epochs are found.
        directory: private, empty, ours alone; removed by whoever made it.
        cache_dir: where binaries are kept between environments.
        connections: the most connections any load of this environment opens.
        tuning: None: calibrate, use the quietest the host permits, and report it in ``provenance``.
        quiet_host: False: leave the host as it is.
        load_workers: the most that any load of this environment has.
        first_nodes: where the application stood in the environment that is the measure for this block; it is to stand
            there again, where there is room. None: this is the first, or all is on one host.
        load_image: container image that load workers and probes of a cluster run; empty: none was set.
    """

    environment_id: str
    site: str
    epoch: int
    key: EnvironmentKey
    connections: int
    directory: Path
    cache_dir: Path
    tuning: HostTuning | None = None
    quiet_host: bool = True
    load_workers: int = 1
    load_image: str = ""
    first_nodes: Nodes | None = None


class Environment(Protocol):
    """One environment: a workload, perhaps behind a mesh, on a site. Used as: up, (verify, load, verify)*, down."""

    def up(self, on_phase: Callable[[str], None]) -> Endpoint:
        """Install, configure, start and enrol everything; return where load has to be sent.

        Args:
            on_phase: told the name of each phase as it begins (install, workload, configure, enroll, ready).

        Raises:
            EnvironmentUpError: a component did not come up; names it, with the end of its log.
            ConfigurationError: what the plan names is not on this host: trying again cannot help.
            UnsupportedError: the mesh cannot do what the profile asks.
        """

    def verify_before(self) -> Sequence[Check]:
        """Prove the treatment with probes of our own, and remember all counters. Called before each trial."""

    def verify_connected(self) -> Sequence[Check]:
        """Prove from the host which process holds which connection. Called while load is on, outside the window."""

    def verify_after(self, requests_sent: int) -> Sequence[Check]:
        """Compare what the proxies counted since ``verify_before`` with what was sent. Called after each trial."""

    def sample(self) -> Sequence[UsageSample]:
        """Return the cumulative counters of every component; ``at_s`` is ``time.monotonic()`` when they were so.

        Where somebody else counts, a component comes in parts, each sample once and with the instant it was counted
        at; a part that nobody counts comes without CPU, so that the component's sum is not taken for whole.
        """

    def lost_components(self) -> Sequence[str]:
        """Return a sentence for each component that died or restarted since ``up``."""

    def start_load_workers(self, trial_id: str, master: str, count: int, near: Sequence[str] = ()) -> None:
        """Start ``count`` load workers of a trial beside what is measured; they join the Locust master at HOST:PORT.

        ``near``: nodes they are to stand on, where there is room.

        Called once a trial, after ``up``, and only where ``Infrastructure.brings_load_workers``. They end with their
        master; what is left of them goes with ``down``.

        Raises:
            EnvironmentUpError: one of them does not come up.
        """

    def load_generator_joined(self, process_ids: Sequence[int]) -> None:
        """Count these processes (and their children) as component ``load_generator`` and place them."""

    def nodes(self) -> Nodes | None:
        """Return the nodes that application and load stand on now, by side; None: all of it on this host."""

    @property
    def tuning(self) -> HostTuning:
        """The tuning in force."""

    @property
    def host_cores(self) -> float:
        """Cores of everything that is counted as component ``host``."""

    @property
    def load_cpus(self) -> tuple[int, ...]:
        """Cores the load generator has to keep to; empty: all."""

    def artefacts(self) -> Sequence[Artefact]:
        """Return rendered configurations and the tails of all logs."""

    def provenance(self) -> Mapping[str, Any]:
        """Return versions and hashes of binaries, features in play per hop, placement on cores, host facts."""

    def down(self) -> None:
        """End everything and leave nothing. Idempotent."""


class Provider(Protocol):
    """An infrastructure: where environments come up."""

    name: str

    def unsupported(self, mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
        """Return why ``mesh`` cannot run ``profile`` here, or None when it can. Needs no site."""

    def features(self, mesh: MeshArm, profile: Profile) -> Mapping[str, Mapping[str, str]]:
        """Return, per hop role, a value for every name in FEATURES. Needs no site."""

    def versions(self, adapter: str, infrastructure: Infrastructure) -> Sequence[str]:
        """Return the versions of ``adapter`` that can be had for ``infrastructure``, newest first. Needs no site.

        Raises:
            UnknownNameError: nobody registered it; lists those there are.
            ServiceUnavailableError: the index cannot be reached and no copy of it is kept.
        """

    def preflight(self, key: EnvironmentKey, load_workers: int) -> Sequence[str]:
        """Look at the site and return why the environment could not come up there now; empty: nothing is in the way.

        Changes nothing. Everything else here needs no site; this does.

        Raises:
            ServiceUnavailableError: the site does not answer.
            ConfigurationError: there is no such site, or it refuses us.
        """

    def open(self, order: EnvironmentOrder) -> Environment:
        """Return the environment ``order`` describes, not yet up."""

    def sweep(self, place: str, site: str, epoch: int) -> Sequence[str]:
        """End whatever an epoch before ``epoch`` left on ``site``; return a line for each thing removed.

        Args:
            place: the site's own name, which tells a cluster's provider where to look.
            site: the name stamped on every process and object (``EnvironmentOrder.site``).

        Raises:
            EnvironmentUpError: something could not be removed.
        """
