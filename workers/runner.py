"""The runner: brings one environment up, measures its trials, takes it down. Runs below a guard.

It knows no database and no queue: its order comes in a file, its events go out as JSON lines, its
results into the spool.
"""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapters import registry
from adapters.contract import Endpoint, Environment, EnvironmentOrder
from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError, UnsupportedError
from workers import places, spool
from workers.load.order import LoadOrder
from workers.load_run import LoadRun, free_address
from workers.measure import TrialMeasurement, draft_order, final_order, limited_components
from workers.work import EventStream, TrialOrder, WorkOrder, environment_and_loads

# Trying the same again cannot help.
_FINAL_ERRORS = (UnsupportedError, ConfigurationError)

# For load workers that a cluster starts: a node may have to pull an image of some 500 MB, and others with it.
PULL_WAIT_S = 600.0


class Runner:
    """One attempt at one environment."""

    def __init__(self, order: WorkOrder, events: EventStream) -> None:
        self._order = order
        self._events = events
        self._directory = Path(order.directory)
        self._key, self._loads = environment_and_loads(order)
        self._brings_load_workers = self._key.infrastructure.brings_load_workers
        self._next: tuple[LoadRun, LoadOrder] | None = None
        self._errors: list[Exception] = []

    def run(self) -> None:
        """Do all the work and send the last event; errors become its reason.

        The first error decides whether to try again: those of taking down what it left follow from it.
        """
        with self._noted():
            self._visit(self._open())
        outcome, reason, retry = "done", None, True
        if self._errors:
            outcome, reason, retry = "failed", self._explain(), not isinstance(self._errors[0], _FINAL_ERRORS)
        self._events.send("ended", outcome=outcome, reason=reason, retry=retry)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        """Note an error of ours, for the reason, and go on behind the block."""
        try:
            yield
        except (MeshgaugeError, OSError) as error:
            self._errors.append(error)

    def _visit(self, environment: Environment) -> None:
        """Bring the environment up, measure in it, and take it down whatever happens."""
        try:
            with self._noted():
                self._measure_all(environment)
        finally:
            self._drop_load()
            with self._noted():
                self._keep_evidence(environment)
            with self._noted():
                environment.down()

    def _measure_all(self, environment: Environment) -> None:
        if not self._brings_load_workers:
            self._prepare_load(0)
        entry = environment.up(lambda phase: self._events.send("phase", phase=phase))
        self._events.send("tuning", tuning=asdict(environment.tuning))
        for at, trial in enumerate(self._order.trials):
            self._measure(environment, entry, at, trial)
            if lost := environment.lost_components():
                raise EnvironmentUpError("; ".join(lost))

    def _explain(self) -> str:
        """Return the sentences of all errors and of what each followed from, and whether the disk is full."""
        sentences = dict.fromkeys(sentence for error in self._errors for sentence in _sentences(error))
        full = places.full_disk(self._directory)
        return "; ".join([*([full] if full else []), *sentences])

    def _open(self) -> Environment:
        order = self._order
        if self._brings_load_workers:
            refuse_loopback(order.advertise_host)
        provider = registry.provider(self._key.infrastructure.provider, Path(order.cache_dir))
        return provider.open(
            EnvironmentOrder(
                environment_id=order.environment_id,
                site=order.site,
                epoch=order.epoch,
                key=self._key,
                connections=max(self._loads[trial.load].connections for trial in order.trials),
                directory=Path(order.runtime_dir),
                cache_dir=Path(order.cache_dir),
                tuning=order.host_tuning(),
                quiet_host=order.quiet_host,
                load_workers=max(self._loads[trial.load].load_workers for trial in order.trials),
                load_image=order.load_image,
                first_nodes=next((trial.first_nodes for trial in order.trials if trial.first_nodes), None),
            )
        )

    def _prepare_load(self, at: int) -> None:
        """Start the Locust master of trial ``at``, so that it is ready when the environment is.

        Where the environment brings its load workers, it is the environment that is ready first.
        """
        trial = self._order.trials[at]
        load = self._loads[trial.load]
        draft = draft_order(trial.trial_id, self._key, load, self._order.seed, self._order.load_engine)
        directory = spool.trial_directory(self._directory, trial.trial_id) / spool.LOAD_FOLDER
        is_known = not at and not self._brings_load_workers  # to load workers the watcher has asked for already
        master = self._order.first_master if is_known else free_address(self._order.advertise_host)
        worker_wait_s = PULL_WAIT_S if self._brings_load_workers else None
        self._next = (LoadRun(draft, master, directory, worker_wait_s), draft)
        if not is_known and not self._brings_load_workers:
            self._events.send("load_wanted", trial_id=trial.trial_id, master=master, load_workers=load.load_workers)

    def _drop_load(self) -> None:
        if self._next is not None:
            self._next[0].stop()
            self._next = None

    def _measure(self, environment: Environment, entry: Endpoint, at: int, trial: TrialOrder) -> None:
        if self._next is None:
            self._prepare_load(at)
        assert self._next is not None  # noqa: S101 - prepared above
        run, draft = self._next
        self._events.send("trial_started", trial_id=trial.trial_id)
        if self._brings_load_workers:
            near = (trial.first_nodes or {}).get("load", ())
            environment.start_load_workers(trial.trial_id, run.master, self._loads[trial.load].load_workers, near)

        def on_progress(event: Mapping[str, Any]) -> None:
            fields = {name: value for name, value in event.items() if name != "event"}
            self._events.send("progress", trial_id=trial.trial_id, cell=trial.cell, **fields)

        order = final_order(draft, environment, entry)
        try:
            limited = limited_components(self._key)
            measured = TrialMeasurement(environment, run, order, on_progress, limited, trial.first_nodes).measure()
        finally:
            self._drop_load()
        spool.write_measured(spool.trial_directory(self._directory, trial.trial_id), measured)
        self._events.send("trial_finished", trial_id=trial.trial_id)

    def _keep_evidence(self, environment: Environment) -> None:
        """Leave provenance and artefacts before the environment's directory goes."""
        self._events.send("provenance", provenance=dict(environment.provenance()))
        folder = self._directory / "artefacts"
        folder.mkdir()
        for at, artefact in enumerate(environment.artefacts()):
            path = folder / str(at)
            path.write_bytes(artefact.content)
            self._events.send("artefact", name=artefact.name, media_type=artefact.media_type, path=str(path))


def _sentences(error: BaseException | None) -> list[str]:
    """Return what an error of ours says, after what those it followed from say."""
    found: list[str] = []
    while error is not None:
        if isinstance(error, MeshgaugeError | OSError):
            found.insert(0, str(error))
        error = None if error.__suppress_context__ else error.__context__
    return found


def refuse_loopback(host: str) -> None:
    """Refuse an address that load workers in a cluster would look for on themselves.

    Raises:
        ConfigurationError: says what to set.
    """
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        raise ConfigurationError(
            f"load workers in the cluster report to this host, and {host} is not an address at which a pod finds it: "
            "set MESHGAUGE_ADVERTISE_HOST to one that pods can reach, or write load_from: workers in the plan's cluster"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False  # a name, which the pods look up themselves
    return True


def main(arguments: list[str]) -> int:
    """Run the order in the file named by the first argument."""
    # A polite end from the guard unwinds the stack, so that the environment is taken down properly.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Runner(WorkOrder.read(Path(arguments[0])), EventStream.taking_over_stdout()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
