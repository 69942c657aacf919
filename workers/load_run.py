"""One Locust run as the runner sees it: a master process that is told to go and tells how it goes."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meshgauge.errors import ConfigurationError, MeasurementError
from meshgauge.trial import LoadResult
from workers import guard
from workers.load.launch import start_master
from workers.load.order import LoadOrder
from workers.load.result_file import read_load_result

_READY_TIMEOUT_S = 60.0
_ANSWER_SLACK_S = 30.0  # for the master's own word that they did not come
_STOP_TIMEOUT_S = 5.0


class LoadRun:
    """A Locust master, started early so that it and its load workers are ready when the environment is.

    Args:
        draft: the trial's order with what is known by now; the final one is given to ``go``.
        master: HOST:PORT where it listens for load workers.
        directory: where the master leaves its results.
        worker_wait_s: how long load workers may take to join, where that is longer than usual (they pull an image).
    """

    def __init__(self, draft: LoadOrder, master: str, directory: Path, worker_wait_s: float | None = None) -> None:
        self.master = master
        self._directory = directory
        self._ready_within_s = _READY_TIMEOUT_S if worker_wait_s is None else worker_wait_s + _ANSWER_SLACK_S
        directory.mkdir(parents=True)
        self._log = (directory / "master.log").open("wb")
        self._process = start_master(draft, master, directory, stderr=self._log, worker_wait_s=worker_wait_s)
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="load-events", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was started with a pipe
        with self._process.stdout as events:
            for line in events:
                self._lines.put(json.loads(line))
        self._lines.put(None)

    def wait_ready(self) -> Mapping[str, Any]:
        """Wait until all load workers have joined; return the master's word about them.

        Raises:
            MeasurementError: they did not, or the master failed.
        """
        try:
            return self._until("workers_ready", self._ready_within_s)
        except queue.Empty:
            raise MeasurementError(
                f"the load workers did not join within {self._ready_within_s:.0f} s;"
                " are there enough Celery workers on queue load (plan: load_workers)?"
            ) from None

    def go(self, order: LoadOrder) -> None:
        """Start the load."""
        self._tell({"command": "go", "order": json.loads(order.to_json())})

    def follow(self, on_event: Callable[[Mapping[str, Any]], None], timeout_s: float) -> LoadResult:
        """Pass each event on until the run is over; return what it measured.

        Raises:
            MeasurementError: the run failed, or told nothing for ``timeout_s``.
        """
        while True:
            try:
                event = self._next(timeout_s)
            except queue.Empty:
                raise MeasurementError(f"the Locust master was silent for {timeout_s:.0f} s") from None
            if event["event"] == "done":
                return read_load_result(self._directory)
            on_event(event)

    def stop(self) -> None:
        """End the master, and with it its load workers. Idempotent."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended before it read all
                self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_STOP_TIMEOUT_S)
        self._log.close()

    def _until(self, name: str, timeout_s: float) -> dict[str, Any]:
        while True:
            event = self._next(timeout_s)
            if event["event"] == name:
                return event

    def _next(self, timeout_s: float) -> dict[str, Any]:
        event = self._lines.get(timeout=timeout_s)
        if event is None:
            code = self._process.wait()
            lines = (self._directory / "master.log").read_text(errors="replace").strip().splitlines()
            last = lines[-1] if lines else "-"
            how = guard.how_it_ended(code)
            raise MeasurementError(f"the Locust master {how} before it was done; its log ends: {last}")
        if event["event"] == "failed":
            raise MeasurementError(f"load: {event['reason']}")
        return event

    def _tell(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        with contextlib.suppress(BrokenPipeError):  # it has ended: ``follow`` says how
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()


def free_address(host: str = "127.0.0.1") -> str:
    """Return HOST:PORT nobody listens on now; ``host`` is how load workers reach this machine.

    Raises:
        ConfigurationError: it is no address of this machine.
    """
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ConfigurationError(
                f"nothing can listen on {host} here ({error.strerror}): set MESHGAUGE_ADVERTISE_HOST to an address or "
                "name of this host that load workers can reach"
            ) from error
        return f"{host}:{probe.getsockname()[1]}"
