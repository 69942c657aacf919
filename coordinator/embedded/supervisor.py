"""The supervisor: one single-threaded process that starts the table of services, keeps it running, ends it.

Started by `meshgauge up` as ``python -m coordinator.embedded.supervisor``. It holds the data directory's
lock while it lives and writes what it sees to DATA/state.json. Exit codes: 0 stopped, 1 failed (the
sentence is in the state), 75 another supervisor has the lock.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog

from coordinator.embedded import logfiles, places
from coordinator.embedded.instance import decide
from coordinator.embedded.processes import COOKIE, ProcessId, boot_id, describe, identify, kill_all, processes_of
from coordinator.embedded.service import start_order
from coordinator.embedded.services import Instance, Table
from coordinator.embedded.state import Phase, State, ended, log_dir, prepare_data_dir, read_state, write_state
from coordinator.embedded.supervised import Supervised, Surroundings, now
from meshgauge.errors import ConfigurationError, MeshgaugeError
from meshgauge.log import configure_logging
from meshgauge.settings import Settings

DEFAULT_TABLE = "coordinator.embedded.services:services"
EXIT_FAILED = 1
EXIT_LOCKED = 75  # EX_TEMPFAIL, sysexits(3)

_BUSY_TICK_S = 0.1
_QUIET_TICK_S = 5.0
_GIVE_UP_DEATHS = 3
_FRESHEN_EVERY_S = 3600.0
_SWEEP_LIMIT_S = 10.0

log = structlog.get_logger()


class StartFailedError(MeshgaugeError):
    """A service did not come up during the start; the message names it, its log and its last line."""


class Signals:
    """Termination requests and children's deaths, as something a loop can wait for."""

    def __init__(self) -> None:
        self.stops = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1

    def wait(self, timeout_s: float) -> None:
        """Return at a signal or after ``timeout_s``."""
        if select.select([self._reader], [], [], timeout_s)[0]:
            self._reader.recv(4096)


class Supervisor:
    """Runs one instance's table until asked to stop."""

    def __init__(self, settings: Settings, instance: Instance, table: Table, signals: Signals) -> None:
        self._instance = instance
        self._signals = signals
        services = table(settings, instance)
        surroundings = Surroundings(
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            logs=log_dir(instance.data_dir),
            cwd=instance.data_dir,
        )
        self._levels = [[Supervised(s, surroundings) for s in level] for level in start_order(services)]
        self._all = [supervised for level in self._levels for supervised in level]
        self._by_name = {supervised.service.name: supervised for supervised in self._all}
        self._sentinel = self._start_sentinel()
        self._phase: Phase = "starting"
        self._problem = ""
        self._written: State | None = None
        self._freshened_s = now()

    def run(self) -> int:
        """Start everything, watch it, and end it when asked; return the exit code."""
        try:
            while not self._signals.stops:
                self._look()
                self._write()
                self._signals.wait(self._tick_s())
        except StartFailedError as error:
            self._problem = str(error)
            log.warning("start_failed", problem=self._problem)
        except Exception as error:
            self._problem = f"the supervisor itself failed ({error!r}); see its log, and report it"
            raise
        finally:
            self._stop()
        return EXIT_FAILED if self._problem else 0

    def _look(self) -> None:
        at_s = now()
        for supervised in self._all:
            before = supervised.phase, supervised.deaths
            if supervised.phase != "waiting" or all(self._by_name[n].is_settled for n in supervised.service.after):
                supervised.advance(at_s)
            if before != (supervised.phase, supervised.deaths):
                log.info("service", name=supervised.service.name, phase=supervised.phase, note=supervised.note)
            if self._phase == "starting":
                _give_up_on(supervised, at_s)
            logfiles.bound_log(supervised.log)
        if self._phase == "starting" and all(supervised.is_settled for supervised in self._all):
            self._phase = "up"
            log.info("instance_up", coordinator_url=self._instance.coordinator_url)
        logfiles.bound_log(log_dir(self._instance.data_dir) / "supervisor.log")
        if at_s - self._freshened_s > _FRESHEN_EVERY_S:
            places.keep_fresh(self._instance.run_dir)
            self._freshened_s = at_s

    def _tick_s(self) -> float:
        is_quiet = self._phase == "up" and all(supervised.is_settled for supervised in self._all)
        return _QUIET_TICK_S if is_quiet else _BUSY_TICK_S

    def _start_sentinel(self) -> subprocess.Popen[bytes]:
        homes = [str(home) for home in self._instance.server_dirs()]
        argv = [sys.executable, "-m", "coordinator.embedded.sentinel", self._instance.instance, *homes]
        env = {name: value for name, value in os.environ.items() if name != COOKIE}  # else a sweep would take it, too
        return subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, start_new_session=True, cwd=self._instance.data_dir
        )

    def _stop(self) -> None:
        """End all services, dependents first, then whatever else carries the cookie."""
        self._phase = "stopping"
        for level in reversed(self._levels):
            for supervised in level:
                supervised.begin_stop(now())
            self._write()
            while not self._have_ended(level):
                self._signals.wait(_BUSY_TICK_S)
        left = kill_all(self._leftovers, _SWEEP_LIMIT_S)
        if left:
            self._problem = f"these processes could not be ended: {', '.join(map(describe, left))}; end them by hand"
        self._phase = "failed" if self._problem else "stopped"
        self._end_sentinel()
        self._write()
        log.info("instance_stopped", problem=self._problem)

    def _have_ended(self, level: list[Supervised]) -> bool:
        hurry = self._signals.stops > 1  # asked a second time: no more grace
        answers = [supervised.continue_stop(now(), hurry=hurry) for supervised in level]
        return all(answers)

    def _leftovers(self) -> list[ProcessId]:
        return processes_of(self._instance.instance, self._instance.server_dirs())

    def _end_sentinel(self) -> None:
        assert self._sentinel.stdin is not None  # noqa: S101 - opened as a pipe
        self._sentinel.stdin.close()
        self._sentinel.wait()

    def _write(self) -> None:
        own = identify(os.getpid())
        assert own is not None  # noqa: S101 - we run
        state = State(
            instance=self._instance.instance,
            phase=self._phase,
            supervisor=own,
            boot=boot_id(),
            run_dir=str(self._instance.run_dir),
            coordinator_url=self._instance.coordinator_url,
            database_url=self._instance.database_url,
            broker_url=self._instance.broker_url,
            server_dirs=tuple(str(home) for home in self._instance.server_dirs()),
            sentinel=identify(self._sentinel.pid),
            problem=self._problem,
            services=tuple(supervised.state() for supervised in self._all),
        )
        if state != self._written:
            _write_or_say(self._instance.data_dir, state)
            self._written = state


def _write_or_say(data_dir: Path, state: State) -> None:
    """Write the state; a full disk must not take the supervisor down with it: it is tried again next time."""
    try:
        write_state(data_dir, state)
    except OSError as error:
        log.warning("state_not_written", path=str(data_dir), reason=error.strerror)


def _give_up_on(supervised: Supervised, at_s: float) -> None:
    """End the start when a service cannot come up.

    Raises:
        StartFailedError: it died too often, or was not ready in time.
    """
    reason = supervised.overdue(at_s)
    if supervised.deaths >= _GIVE_UP_DEATHS:
        reason = f"{supervised.note} (tried {supervised.deaths} times)"
    if reason:
        raise StartFailedError(f"service {supervised.service.name!r} {reason}. Its log: {supervised.log}")


@contextmanager
def exclusive(data_dir: Path) -> Iterator[bool]:
    """Hold the data directory's lock; gives False when another supervisor holds it."""
    handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def sweep_previous(previous: State | None) -> None:
    """End what an earlier instance left on this data directory (its supervisor was killed, or the host reset)."""
    if previous is None:
        return
    homes = [Path(home) for home in previous.server_dirs]
    kill_all(lambda: processes_of(previous.instance, homes), _SWEEP_LIMIT_S)
    places.remove_run_dir(Path(previous.run_dir))


def load_table(reference: str) -> Table:
    """Return the function named ``module:function``.

    Raises:
        ConfigurationError: there is none.
    """
    module, _, name = reference.partition(":")
    try:
        table: Table = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"no table of services at {reference!r} ({error})") from error
    return table


def supervise(settings: Settings, table: Table) -> int:
    """Run an instance on the settings' data directory until SIGTERM or SIGINT; return the exit code."""
    signals = Signals()
    prepare_data_dir(settings.data_dir)
    with exclusive(settings.data_dir) as held:
        if not held:
            return EXIT_LOCKED
        previous = read_state(settings.data_dir)
        sweep_previous(previous)
        if previous is not None:
            write_state(settings.data_dir, ended(previous))
        instance = decide(settings, previous)
        os.environ[COOKIE] = instance.instance  # for what prepares a service (initdb), too: a sweep must find it
        try:
            return Supervisor(settings, instance, table, signals).run()
        finally:
            places.remove_run_dir(instance.run_dir)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; says an error of the installation in one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="coordinator.embedded.supervisor", description=__doc__)
    parser.add_argument("--table", default=DEFAULT_TABLE, help="module:function of the table of services")
    options = parser.parse_args(arguments)
    try:
        settings = Settings()
        configure_logging(settings.log_level)
        settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
        os.chdir("/")  # keep no folder of the caller's busy
        return supervise(settings, load_table(options.table))
    except MeshgaugeError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
