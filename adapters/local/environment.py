"""One environment on this host: brought up, checked, metered and taken down."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.contract import Artefact, Check, Endpoint, EnvironmentOrder, HostTuning
from adapters.fixed_reply import VERSION
from adapters.local import mesh, procfs
from adapters.local.application import PACKAGE, ApplicationOrder, start_application
from adapters.local.cookie import Cookie
from adapters.local.counters import ComponentMeter, HostMeter
from adapters.local.host import host_facts
from adapters.local.launching import Launched
from adapters.local.placement import SHARED_WARNING, place_on_this_host
from adapters.local.processes import Guarded, stop_all, tail
from adapters.local.quiet import Spinners, calibrate
from adapters.local.sweep import sweep_environment
from adapters.local.treatment import Subject, Treatment
from meshgauge.errors import ConfigurationError, EnvironmentUpError
from meshgauge.trial import Nodes, UsageSample

_FILES_PER_CONNECTION = 2  # a proxy holds both sides
_SPARE_FILES = 512
_ARTEFACT_LOG_BYTES = 64 * 1024
_SECRET = b"PRIVATE KEY"  # in whatever file: some proxies want key and certificate in one


class LocalEnvironment:
    """Implements ``adapters.contract.Environment`` with processes of this host."""

    def __init__(self, order: EnvironmentOrder, find_proxy: mesh.FindProxy) -> None:
        self._order = order
        self._find_proxy = find_proxy
        self._cookie = Cookie(order.site, order.epoch, order.environment_id)
        self._placement = place_on_this_host()
        self._app: Launched | None = None
        self._hops: list[mesh.RunningHop] = []
        self._installed: list[mesh.Installed] = []
        self._app_process_ids: tuple[int, ...] = ()
        self._spinners: Spinners | None = None
        self._tuning = order.tuning
        self._treatment: Treatment | None = None
        self._meters: list[ComponentMeter] = []
        self._generator = ComponentMeter("load_generator")
        self._host_meter = HostMeter()

    def up(self, on_phase: Callable[[str], None]) -> Endpoint:
        """Install, start and connect everything; return where load has to be sent.

        Raises:
            EnvironmentUpError: a component did not come up; names it, with the end of its log.
            UnsupportedError: the mesh cannot do what the profile asks.
        """
        try:
            return self._up(on_phase)
        except OSError as error:  # a full disk, a folder that is gone: no fault of the mesh
            where = error.filename or self._order.directory
            raise EnvironmentUpError(
                f"environment {self._order.key.key} cannot be set up: {error.strerror or error} ({where}); "
                "look at the free space and the rights of that folder"
            ) from error

    def _up(self, on_phase: Callable[[str], None]) -> Endpoint:
        order, key = self._order, self._order.key
        mesh.refuse_unsupported(key.mesh, key.profile, self._find_proxy)
        _refuse_too_many_connections(order.connections)
        on_phase("install")
        self._installed = mesh.install(key.mesh, self._find_proxy, order.cache_dir)
        on_phase("workload")
        self._start_application()
        on_phase("configure")
        self._make_quiet()
        identities = mesh.issue_identities(key.mesh, key.profile, order.directory / "identities", order.environment_id)
        on_phase("enroll")
        chain = mesh.ChainOrder(
            key.profile, identities, order.connections, order.directory, self._cookie, self._placement.proxies
        )
        app = self._running_app()
        entry = mesh.bring_up(self._installed, chain, app.endpoints[0], self._hops)
        on_phase("ready")
        self._begin_watch(app, entry)
        return entry

    def _start_application(self) -> None:
        order = self._order
        self._app = start_application(
            ApplicationOrder(
                order.key, order.connections, order.directory, order.cache_dir, self._cookie, self._placement.app
            )
        )
        self._app_process_ids = tuple(self._app.program.process_ids())

    def _make_quiet(self) -> None:
        """Take the run's tuning, or find the quietest when this is its first environment."""
        if not self._order.quiet_host:
            self._tuning = HostTuning(measured={"quiet_host": "off"})
        elif self._tuning is None:
            self._tuning = calibrate(self._order.directory, self._cookie)
        if self._tuning is not None and self._tuning.idle_spinners:
            self._spinners = Spinners(self._order.directory / "spinners", self._cookie)

    def _begin_watch(self, app: Launched, entry: Endpoint) -> None:
        hops = tuple(self._hops)
        self._treatment = Treatment(
            Subject(self._order.key, entry, app, hops, self._placement, self._order.connections)
        )
        self._meters = [ComponentMeter("app", guards=(app.program.guard_pid,))]
        self._meters += [ComponentMeter(hop.component, guards=(hop.launched.program.guard_pid,)) for hop in hops]

    def _running_app(self) -> Launched:
        if self._app is None:
            raise EnvironmentUpError(f"environment {self._order.environment_id} is not up; call up() first")
        return self._app

    def _checks(self) -> Treatment:
        if self._treatment is None:
            raise EnvironmentUpError(f"environment {self._order.environment_id} is not up; call up() first")
        return self._treatment

    def verify_before(self) -> Sequence[Check]:
        """Prove the treatment with probes of our own, and remember all counters."""
        return self._checks().before()

    def verify_connected(self) -> Sequence[Check]:
        """Prove which process holds which connection, while load is on."""
        return self._checks().connected(self._generator.pids())

    def verify_after(self, requests_sent: int) -> Sequence[Check]:
        """Compare what the proxies counted since ``verify_before`` with what was sent."""
        return self._checks().after(requests_sent)

    def sample(self) -> Sequence[UsageSample]:
        """Read the cumulative counters of every component now."""
        samples = [sample for meter in (*self._meters, self._generator) if (sample := meter.sample())]
        return [*samples, self._host_meter.sample(*(self._spinners.cpu_s() if self._spinners else ()))]

    def lost_components(self) -> Sequence[str]:
        """Return a sentence for each component that died or restarted since ``up``."""
        watched = [(hop.launched.program, hop.process_ids) for hop in self._hops]
        if self._app is not None:
            ours = self._order.key.workload.command is None  # a user's program may end workers of its own
            watched.append((self._app.program, self._app_process_ids if ours else ()))
        if self._spinners is not None:
            watched.append((self._spinners.program, ()))
        return [sentence for program, pids in watched if (sentence := _loss(program, pids))]

    def start_load_workers(self, trial_id: str, master: str, count: int, near: Sequence[str] = ()) -> None:  # noqa: ARG002 - nothing starts
        """Refuse: load workers of this host come through Celery.

        Raises:
            EnvironmentUpError: always.
        """
        raise EnvironmentUpError(
            f"load workers of this host come through Celery (trial {trial_id} asked for {count} at {master})"
        )

    def nodes(self) -> Nodes | None:
        """Return nothing: all of it is on this host."""
        return None

    def load_generator_joined(self, process_ids: Sequence[int]) -> None:
        """Count these processes as component ``load_generator`` and keep them to its cores."""
        self._generator.follow(process_ids)
        if self._placement.load:
            for pid in self._generator.pids():
                for thread in procfs.thread_ids(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.sched_setaffinity(thread, self._placement.load)

    @property
    def tuning(self) -> HostTuning:
        """The tuning in force."""
        return self._tuning or HostTuning()

    @property
    def host_cores(self) -> float:
        """Cores of this host."""
        return os.cpu_count() or 1

    @property
    def load_cpus(self) -> tuple[int, ...]:
        """Cores the load generator has to keep to; empty: all."""
        return self._placement.load

    def artefacts(self) -> Sequence[Artefact]:
        """Return rendered configurations, certificates (no keys) and the ends of all logs."""
        root = self._order.directory
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        return [artefact for path in paths if (artefact := _artefact(path, str(path.relative_to(root))))]

    def provenance(self) -> Mapping[str, Any]:
        """Return binaries, features in play, placement on cores and host facts."""
        key, placement = self._order.key, self._placement
        return {
            "app": self._app_provenance(),
            "hops": {
                hop.hop.role: {
                    "adapter": hop.hop.adapter,
                    "version_ordered": hop.hop.version,
                    "version_reported": hop.version,
                    "binary": "from the plan" if hop.hop.binary else f"{hop.proxy.package} {hop.hop.version}",
                    "sha256": hop.sha256,
                    "features": dict(hop.proxy.features(key.profile, hop.hop.role)),
                }
                for hop in self._installed
            },
            "cpu_placement": {"load": placement.load, "proxies": placement.proxies, "app": placement.app},
            "warnings": [SHARED_WARNING] if placement.is_shared else [],
            "memory_counter": "resident: private pages of all processes, file pages once per component",
            "host_cpu_counter": "all cores, without our own idle spinners (booked by the kernel as nice)",
            "tuning": {
                "idle_spinners": self.tuning.idle_spinners,
                "fifo_priority": self.tuning.fifo_priority,
                "measured": dict(self.tuning.measured),
            },
            "host": host_facts(),
        }

    def _app_provenance(self) -> dict[str, Any]:
        workload, size = self._order.key.workload, self._order.key.infrastructure.size
        if workload.command is None:
            return {"app": "fixed-reply", "binary": f"{PACKAGE} {VERSION}", "threads": size.app_threads}
        return {"app": workload.label, "command": list(workload.command.command), "version": workload.command.version}

    def down(self) -> None:
        """End everything and leave no process. Idempotent.

        Raises:
            EnvironmentUpError: something could not be ended.
        """
        programs: list[Guarded] = [hop.launched.program for hop in self._hops]
        programs += [self._app.program] if self._app else []
        programs += [self._spinners.program] if self._spinners else []
        stop_all(programs)
        sweep_environment(self._order.site, self._order.environment_id)


def _loss(program: Guarded, process_ids: tuple[int, ...]) -> str | None:
    """Return a sentence when the program, or one of these processes of it, is no more."""
    gone = [pid for pid in process_ids if not procfs.is_alive(pid)]
    if program.pid in gone:
        program.wait(1.0)  # its guard is just about to say how it ended
    if program.exit_code() is not None:
        return program.describe_end()
    if gone:
        return f"{program.command.name}: process {gone[0]} died; end of its log: {program.log_tail() or '(empty)'}"
    return None


def _refuse_too_many_connections(connections: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections * _FILES_PER_CONNECTION + _SPARE_FILES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigurationError(
            f"{connections} connections need {needed} open files in a proxy, this host permits {hard}: "
            "raise the limit (ulimit -Hn) or lower the plan's connections"
        )


def _artefact(path: Path, name: str) -> Artefact | None:
    if path.stat().st_size > _ARTEFACT_LOG_BYTES and path.suffix != ".log":
        return None
    content = tail(path, _ARTEFACT_LOG_BYTES).encode()
    if _SECRET in content:
        return None
    media_type = {".json": "application/json", ".pem": "application/x-pem-file"}.get(path.suffix, "text/plain")
    return Artefact(name, media_type, content)
