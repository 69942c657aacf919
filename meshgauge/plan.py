"""The plan a user submits: its fields, their defaults and their limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from meshgauge.fields import Name, Strict
from meshgauge.infrastructures import Infrastructure
from meshgauge.workloads import Workload

Placement = Literal["pair", "client", "server", "node"]
Arrival = Literal["poisson", "uniform", "burst", "ramp"]

FEWEST_CONFIRMING_BLOCKS = 6
# Kubelets count a container every 10 to 20 s, and CPU needs four counts within the window: 80 s at worst, and half as
# much again, so that a kubelet that is late now and then takes no number away. Source: reference/adapters.md 15.
CLUSTER_WINDOW_S = 120.0
LOOKS = (6, 10, 15, 20)  # valid blocks at which a sequential run is looked at (reference/statistics.md 3.5)


class ProxyChoice(Strict):
    """One proxy of a mixed pair."""

    adapter: Name
    version: str = Field(default="latest", description="exact, latest, previous, latest-N or a range such as >=1.38")
    binary: str | None = Field(default=None, description="path of a binary on the worker, instead of a version")


class Mesh(Strict):
    """What is compared. One entry gives one arm per version.

    Either ``adapter`` (with ``versions``), or ``client`` and ``server`` for a pair of different meshes.
    """

    adapter: Name | None = None
    versions: tuple[str, ...] = Field(default=("latest",), min_length=1, description="version selectors")
    binary: str | None = Field(default=None, description="path of a binary on the worker, instead of a version")
    placement: Placement = "pair"
    client: ProxyChoice | None = None
    server: ProxyChoice | None = None
    label: Name | None = Field(default=None, description="name of the arm; made from adapter and version by default")
    profiles: tuple[Name, ...] | None = Field(default=None, description="only these of the plan's profiles")

    @model_validator(mode="before")
    @classmethod
    def _accept_a_bare_name_and_a_single_version(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"adapter": data}
        if isinstance(data, dict) and "version" in data:
            if "versions" in data:
                raise ValueError("give version or versions, not both")
            data = dict(data)
            data["versions"] = [data.pop("version")]
        return data

    @model_validator(mode="after")
    def _is_one_adapter_or_a_mixed_pair(self) -> Self:
        mixed = self.client is not None and self.server is not None
        if (self.adapter is None) != mixed or (self.adapter and (self.client or self.server)):
            raise ValueError("give adapter, or both client and server for a mixed pair")
        if mixed and self.placement != "pair":
            raise ValueError("client and server make a pair; leave placement out")
        if self.binary and (mixed or len(self.versions) > 1):
            raise ValueError("binary replaces one version: give a single entry for each binary")
        return self


class Profile(Strict):
    """A mesh-neutral configuration. Every field is set explicitly in every proxy."""

    name: Name
    mtls: bool = Field(default=False, description="mutual TLS between client and server proxy")
    access_log: bool = Field(default=False, description="one access-log line a request, to a file")
    metrics: bool = Field(default=False, description="the proxy's own request metrics, at full detail")
    proxy_threads: int = Field(default=1, ge=1, le=256, description="worker threads of each proxy")
    request_timeout_s: float = Field(default=15.0, gt=0, le=600, description="upstream time-out of each proxy")
    idle_connections: int = Field(default=1024, ge=1, le=65_536, description="keep-alive pool to the upstream")
    tls_version: Literal["1.2", "1.3"] = "1.3"
    request_id: bool = Field(default=False, description="let the proxy add a request id header")
    permissive: bool = Field(default=False, description="mtls: accept plaintext beside mutual TLS")
    tracing_ratio: float = Field(
        default=0.0, ge=0, le=1, description="share of requests the proxies report a trace span for"
    )
    proxy_cpu_cores: float | None = Field(
        default=None, gt=0, le=256, description="kubernetes: CPU request and limit of each proxy; None: no limit"
    )
    proxy_memory_bytes: int | None = Field(
        default=None, ge=16 << 20, description="kubernetes: memory request and limit of each proxy; None: no limit"
    )

    @model_validator(mode="after")
    def _is_permissive_about_something(self) -> Self:
        if self.permissive and not self.mtls:
            raise ValueError("permissive accepts plaintext beside mutual TLS: write mtls: true with it")
        return self


BUILT_IN_PROFILES: dict[str, Profile] = {
    "plain": Profile(name="plain"),
    "mtls": Profile(name="mtls", mtls=True),
    "observed": Profile(name="observed", access_log=True, metrics=True),
    "mtls-observed": Profile(name="mtls-observed", mtls=True, access_log=True, metrics=True),
}


def built_in_profile(value: Any) -> Any:
    """Return the built-in profile of that name; anything but a name stays as it is."""
    if isinstance(value, str):
        if value not in BUILT_IN_PROFILES:
            known = ", ".join(BUILT_IN_PROFILES)
            raise ValueError(f"unknown profile {value!r}; known: {known}; or give an object with a name of its own")
        return BUILT_IN_PROFILES[value]
    return value


class Load(Strict):
    """How requests arrive. Users are connections; the rate belongs to the whole test."""

    name: Name | None = Field(default=None, description="made from rate and connections by default")
    rate_rps: float | None = Field(default=None, gt=0, le=2_000_000, description="offered requests a second, in total")
    loop: Literal["open", "closed"] = Field(default="open", description="closed: explicit, labelled, no verdicts")
    connections: int = Field(default=16, ge=1, le=60_000)
    arrival: Arrival = "poisson"
    burst_requests: int = Field(default=10, ge=2, le=100_000, description="arrival: burst - requests sent together")
    ramp_from_rps: float | None = Field(default=None, gt=0, description="arrival: ramp - rate at the window's start")
    warm_up_s: float = Field(default=30.0, ge=0.5, le=3600)
    window_s: float = Field(
        default=60.0, ge=1, le=86_400, description="measured; by default 120 in a plan with provider: kubernetes"
    )
    cool_down_s: float = Field(default=15.0, ge=0, le=3600)
    load_workers: int = Field(default=1, ge=1, le=1000)
    requests_per_connection: int | None = Field(default=None, ge=1, description="reconnect after so many requests")
    timeout_s: float = Field(default=10.0, gt=0, le=60)

    @model_validator(mode="after")
    def _is_open_with_a_rate_or_closed(self) -> Self:
        if (self.loop == "open") != (self.rate_rps is not None):
            raise ValueError("rate_rps is needed with loop: open, and has no meaning with loop: closed")
        if (self.arrival == "ramp") != (self.ramp_from_rps is not None):
            raise ValueError("ramp_from_rps belongs to arrival: ramp, and is needed there")
        if self.connections < self.load_workers:
            raise ValueError("each load worker needs a connection: raise connections or lower load_workers")
        return self

    @property
    def label(self) -> str:
        """The load's name, or one made of what it is."""
        if self.name:
            return self.name
        rate = "closed" if self.rate_rps is None else f"{self.rate_rps:g}rps"
        arrival = "" if self.arrival == "poisson" else f"-{self.arrival}"
        return f"{rate}-{self.connections}c{arrival}".replace("+", "")

    @property
    def duration_s(self) -> float:
        """Warm-up, window and cool-down together."""
        return self.warm_up_s + self.window_s + self.cool_down_s


class Rule(Strict):
    """Selects cells by shell patterns (``*``, ``?``) on the labels of their dimensions; all given must match."""

    mesh: str | None = None
    profile: str | None = None
    workload: str | None = None
    infrastructure: str | None = None
    load: str | None = None

    @model_validator(mode="after")
    def _names_a_dimension(self) -> Self:
        if not any(getattr(self, dimension) for dimension in Rule.model_fields):
            raise ValueError("give at least one of mesh, profile, workload, infrastructure, load")
        return self


class Margins(Strict):
    """Differences too small to matter. Ratios: 0.03 is three per cent. Source: measurement.md 4."""

    p50_ratio: float = Field(default=0.03, gt=0, lt=1)
    p99_ratio: float = Field(default=0.05, gt=0, lt=1)
    cpu_ratio: float = Field(default=0.03, gt=0, lt=1)
    memory_ratio: float = Field(default=0.05, gt=0, lt=1)
    capacity_ratio: float = Field(default=0.03, gt=0, lt=1)
    errors_points: float = Field(default=0.1, gt=0, lt=100)


# Readings that a threshold may bound; what each means is said in reports.readings.metrics.
MetricName = Literal[
    "p50", "p90", "p99", "p999", "cpu", "cpu_data_plane", "cpu_control_plane", "cpu_host", "memory_data_plane",
    "achieved_rps", "errors"
]  # fmt: skip


class Threshold(Strict):
    """A bound that ``meshgauge gate`` holds a run against: on a level, or on a worsening against another arm."""

    name: Name | None = Field(default=None, description="made from metric and bound by default")
    metric: MetricName
    where: Rule | None = Field(
        default=None,
        description="only these cells; by default every cell but the baseline's, or every comparison of its kind",
    )
    at_most: float | None = Field(default=None, description="highest level allowed, in the metric's unit (ms, MiB ...)")
    at_least: float | None = Field(default=None, description="lowest level allowed, in the metric's unit")
    worse_by_at_most: float | None = Field(
        default=None,
        ge=0,
        description="largest worsening allowed against the other arm: per cent, or points for errors",
    )
    against: Literal["baseline", "release", "application"] = Field(
        default="release", description="worse_by_at_most: than no mesh, the older release, or the older application"
    )

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if sum(bound is not None for bound in (self.at_most, self.at_least, self.worse_by_at_most)) != 1:
            raise ValueError("give exactly one of at_most, at_least, worse_by_at_most")
        return self


class Schedule(Strict):
    """When the plan fires by itself."""

    cron: str = Field(description="five fields: minute hour day month weekday")
    time_zone: str = Field(default="UTC", description="IANA name, e.g. Europe/Berlin")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


class Plan(Strict):
    """The declarative document: every combination of its lists is a cell."""

    version: Literal[1] = Field(default=1, description="version of the plan format")
    name: Name
    description: str = Field(default="", max_length=2000)
    meshes: Annotated[tuple[Mesh, ...], BeforeValidator(_listed)] = Field(min_length=1)
    profiles: Annotated[tuple[Annotated[Profile, BeforeValidator(built_in_profile)], ...], BeforeValidator(_listed)] = (
        BUILT_IN_PROFILES["plain"],
    )
    workloads: Annotated[tuple[Workload, ...], BeforeValidator(_listed)] = Field(min_length=1)
    infrastructures: Annotated[tuple[Infrastructure, ...], BeforeValidator(_listed)] = (Infrastructure(),)
    loads: Annotated[tuple[Load, ...], BeforeValidator(_listed)] = Field(min_length=1)
    include: tuple[Rule, ...] = Field(default=(), description="keep only cells that match one of these")
    exclude: tuple[Rule, ...] = Field(default=(), description="then drop cells that match one of these")
    blocks: int = Field(default=10, ge=1, le=1000)
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="drawn and stored when absent")
    baseline: str = Field(default="none", description="label of the mesh that others are compared with")
    aa_arm: bool = Field(default=False, description="run the baseline a second time under another label")
    margins: Margins = Margins()
    sequential: bool = Field(
        default=False, description="look after 6, 10, 15 and 20 valid blocks and stop when all is decided; blocks: 20"
    )
    thresholds: tuple[Threshold, ...] = Field(default=(), description="what `meshgauge gate` holds the run against")
    confirm_blocks: int = Field(
        default=10, ge=0, le=1000, description="fresh blocks that confirm what a gate's first run found; 0: none"
    )
    schedule: Schedule | None = None

    @field_validator("loads")
    @classmethod
    def _give_kubelets_the_time_to_count(cls, loads: tuple[Load, ...], info: ValidationInfo) -> tuple[Load, ...]:
        """Lengthen windows nobody set where a cluster is among the places: a load is the same in all of them."""
        places: tuple[Infrastructure, ...] = info.data.get("infrastructures", ())
        if all(place.provider != "kubernetes" for place in places):
            return loads
        return tuple(
            load if "window_s" in load.model_fields_set else load.model_copy(update={"window_s": CLUSTER_WINDOW_S})
            for load in loads
        )

    @field_validator("confirm_blocks")
    @classmethod
    def _can_confirm(cls, blocks: int) -> int:
        if 0 < blocks < FEWEST_CONFIRMING_BLOCKS:
            raise ValueError(
                f"{blocks} blocks confirm nothing: {FEWEST_CONFIRMING_BLOCKS} are the fewest a verdict needs, "
                "10 the default, and 0 lets the first run decide alone"
            )
        return blocks

    @model_validator(mode="after")
    def _has_unique_names(self) -> Self:
        for field, names in {
            "profiles": [profile.name for profile in self.profiles],
            "workloads": [workload.name for workload in self.workloads],
            "infrastructures": [infrastructure.name for infrastructure in self.infrastructures],
            "loads": [load.label for load in self.loads],
            "meshes": [mesh.label for mesh in self.meshes if mesh.label],
        }.items():
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{field}: {', '.join(twice)} appears more than once; give each its own name")
        known = {profile.name for profile in self.profiles}
        for mesh in self.meshes:
            for name in mesh.profiles or ():
                if name not in known:
                    raise ValueError(f"meshes: profile {name!r} is not among the plan's profiles {sorted(known)}")
        return self

    @model_validator(mode="after")
    def _has_the_blocks_its_looks_need(self) -> Self:
        if self.sequential and self.blocks != LOOKS[-1]:
            looks = ", ".join(map(str, LOOKS[:-1]))
            raise ValueError(
                f"sequential: true looks at {looks} and {LOOKS[-1]} valid blocks: "
                f"set blocks: {LOOKS[-1]} (not {self.blocks}), or leave sequential out"
            )
        return self
