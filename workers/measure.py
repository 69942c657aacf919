"""Measures one trial in an environment that is up: treatment checks, load, telemetry, gates."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from adapters.contract import Check, Endpoint, Environment
from meshgauge.errors import MeasurementError
from meshgauge.matrix import EnvironmentKey, seed_of
from meshgauge.plan import Load
from meshgauge.trial import GateResult, LoadResult, MeasuredTrial, Nodes, UsageSample
from reports.gates import evaluate_gates
from workers.load.order import LoadOrder
from workers.load_run import LoadRun
from workers.telemetry import Sampler
from workers.usage import reduce_usage

_SILENCE_S = 30.0  # the master tells how it goes once a second

OnProgress = Callable[[Mapping[str, Any]], None]


_ANY_NAME = "meshgauge.local"  # for targets that do not look at the Host header
UNKNOWN_TARGET = Endpoint("127.0.0.1", 1)  # in a draft, until the environment is up


def draft_order(trial_id: str, key: EnvironmentKey, load: Load, run_seed: int, engine: str) -> LoadOrder:
    """Return the order of one trial but for its target. Its arrivals are seeded by the run and the trial."""
    workload = key.workload.spec
    return LoadOrder(
        trial_id=trial_id,
        target_host=UNKNOWN_TARGET.host,
        target_port=UNKNOWN_TARGET.port,
        method=workload.method,
        path=workload.path,
        host_header=_ANY_NAME,
        headers=dict(workload.headers),
        body_bytes=workload.body_bytes,
        expected_status=workload.expected_status,
        expected_body_bytes=0 if workload.method == "HEAD" else workload.reply_bytes,
        rate_rps=load.rate_rps,
        connections=load.connections,
        arrival=load.arrival,
        burst_requests=load.burst_requests,
        ramp_from_rps=load.ramp_from_rps,
        warm_up_s=load.warm_up_s,
        window_s=load.window_s,
        cool_down_s=load.cool_down_s,
        timeout_s=load.timeout_s,
        requests_per_connection=load.requests_per_connection,
        seed=seed_of(run_seed, trial_id),
        load_workers=load.load_workers,
        engine=engine,  # type: ignore[arg-type]  # one of the setting's values
        locust_file=workload.locust_file,
    )


def final_order(draft: LoadOrder, environment: Environment, entry: Endpoint) -> LoadOrder:
    """Return ``draft`` aimed at an environment that is up."""
    return replace(
        draft,
        target_host=entry.host,
        target_port=entry.port,
        host_header=entry.name or draft.host_header,
        fifo_priority=environment.tuning.fifo_priority,
        cpus=environment.load_cpus,
    )


def limited_components(key: EnvironmentKey) -> frozenset[str]:
    """Return the components whose CPU the plan limits: being held back by it is what such a plan measures."""
    proxies = {f"data_plane/{hop.role}" for hop in key.mesh.hops} if key.profile.proxy_cpu_cores else set()
    return frozenset(proxies | ({"app"} if key.infrastructure.size.app_cpu_cores else set()))


class TrialMeasurement:
    """One trial from its first check to its gates.

    Args:
        limited: components whose throttling is the plan's own doing.
        first_nodes: where the trial stood that is the measure for this one's block; None: this is the first.
    """

    def __init__(
        self,
        environment: Environment,
        run: LoadRun,
        order: LoadOrder,
        on_progress: OnProgress,
        limited: Collection[str] = (),
        first_nodes: Nodes | None = None,
    ) -> None:
        self._environment = environment
        self._run = run
        self._order = order
        self._on_progress = on_progress
        self._limited = limited
        self._first_nodes = first_nodes
        self._nodes: Nodes | None = None
        self._checks: list[Check] = []
        self._sampler: Sampler | None = None
        self._connected: threading.Thread | None = None

    def measure(self) -> MeasuredTrial:
        """Return what the trial measured; a load that failed gives a trial without numbers, and says why."""
        ready = self._run.wait_ready()
        here = socket.gethostname()
        self._environment.load_generator_joined([w["process_id"] for w in ready["workers"] if w["host"] == here])
        self._checks.extend(self._environment.verify_before())
        self._nodes = self._environment.nodes()
        self._run.go(self._order)
        try:
            load = self._run.follow(self._on_event, _SILENCE_S + self._order.timeout_s)
            samples = self._samples()
        except MeasurementError as error:
            return self._failed(str(error))
        self._checks.extend(self._environment.verify_after(load.requests_total))
        return self._judged(load, samples)

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "window":
            start_s = event["window_start_monotonic_s"]
            self._sampler = Sampler(self._environment.sample, start_s, self._order.window_s)
            self._check_connections_before(start_s - time.monotonic())
        elif event["event"] == "progress":
            self._on_progress(event)

    def _check_connections_before(self, ahead_s: float) -> None:
        """Look at who is connected to whom half-way through the warm-up: load is on, and nothing is recorded."""
        wait_s = max(0.0, ahead_s / 2)

        def look() -> None:
            time.sleep(wait_s)
            self._checks.extend(self._environment.verify_connected())

        self._connected = threading.Thread(target=look, name="verify-connected", daemon=True)
        self._connected.start()

    def _samples(self) -> tuple[UsageSample, ...]:
        if self._sampler is None or self._connected is None:
            raise MeasurementError("the Locust master never announced its window")
        self._connected.join()
        return self._sampler.result()

    def _failed(self, reason: str) -> MeasuredTrial:
        if self._sampler is not None:
            self._sampler.stop()
        lost = self._environment.lost_components()
        # A dead proxy is the cause, the load's complaint its consequence: the cause comes first.
        reason = "; ".join([*lost, reason])
        return MeasuredTrial(self._order.trial_id, "invalid", reason, None, (), (), (), self._checks_json())

    def _judged(self, load: LoadResult, samples: Sequence[UsageSample]) -> MeasuredTrial:
        usage = reduce_usage(samples, self._environment.host_cores, self._order.window_s)
        lost = self._environment.lost_components()
        gates = evaluate_gates(
            load, usage, self._checks, lost, self._order.arrival, self._limited, self._nodes, self._first_nodes
        )
        bad = [gate for gate in gates if gate.status == "invalid"]
        return MeasuredTrial(
            trial_id=self._order.trial_id,
            state="invalid" if bad else "measured",
            reason=_reason(bad),
            load=load,
            samples=tuple(samples),
            usage=usage,
            gates=gates,
            checks=self._checks_json(),
            nodes=self._nodes,
        )

    def _checks_json(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(asdict(check) for check in self._checks)


def _reason(bad: Sequence[GateResult]) -> str | None:
    """Return one sentence; a lost component comes first, as it is the cause of the rest."""
    ordered = sorted(bad, key=lambda gate: gate.gate != "components")
    return "; ".join(f"{gate.gate}: {gate.message}" for gate in ordered) or None
