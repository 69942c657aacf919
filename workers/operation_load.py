"""Load for the contract suite in a cluster: one short trial with the cluster's own load workers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.contract import Check, Endpoint, Environment
from meshgauge.matrix import EnvironmentKey
from meshgauge.plan import Load
from meshgauge.trial import MeasuredTrial
from workers.load_run import LoadRun, free_address
from workers.measure import TrialMeasurement, draft_order, final_order
from workers.runner import PULL_WAIT_S, refuse_loopback

_LOAD = Load(rate_rps=50, connections=2, warm_up_s=1, window_s=5, cool_down_s=0)
_SEED = 1


@dataclass(frozen=True, slots=True)
class ClusterLoad:
    """Sends a little load from inside the cluster; implements ``adapters.operating.Drive``.

    Attributes:
        advertise_host: address of this host at which pods reach it.
        directory: for the Locust master's files.
    """

    advertise_host: str
    directory: Path
    engine: str

    def __call__(self, environment: Environment, entry: Endpoint, key: EnvironmentKey) -> Sequence[Check]:
        """Return every check of one trial, and one on whether the load went through at all.

        Raises:
            ConfigurationError: no pod can find this host; says what to set.
            EnvironmentUpError: a load worker does not come up.
        """
        refuse_loopback(self.advertise_host)
        trial_id = str(uuid.uuid4())
        draft = draft_order(trial_id, key, _LOAD, _SEED, self.engine)
        run = LoadRun(draft, free_address(self.advertise_host), self.directory / trial_id, PULL_WAIT_S)
        try:
            environment.start_load_workers(trial_id, run.master, _LOAD.load_workers)
            order = final_order(draft, environment, entry)
            measured = TrialMeasurement(environment, run, order, lambda _: None).measure()
        finally:
            run.stop()
        expected = f"{_LOAD.rate_rps:.0f} requests a second for {_LOAD.window_s:.0f} s, all answered"
        return [_went_through(measured, expected), *(Check(**check) for check in measured.checks)]


def _went_through(measured: MeasuredTrial, expected: str) -> Check:
    if measured.load is None:
        return Check("load", False, expected, measured.reason or "no result")
    outcomes = {outcome: count for outcome, count in measured.load.outcomes.items() if count}
    seen = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "no request"
    return Check("load", set(outcomes) == {"ok"}, expected, seen)
