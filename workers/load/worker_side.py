"""What a load worker does with the master's messages: opens an engine, starts it, reports, delivers."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import WorkerRunner

from meshgauge.errors import MeasurementError, MeshgaugeError
from meshgauge.histogram import Histogram
from workers.load import messages
from workers.load.engine.choice import offer_of, open_engine
from workers.load.engine.contract import Engine
from workers.load.mesh_user import MeshEnvironment, MeshUser
from workers.load.order import LoadOrder
from workers.load.scenario import ScenarioRecorder, follow, user_classes_of
from workers.load.shares import schedule_of, shares_of, target_of
from workers.load.statistics_feed import feed
from workers.load.worker import stay_on

POLL_S = 0.25
POLLS_A_REPORT = 4
_LAST_POLL_S = 0.01  # once the load may be over, every wait delays the next trial
_CONNECT_POLL_S = 0.002
# Refusals are waited out too: a Service's address refuses until each node's kube-proxy has heard of its endpoints,
# which is after its pods are ready. Source: kube-proxy, minSyncPeriod 1 s.
_CONNECT_WAIT_S = 5.0
_SILENCE_S = 10.0  # heartbeats come every second
_FINAL_STATES = ("finished", "stopped", "failed")

logger = logging.getLogger(__name__)


def address_of(host: str) -> str:
    """Return the numeric IPv4 address of ``host``, asked where the load starts: in a cluster only pods can tell.

    Raises:
        MeasurementError: there is none of that name.
    """
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise MeasurementError(f"the target {host} has no address here: {error}") from error
    return str(found[0][4][0])


class LoadWorker:
    """One order, one engine."""

    def __init__(self, name: str, environment: MeshEnvironment, runner: WorkerRunner) -> None:
        self._name = name
        self._environment, self._runner = environment, runner
        self._order: LoadOrder | None = None
        self._engine: Engine | None = None
        self._connections = 0
        self._reported = (0, 0)  # replies and errors Locust knows of
        self._live = Histogram()
        environment.connection_count = self
        for kind, listener in (
            (messages.PREPARE, self._prepare),
            (messages.CONNECT, self._connect),
            (messages.BEGIN, self._begin),
        ):
            runner.register_message(kind, self._guarded(listener), concurrent=True)

    def _guarded(self, listener: Callable[[Any], None]) -> Callable[..., None]:
        """Locust only logs what a listener raises; the master has to know."""

        def listen(environment: Environment, msg: Any) -> None:  # noqa: ARG001 - Locust's signature
            try:
                listener(msg.data)
            except MeshgaugeError as error:
                self._send(messages.FAILED, {"reason": str(error)})
            except Exception as error:
                logger.exception("unexpected error")
                self._send(messages.FAILED, {"reason": f"{type(error).__name__}: {error}"})

        return listen

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        self._runner.send_message(kind, {"worker": self._name, **data})

    def introduce(self) -> None:
        """Tell the master who is here and which engine it has."""
        offer = offer_of(self._name)
        where = {"host": socket.gethostname(), "process_id": os.getpid()}
        self._send(messages.HELLO, {"native_abi": offer.native_abi, "reason": offer.reason, **where})

    def change(self, step: int) -> None:
        """A user came or went: so did its connection."""
        self._connections += step
        if self._engine is not None:
            self._engine.set_connections(self._connections)

    def _prepare(self, data: dict[str, Any]) -> None:
        order = LoadOrder.from_json(data["order"])
        self._order = order = replace(order, target_host=address_of(order.target_host))
        if order.cpus:
            stay_on(order.cpus)
        if data["engine"] == "locust_file":
            self._environment.user_classes[:] = user_classes_of(data["locust_file"], data["source"])
            self._environment.catch_exceptions = True  # a failing task is the scenario's business, not the trial's
            self._send(messages.PREPARED, {})
            return
        self._engine = open_engine(data["engine"], target_of(order, data["index"]))
        self._send(messages.PREPARED, {})

    def _opened(self) -> tuple[LoadOrder, Engine]:
        if self._order is None or self._engine is None:
            raise MeasurementError("the master sent no order before its schedule")
        return self._order, self._engine

    def _connect(self, data: dict[str, Any]) -> None:
        """Wait until the connections of all users are up, or for ``_CONNECT_WAIT_S``."""
        _, engine = self._opened()
        wanted: int = data["connections"]
        started = time.monotonic()
        counts = engine.counts()
        while counts.connections_open < wanted and time.monotonic() - started < _CONNECT_WAIT_S:
            gevent.sleep(_CONNECT_POLL_S)
            counts = engine.counts()
        self._send(
            messages.CONNECTED,
            {"open": counts.connections_open, "wanted": wanted, "error": counts.connect_error},
        )

    def _begin(self, data: dict[str, Any]) -> None:
        begin = messages.Begin(**data)
        if self._order is not None and self._order.locust_file is not None:
            self._run_scenario(self._order, time.time() + begin.delay_s(time.time()))
            return
        order, engine = self._opened()
        share = shares_of(order, begin.connections)[begin.index]
        start_ns = time.monotonic_ns() + round(begin.delay_s(time.time()) * 1e9)
        schedule = schedule_of(order, share, start_ns)
        engine.begin(schedule)
        self._watch(order, engine, schedule.end_ns / 1e9)

    def _run_scenario(self, order: LoadOrder, start_unix_s: float) -> None:
        """Record what the users of an own scenario do; the master lets Locust spawn them meanwhile."""
        window_start_unix_s = start_unix_s + order.warm_up_s
        recorder = ScenarioRecorder(order, window_start_unix_s)
        requests: Any = self._environment.events.request
        requests.add_listener(recorder.on_request)
        cpu_ratio = follow(
            recorder, order, window_start_unix_s, lambda progress: self._send(messages.PROGRESS, progress.to_wire())
        )
        self._runner.stop_users(self._runner.user_classes_count)  # lets tasks end, for at most the request time-out
        last = messages.Progress(0, _LAST_POLL_S, Histogram(), recorder.seconds())
        self._send(messages.PROGRESS, last.to_wire())
        self._send(messages.RESULT, {"result": recorder.result(self._name, cpu_ratio).to_wire()})

    def _watch(self, order: LoadOrder, engine: Engine, end_s: float) -> None:
        """Report until the engine is done, then deliver. ``end_s``: when that may be, monotonic."""
        polls, since = 0, time.monotonic()
        seconds, live, replies = [], self._live, 0
        state = engine.counts().state
        while state not in _FINAL_STATES:
            gevent.sleep(min(POLL_S, max(end_s - time.monotonic(), _LAST_POLL_S)))
            state = engine.counts().state
            self._feed_locust(order, engine)
            seconds += engine.finished_seconds()
            polls += 1
            if polls % POLLS_A_REPORT == 0 or state in _FINAL_STATES:
                now = time.monotonic()
                progress = messages.Progress(self._reported[0] - replies, now - since, self._live - live, (*seconds,))
                self._send(messages.PROGRESS, progress.to_wire())
                since, live, replies, seconds = now, self._live, self._reported[0], []
        counts = engine.counts()
        if state != "finished":
            raise MeasurementError(f"the load engine {state}: {counts.failure or 'it was told to'}")
        result = messages.WorkerResult.of(self._name, engine.name, engine.abi, counts, engine.window())
        self._send(messages.RESULT, {"result": result.to_wire()})

    def _feed_locust(self, order: LoadOrder, engine: Engine) -> None:
        counts, live = engine.counts(), engine.live()
        errors = counts.errors_total - self._reported[1]
        feed(self._environment.stats, order.method, order.path, live - self._live, errors)
        self._reported, self._live = (counts.replies_total, counts.errors_total), live

    def close(self) -> None:
        """End the engine's thread."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _watch_master(runner: WorkerRunner) -> None:
    """Return when the master has fallen silent: load nobody collects must end."""
    while True:
        gevent.sleep(1.0)
        last = runner.last_heartbeat_timestamp
        if last is not None and time.time() - last > _SILENCE_S:
            logger.error("the master has been silent for %.0f s", _SILENCE_S)
            return


def serve(name: str, master_host: str, master_port: int) -> int:
    """Work for one master. Returns the exit code."""
    environment = MeshEnvironment(user_classes=[MeshUser], catch_exceptions=False)
    try:
        runner = environment.create_worker_runner(master_host, master_port)
    except ConnectionError:
        logger.error("no Locust master answers at %s:%d", master_host, master_port)  # noqa: TRY400 - no trace needed
        return 1
    worker = LoadWorker(name, environment, runner)
    worker.introduce()
    silence = gevent.spawn(_watch_master, runner)
    quitting = gevent.spawn(runner.greenlet.join)
    gevent.wait([silence, quitting], count=1)
    worker.close()
    return 0 if quitting.ready() else 1
