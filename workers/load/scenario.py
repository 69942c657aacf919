"""Own scenarios: an ordinary Locust file under the same conductor, with Locust's clock and Locust's closed loop.

Their results carry engine ``locust_file`` and a resolution of 1 ms: gevent wakes users no finer, whatever digits the
floats have. They are never compared with the engine's (measurement.md 1).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from locust import User
from locust.util.load_locustfile import load_locustfile

from meshgauge.errors import ConfigurationError
from meshgauge.histogram import Histogram
from meshgauge.trial import Clock, Outcome
from workers.load.engine.contract import BATCHES, SecondTally
from workers.load.messages import Progress, WorkerResult
from workers.load.order import LoadOrder

RESOLUTION_NS = 1_000_000
_CLOCKS: tuple[Clock, ...] = ("response", "service", "net")  # one measurement: a closed loop has no intended start
_REPORT_S = 1.0


def user_classes_of(name: str, source: str) -> list[type[User]]:
    """Return the user classes of a Locust file given as text.

    Raises:
        ConfigurationError: it does not import, defines no user, or wants to shape the load itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_text(source, encoding="utf-8")
        try:
            classes, shapes = load_locustfile(str(path))
        except Exception as error:
            raise ConfigurationError(f"the Locust file {name} does not import: {error!r}") from error
    if shapes:
        raise ConfigurationError(
            f"the Locust file {name} defines a load shape: the plan's load says how many users run"
        )
    if not classes:
        raise ConfigurationError(f"the Locust file {name} defines no user class")
    return list(classes.values())


def outcome_of(exception: BaseException | None, response: Any) -> Outcome:
    """Return the outcome of one Locust request event. Failures the scenario declares itself are ``bad_body``."""
    if exception is None:
        return "ok"
    status = getattr(response, "status_code", 0) or 0
    by_class: dict[int, Outcome] = {3: "status_3xx", 4: "status_4xx", 5: "status_5xx"}
    if status // 100 in by_class:
        return by_class[status // 100]
    name = type(exception).__name__.lower()
    if "timeout" in name:
        return "timeout"
    if "refused" in name or "connecttimeout" in name:
        return "connect_failure"
    return "reset" if "connection" in name else "bad_body"


@dataclass(frozen=True, slots=True)
class _Event:
    started_s: float  # after the window's start
    latency_ns: int
    outcome: Outcome


class ScenarioRecorder:
    """Takes Locust's request events of one load worker; a request belongs to the window it started in."""

    def __init__(self, order: LoadOrder, window_start_unix_s: float) -> None:
        self._order = order
        self._window_start_unix_s = window_start_unix_s
        self._events: list[_Event] = []
        self._total = self._reported = 0

    def on_request(
        self,
        response_time: float,
        exception: BaseException | None = None,
        response: Any = None,
        start_time: float | None = None,
        **_: Any,
    ) -> None:
        """Listen to ``events.request``; ``response_time`` in ms, ``start_time`` on the wall clock."""
        self._total += 1
        started = start_time if start_time is not None else time.time() - response_time / 1e3
        into_window_s = started - self._window_start_unix_s
        if 0 <= into_window_s < self._order.window_s:
            latency_ns = max(round(response_time * 1e6), 0)
            self._events.append(_Event(into_window_s, latency_ns, outcome_of(exception, response)))

    def _latencies(self, of: Callable[[_Event], bool]) -> Histogram:
        return Histogram.of([event.latency_ns for event in self._events if of(event)])

    def progress(self, interval_s: float) -> Progress:
        """Return how it goes; seconds follow with the result, Locust knows nothing of requests under way."""
        replies, self._reported = self._total - self._reported, self._total
        recent_s = time.time() - self._window_start_unix_s - interval_s
        live = self._latencies(lambda event: event.outcome == "ok" and event.started_s >= recent_s)
        return Progress(replies, interval_s, live, ())

    def seconds(self) -> tuple[SecondTally, ...]:
        """Return the rows of the window."""
        count = int(np.ceil(self._order.window_s))
        return tuple(self._second(number) for number in range(count))

    def _second(self, number: int) -> SecondTally:
        inside = [event for event in self._events if int(event.started_s) == number]
        good = [event.latency_ns for event in inside if event.outcome == "ok"]
        done = len(inside)
        return SecondTally(number, done, done, done, done - len(good), Histogram.of(good), None)

    def result(self, worker: str, cpu_ratio: float) -> WorkerResult:
        """Return what this worker saw. Offered equals done: only requests that ended are known."""
        outcomes: dict[Outcome, int] = {}
        for event in self._events:
            outcomes[event.outcome] = outcomes.get(event.outcome, 0) + 1
        histograms = {
            (outcome, clock): self._latencies(lambda event, wanted=outcome: event.outcome == wanted)  # type: ignore[misc]
            for outcome in outcomes
            for clock in _CLOCKS
        }
        batch_s, done = self._order.window_s / BATCHES, len(self._events)
        batches = tuple(
            self._latencies(lambda event, n=number: event.outcome == "ok" and int(event.started_s / batch_s) == n)  # type: ignore[misc]
            for number in range(BATCHES)
        )
        return WorkerResult(
            worker=worker, engine="locust_file", engine_abi=None, offered=done, sent=done, done=done, dropped=0,
            waited=0, backlog_peak=0, connections_opened=0, requests_total=self._total, fifo_applied=False,
            outcomes=outcomes, histograms=histograms, batches=batches, engine_cpu_ratio=cpu_ratio,
            run_delay_ratio=None,
        )  # fmt: skip


def follow(
    recorder: ScenarioRecorder, order: LoadOrder, window_start_unix_s: float, report: Callable[[Progress], None]
) -> float:
    """Report once a second until cool-down is over; return this process's CPU over the window, in cores."""
    edges_s = [window_start_unix_s, window_start_unix_s + order.window_s]
    cpu_s: list[float] = []
    end_s = edges_s[1] + order.cool_down_s
    while (now := time.time()) < end_s:
        due = [at for at in (*edges_s[len(cpu_s) :], end_s) if at > now]
        before = time.time()
        gevent.sleep(min(min(due, default=end_s) - now, _REPORT_S))
        while len(cpu_s) < len(edges_s) and time.time() >= edges_s[len(cpu_s)]:
            cpu_s.append(time.process_time())
        report(recorder.progress(max(time.time() - before, 1e-3)))
    return (cpu_s[1] - cpu_s[0]) / order.window_s
