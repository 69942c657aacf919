"""One trial's measurement hands its gates what they have to know of the plan."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from adapters.contract import Check, Endpoint, Environment
from meshgauge.histogram import Histogram
from meshgauge.infrastructures import Infrastructure, Size
from meshgauge.matrix import EnvironmentKey, Hop, MeshArm, Workload
from meshgauge.plan import BUILT_IN_PROFILES, Load
from meshgauge.trial import CLOCKS, LoadResult, MeasuredTrial, Nodes, UsageSample
from meshgauge.workloads import Workload as Spec
from workers.load_run import LoadRun
from workers.measure import TrialMeasurement, draft_order, limited_components

KEY = EnvironmentKey(
    MeshArm("envoy", "pair", (Hop("client", "envoy", "1.40.0"), Hop("server", "envoy", "1.40.0"))),
    BUILT_IN_PROFILES["plain"],
    Workload("small", Spec(name="small", app="fixed-reply", reply_bytes=64), None),
    Infrastructure(),
)
RISING = tuple(400.0 * 1.1**part for part in range(12))


class StillEnvironment:
    """An environment that is up, where nothing happens."""

    host_cores = 2

    def __init__(self, nodes: Nodes | None = None) -> None:
        self._nodes = nodes

    def nodes(self) -> Nodes | None:
        return self._nodes

    def load_generator_joined(self, process_ids: object) -> None: ...

    def verify_before(self) -> list[Check]:
        return []

    def verify_connected(self) -> list[Check]:
        return []

    def verify_after(self, requests_sent: int) -> list[Check]:
        return []

    def lost_components(self) -> list[str]:
        return []

    def sample(self) -> list[UsageSample]:
        return [UsageSample("host", time.monotonic(), 1.0, 1.0, 1 << 20, 1, 1, steal_s=0.0)]


class RunOf:
    """A Locust run that is over as soon as it began, with a result made before."""

    def __init__(self, load: LoadResult) -> None:
        self._load = load

    def wait_ready(self) -> Mapping[str, Any]:
        return {"workers": []}

    def go(self, order: object) -> None: ...

    def follow(self, on_event: Callable[[Mapping[str, Any]], None], timeout_s: float) -> LoadResult:
        on_event({"event": "window", "window_start_monotonic_s": time.monotonic()})
        return self._load


@pytest.fixture
def rising(measured_load: LoadResult) -> LoadResult:
    """A load whose replies get slower through the whole window."""
    return replace(measured_load, batch_p50_us=RISING)


@pytest.fixture
def measured_load() -> LoadResult:
    """A load of 1000 requests in a window of a second."""
    return LoadResult(
        engine="native",
        engine_abi=1,
        locust_version="2.47.0",
        resolution_ns=1,
        window_start=dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
        window_s=1.0,
        offered=1000,
        sent=1000,
        done=1000,
        dropped=0,
        waited=0,
        backlog_peak=0,
        connections_opened=8,
        outcomes={"ok": 1000},
        histograms={("ok", clock): Histogram.of([400_000] * 1000) for clock in CLOCKS},
        seconds=(),
        batch_p50_us=(400.0,) * 12,
        workers=(),
        requests_total=1000,
    )


def measured(
    load: LoadResult, nodes: Nodes | None = None, first_nodes: Nodes | None = None, **plan: Any
) -> MeasuredTrial:
    asked = Load(rate_rps=1000, warm_up_s=0.5, window_s=1, **plan)
    order = draft_order("7d9f2d0e-6d61-4a54-9d0c-0d7b3a1b2c3d", KEY, asked, 1, "python")
    run, environment = cast(LoadRun, RunOf(load)), cast(Environment, StillEnvironment(nodes))
    return TrialMeasurement(environment, run, order, lambda _: None, first_nodes=first_nodes).measure()


def test_a_ramp_is_not_judged_as_a_drift(rising: LoadResult) -> None:
    steady = {gate.gate: gate.status for gate in measured(rising).gates}
    ramp = {gate.gate: gate.status for gate in measured(rising, arrival="ramp", ramp_from_rps=100).gates}
    assert steady["drift"] == "invalid"
    assert "drift" not in ramp


def test_a_trial_keeps_where_it_stood_and_is_held_against_the_first_of_its_block(measured_load: LoadResult) -> None:
    first = measured(measured_load, nodes={"app": ["n1"]})
    assert (first.state, first.nodes) == ("measured", {"app": ["n1"]})
    second = measured(measured_load, nodes={"app": ["n2"]}, first_nodes=first.nodes)
    assert (second.state, second.nodes) == ("invalid", {"app": ["n2"]})
    assert second.reason is not None
    assert second.reason.startswith("nodes: stood on other nodes")
    here = measured(measured_load)
    assert (here.state, here.nodes) == ("measured", None)


def test_limits_of_the_plan_are_known_by_component() -> None:
    assert limited_components(KEY) == frozenset()
    tight = replace(KEY, profile=KEY.profile.model_copy(update={"proxy_cpu_cores": 1.0}))
    assert limited_components(tight) == {"data_plane/client", "data_plane/server"}
    small = Infrastructure(name="k", provider="kubernetes", size=Size(app_cpu_cores=2))
    assert limited_components(replace(KEY, infrastructure=small)) == {"app"}


def test_a_target_is_known_only_once_the_environment_is_up() -> None:
    order = draft_order("t", KEY, Load(rate_rps=10), 1, "python")
    assert Endpoint(order.target_host, order.target_port) == Endpoint("127.0.0.1", 1)
