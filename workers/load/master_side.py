"""The conductor: waits for load workers, hands out shares, starts all at one instant, merges what comes back."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.socket import wait_read
from locust import __version__ as locust_version
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import STATE_MISSING, MasterRunner

from meshgauge.errors import ConfigurationError, MeasurementError, MeshgaugeError
from meshgauge.histogram import Histogram
from meshgauge.trial import LoadResult
from workers.load import messages, scenario
from workers.load.engine.choice import Offer, choose
from workers.load.merging import SecondsMerger, merged
from workers.load.mesh_user import MeshUser
from workers.load.order import LoadOrder
from workers.load.result_file import write_load_result
from workers.load.shares import request_of, shares_of

START_LEAD_S = 0.1  # between the word to begin and the first arrival: the word must reach every worker
_ANSWER_WAIT_S = 10.0
_POLL_S = 0.02
_QUIT_S = 0.05  # for the last messages to leave the process
_FINISH_SLACK_S = 20.0
_RESOLUTION_NS = 1

logging.getLogger("locust").setLevel(logging.CRITICAL)  # it warns of quick spawning, which is what we want


def emit(event: str, **fields: Any) -> None:
    """Print one event line."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Conductor:
    """One trial's load, from the workers' arrival to the merged result."""

    def __init__(self, order: LoadOrder, runner: MasterRunner) -> None:
        self._order, self._runner = order, runner
        self._names: dict[str, str] = {}  # Locust's client id -> worker name, in order of arrival
        self._offers: dict[str, Offer] = {}
        self._places: dict[str, dict[str, Any]] = {}  # client id -> host and process id
        self._prepared: set[str] = set()
        self._connected: dict[str, dict[str, Any]] = {}
        self._results: dict[str, messages.WorkerResult] = {}
        self._seconds = SecondsMerger(order.load_workers)
        self._progress: dict[str, messages.Progress] = {}
        self._failure: str | None = None
        self._is_complete = False
        for kind, listener in (
            (messages.HELLO, self._on_hello),
            (messages.PREPARED, lambda client, _: self._prepared.add(client)),
            (messages.CONNECTED, self._connected.__setitem__),
            (messages.PROGRESS, self._on_progress),
            (messages.RESULT, self._on_result),
            (messages.FAILED, self._on_failed),
        ):
            runner.register_message(kind, self._listening(listener))

    def _listening(self, listener: Callable[[str, dict[str, Any]], None]) -> Callable[..., None]:
        """Locust only logs what a listener raises; here it fails the trial."""

        def listen(environment: Environment, msg: Any) -> None:  # noqa: ARG001 - Locust's signature
            try:
                listener(msg.node_id, msg.data)
            except Exception as error:
                self._failure = f"a message of load worker {msg.node_id} made no sense: {error!r}"

        return listen

    def _on_hello(self, client: str, data: dict[str, Any]) -> None:
        if client not in self._names and len(self._names) == self._order.load_workers:
            return  # one too many: it gets no order and ends with the others
        self._names[client] = data["worker"]
        self._offers[client] = Offer(data["worker"], data["native_abi"], data["reason"])
        self._places[client] = {"host": data["host"], "process_id": data["process_id"]}

    def _on_progress(self, client: str, data: dict[str, Any]) -> None:
        progress = messages.Progress.from_wire({key: data[key] for key in data if key != "worker"})
        self._progress[client] = progress
        self._seconds.add(progress.seconds)

    def _on_result(self, client: str, data: dict[str, Any]) -> None:
        self._results[client] = messages.WorkerResult.from_wire(data["result"])

    def _on_failed(self, client: str, data: dict[str, Any]) -> None:
        self._failure = f"load worker {self._names.get(client, client)}: {data['reason']}"

    def _check(self) -> None:
        """Raise what has gone wrong with a worker."""
        if self._failure:
            raise MeasurementError(self._failure)
        if not self._is_complete:
            return
        for client, name in self._names.items():
            node = self._runner.clients.get(client)
            if client not in self._results and (node is None or node.state == STATE_MISSING):
                how = "it quit" if node is None else "no heartbeat for 3 s"
                raise MeasurementError(f"load worker {name} was lost in mid-trial ({how})")

    def _wait(self, is_done: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_done():
            self._check()
            if time.monotonic() > deadline:
                raise MeasurementError(complaint())
            gevent.sleep(_POLL_S)
        self._check()

    def await_workers(self, timeout_s: float) -> None:
        """Wait until all load workers are here."""
        wanted = self._order.load_workers
        self._wait(
            lambda: len(self._names) == wanted,
            timeout_s,
            lambda: (
                f"{len(self._names)} of {wanted} load workers came within {timeout_s:g} s: start more workers for the"
                " load queue, or lower load_workers"
            ),
        )
        self._is_complete = True

    def places(self) -> list[dict[str, Any]]:
        """Return where each load worker runs: its name, host and process id."""
        return [{"worker": name, **self._places[client]} for client, name in self._names.items()]

    def take(self, order: LoadOrder) -> None:
        """Take the order as it stands at the start: the target may not have been known when we were started."""
        if order.load_workers != self._order.load_workers:
            raise MeasurementError("the number of load workers cannot change once they were asked for")
        self._order = order

    def _missing(self, done: set[str]) -> str:
        return ", ".join(name for client, name in self._names.items() if client not in done)

    def prepare(self) -> None:
        """Hand out the order, let Locust spawn the users, wait for their connections."""
        orders = self._scenario_orders() if self._order.locust_file is not None else self._engine_orders()
        for index, client in enumerate(self._names):
            self._runner.send_message(messages.PREPARE, {**orders, "index": index}, client)
        self._wait(
            lambda: len(self._prepared) == len(self._names),
            _ANSWER_WAIT_S,
            lambda: f"load worker {self._missing(self._prepared)} did not take the order",
        )
        if self._order.locust_file is not None:
            return  # its users send as soon as they exist: they are spawned at the start
        self._spawn()
        connections = self._connections()
        for client, count in zip(self._names, connections, strict=True):
            self._runner.send_message(messages.CONNECT, {"connections": count}, client)
        self._wait(
            lambda: len(self._connected) == len(self._names),
            _ANSWER_WAIT_S,
            lambda: f"load worker {self._missing(set(self._connected))} did not report its connections",
        )
        self._refuse_unreachable_target()

    def _engine_orders(self) -> dict[str, Any]:
        engine = choose(self._order.engine, self._offers.values())
        request_of(self._order)  # refuses what no worker could send
        return {"order": self._order.to_json(), "engine": engine}

    def _scenario_orders(self) -> dict[str, Any]:
        """Workers get the Locust file as text: they have nothing but what the master sends."""
        path = Path(str(self._order.locust_file))
        try:
            source = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"the Locust file {path} cannot be read: {error.strerror}") from error
        environment = self._runner.environment
        environment.user_classes[:] = scenario.user_classes_of(path.name, source)
        environment.stop_timeout = self._order.timeout_s
        environment.host = f"http://{self._order.target_host}:{self._order.target_port}"
        return {"order": self._order.to_json(), "engine": "locust_file", "locust_file": path.name, "source": source}

    def _spawn(self) -> None:
        self._runner.start(self._order.connections, spawn_rate=self._order.connections)

    def _connections(self) -> list[int]:
        counts = [self._runner.clients[client].user_count for client in self._names]
        if sum(counts) != self._order.connections or 0 in counts:
            raise MeasurementError(
                f"Locust spawned {counts} users on the load workers, not {self._order.connections} in all"
            )
        return counts

    def _refuse_unreachable_target(self) -> None:
        opened = sum(report["open"] for report in self._connected.values())
        wanted = sum(report["wanted"] for report in self._connected.values())
        if opened == wanted:
            return
        error = next((report["error"] for report in self._connected.values() if report["error"]), "no answer")
        where = f"{self._order.target_host}:{self._order.target_port}"
        raise MeasurementError(f"only {opened} of {wanted} connections to the target {where} could be opened: {error}")

    def begin(self) -> dt.datetime:
        """Start all workers at one instant; return the window's start."""
        own_scenario = self._order.locust_file is not None
        connections = [1] * len(self._names) if own_scenario else self._connections()
        shares_of(self._order, connections)
        sent_unix_s, sent_monotonic_s = time.time(), time.monotonic()
        for index, client in enumerate(self._names):
            begin = messages.Begin(sent_unix_s, START_LEAD_S, index, connections)
            self._runner.send_message(messages.BEGIN, begin.to_wire(), client)
        if own_scenario:
            gevent.sleep(START_LEAD_S)
            self._spawn()
        ahead_s = START_LEAD_S + self._order.warm_up_s
        emit(
            "window",
            window_start=sent_unix_s + ahead_s,
            window_end=sent_unix_s + ahead_s + self._order.window_s,
            window_start_monotonic_s=sent_monotonic_s + ahead_s,
            window_s=self._order.window_s,
        )
        return dt.datetime.fromtimestamp(sent_unix_s + ahead_s, tz=dt.UTC)

    def collect(self, window_start: dt.datetime) -> LoadResult:
        """Follow the load to its end and return the merged result."""
        order = self._order
        started = time.monotonic() + START_LEAD_S
        limit_s = order.warm_up_s + order.window_s + order.cool_down_s + 2 * order.timeout_s + _FINISH_SLACK_S
        reporter = gevent.spawn(self._report, started)
        try:
            self._wait(
                lambda: len(self._results) == len(self._names),
                limit_s,
                lambda: f"load worker {self._missing(set(self._results))} delivered no result",
            )
        finally:
            reporter.kill(block=False)
        resolution_ns = scenario.RESOLUTION_NS if order.locust_file is not None else _RESOLUTION_NS
        results = [self._results[client] for client in self._names]
        return merged(order, results, self._seconds.rows(), window_start, locust_version, resolution_ns)

    def _report(self, started: float) -> None:
        """Print the progress of all workers whenever each has reported anew: about once a second."""
        while True:
            gevent.sleep(_POLL_S)
            if len(self._progress) < len(self._names):
                continue
            parts, self._progress = list(self._progress.values()), {}
            p50_ns = Histogram.merged(part.live for part in parts).quantile_ns(0.50)
            elapsed_s = max(time.monotonic() - started, 0.0)
            emit(
                "progress",
                phase=self._phase(elapsed_s),
                elapsed_s=round(elapsed_s, 3),
                achieved_rps=round(sum(part.replies / part.interval_s for part in parts), 1),
                p50_us=None if p50_ns is None else round(p50_ns / 1e3, 1),
            )

    def _phase(self, elapsed_s: float) -> str:
        if elapsed_s < self._order.warm_up_s:
            return "warm_up"
        return "window" if elapsed_s < self._order.warm_up_s + self._order.window_s else "cool_down"


def _order_in(line: bytes) -> LoadOrder | None:
    """Return the order a go line carries, None for a bare one.

    Raises:
        ValueError: it is no go line.
    """
    word = json.loads(line)
    if not isinstance(word, dict) or word.get("command") != "go" or word.keys() - {"command", "order"}:
        raise ValueError("not a go line")
    return LoadOrder.from_json(json.dumps(word["order"])) if "order" in word else None


def _read_commands(go: AsyncResult, aborted: AsyncResult) -> None:
    """Listen on standard input: a go line, with the final order if it has one, starts the load; its end stops all."""
    buffered = b""
    while True:
        wait_read(0)
        data = os.read(0, 4096)
        if not data:
            aborted.set("standard input was closed")
            return
        *lines, buffered = (buffered + data).split(b"\n")
        for line in filter(None, lines):
            try:
                go.set(_order_in(line))
            except (ValueError, TypeError, KeyError) as error:
                aborted.set(f"standard input said {line.decode(errors='replace')!r}, which is no go line: {error}")
                return


def _conduct(conductor: Conductor, go: AsyncResult, worker_wait_s: float, out_dir: Path) -> None:
    conductor.await_workers(worker_wait_s)
    emit("workers_ready", workers=conductor.places())
    if (order := go.get()) is not None:
        conductor.take(order)
    conductor.prepare()
    result = conductor.collect(conductor.begin())
    write_load_result(out_dir, result)


def _open_runner(host: str, port: int) -> MasterRunner:
    environment = Environment(user_classes=[MeshUser], catch_exceptions=False)
    try:
        return environment.create_master_runner(host, port)
    except (SystemExit, RPCError) as error:  # Locust exits where the port is taken
        raise ConfigurationError(f"the Locust master cannot listen on {host}:{port}: the port is in use") from error


def _outcome(trial: gevent.Greenlet, aborted: AsyncResult) -> tuple[int, str | None]:
    """Return the exit code and the reason of a failure once either the trial ends or somebody aborts it."""
    gevent.wait([trial, aborted], count=1)
    if not trial.ready():
        trial.kill()
        return 1, str(aborted.get())
    if trial.successful():
        return 0, None
    error = trial.exception
    if isinstance(error, MeshgaugeError | OSError):
        return 1, str(error)
    return 1, f"unexpected {type(error).__name__}: {error}"


def run(
    order: LoadOrder, host: str, port: int, out_dir: Path, *, auto_go: bool = False, worker_wait_s: float = 30.0
) -> int:
    """Conduct one trial. Returns the exit code."""
    try:
        runner = _open_runner(host, port)
    except ConfigurationError as error:
        emit("failed", reason=str(error))
        return 1
    go, aborted = AsyncResult(), AsyncResult()
    conductor = Conductor(order, runner)
    gevent.signal_handler(signal.SIGTERM, aborted.set, "terminated by a signal")
    gevent.signal_handler(signal.SIGINT, aborted.set, "interrupted")
    emit("listening", host=host, port=runner.server.port)
    if auto_go:
        go.set(None)
    else:
        gevent.spawn(_read_commands, go, aborted)
    code, reason = _outcome(gevent.spawn(_conduct, conductor, go, worker_wait_s, out_dir), aborted)
    if reason is None:
        emit("done")
    else:
        emit("failed", reason=reason)
    runner.send_message("quit")
    gevent.sleep(_QUIT_S)
    return code
