"""Following a run in the terminal: live bars where there is a terminal, a line an event where there is none."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coordinator.client import Client, RemoteEvent
from coordinator.web.diary import told
from coordinator.web.spoken import duration
from meshgauge.errors import MeshgaugeError, ServiceUnavailableError

FINISHED: Final = ("done", "failed", "cancelled")

_TICK_S = 1.0
_RECONNECT_S = 2.0
_PATIENCE_S = 120.0  # a coordinator away for longer will not come back by itself
_LOOK_AT_LEAST_S = 20.0  # without any event: the stream may hang where the questions do not
_BAR_WIDTH = 40


class Follower(threading.Thread):
    """Reads a run's events in the background and reconnects when the coordinator was away."""

    def __init__(self, client: Client, run_id: str, last_id: int) -> None:
        super().__init__(name="follower", daemon=True)
        self.events: queue.Queue[RemoteEvent | MeshgaugeError] = queue.Queue()
        self._client, self._run_id, self._last_id = client.another(), run_id, last_id
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow until the run is over, nobody listens, or the coordinator has been away for too long."""
        heard_s = time.monotonic()
        with self._client:
            while not self._stopped.is_set():
                try:
                    for event in self._client.events(self._run_id, self._last_id):
                        self._last_id, heard_s = event.id, time.monotonic()
                        self.events.put(event)
                        if event.kind == "end" or self._stopped.is_set():
                            return
                except MeshgaugeError as error:
                    if not error.retryable or time.monotonic() - heard_s > _PATIENCE_S:
                        self.events.put(error)
                        return
                self._stopped.wait(_RECONNECT_S)

    def stop(self) -> None:
        """Ask it to end; it does at the next event, or with the process."""
        self._stopped.set()


@dataclass(slots=True)
class Seen:
    """The last progress the server told, when that was, and what the current trial says of itself."""

    progress: Mapping[str, Any]
    at_s: float
    trial: Mapping[str, Any] | None = None
    is_away: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.progress["run"]["state"] in FINISHED

    @property
    def time_left_s(self) -> float | None:
        """Seconds to the end as of now."""
        left = self.progress["time_left_s"]
        return None if left is None else max(0.0, left - (time.monotonic() - self.at_s))

    @property
    def elapsed_s(self) -> float | None:
        """Seconds since the run began, as of now."""
        elapsed = self.progress["elapsed_s"]
        if elapsed is None or self.is_over:
            return elapsed  # type: ignore[no-any-return]  # a number of the JSON answer
        return float(elapsed) + time.monotonic() - self.at_s


def watch(client: Client, run_id: str, console: Console) -> Mapping[str, Any]:
    """Follow a run to its end; return its last progress.

    Raises:
        ServiceUnavailableError: the coordinator has been away for too long.
    """
    seen = Seen(_progress(client, run_id), time.monotonic())
    follower = Follower(client, run_id, seen.progress["last_event"])
    follower.start()
    try:
        show = _show_live if console.is_terminal else _say_lines
        show(client, run_id, console, follower, seen)
    finally:
        follower.stop()
    return seen.progress


def _show_live(client: Client, run_id: str, console: Console, follower: Follower, seen: Seen) -> None:
    with Live(console=console, auto_refresh=False, transient=False) as live:
        live.update(picture(seen), refresh=True)
        for _ in _happenings(client, run_id, follower, seen):
            live.update(picture(seen), refresh=True)


def _say_lines(client: Client, run_id: str, console: Console, follower: Follower, seen: Seen) -> None:
    for event in _happenings(client, run_id, follower, seen):
        if line := sentence(event, seen):
            console.print(Text(line), soft_wrap=True)


def _progress(client: Client, run_id: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = client.get(f"/api/v1/runs/{run_id}/progress")
    return answer


def _happenings(client: Client, run_id: str, follower: Follower, seen: Seen) -> Iterator[RemoteEvent | None]:
    """Yield each event after ``seen`` was brought up to date, and None once a tick without one."""
    looked_s = time.monotonic()
    while not seen.is_over:
        try:
            event = follower.events.get(timeout=_TICK_S)
        except queue.Empty:
            if time.monotonic() - looked_s > _LOOK_AT_LEAST_S:
                looked_s = time.monotonic()
                _look_again(client, run_id, seen)
            yield None
            continue
        if isinstance(event, MeshgaugeError):
            raise event
        if event.kind == "progress":  # from inside of a trial: nothing else has changed
            seen.trial = event.data
            yield event
            continue
        seen.trial = None
        looked_s = time.monotonic()
        _look_again(client, run_id, seen)
        yield event


def _look_again(client: Client, run_id: str, seen: Seen) -> None:
    try:
        seen.progress, seen.at_s, seen.is_away = _progress(client, run_id), time.monotonic(), False
    except ServiceUnavailableError:
        seen.is_away = True  # shown; the follower decides when that is too long


def picture(seen: Seen) -> RenderableType:
    """Return the live view: a bar, the block, and a line for each environment that is up."""
    progress = seen.progress
    bar = Table.grid(padding=(0, 1))
    left = "" if seen.time_left_s is None else f"about {duration(seen.time_left_s)} left"
    bar.add_row(
        ProgressBar(total=max(1, progress["total"]), completed=progress["done"], width=_BAR_WIDTH),
        Text(f"{progress['done']}/{progress['total']} trials"),
        Text(f"block {progress['block']} of {progress['blocks']}"),
        Text(duration(seen.elapsed_s), style="dim"),
        Text(left),
    )
    lines: list[RenderableType] = [bar]
    lines += [Text(f"  {describe(current, seen.trial)}", style="cyan") for current in progress["now"]]
    if seen.is_away:
        lines.append(Text("  the coordinator does not answer; trying again", style="yellow"))
    elif not progress["now"] and not seen.is_over:
        lines.append(Text(f"  {_waits_for(progress)}", style="dim"))
    counts = progress["run"]["trials"]
    bad = {state: counts[state] for state in ("invalid", "failed") if counts.get(state)}
    if bad:
        lines.append(Text("  " + ", ".join(f"{number} {state}" for state, number in bad.items()), style="yellow"))
    return Group(*lines)


def _waits_for(progress: Mapping[str, Any]) -> str:
    run = progress["run"]
    if run["cancel_at"]:
        return "being cancelled"
    if progress["done"] == progress["total"]:
        return "all trials are over; finishing"
    return f"{run['state']}, waiting for the site to be free"


def describe(current: Mapping[str, Any], trial: Mapping[str, Any] | None) -> str:
    """Return one environment in words: what is up, its phase, its trial, and how the load fares."""
    parts = [current["environment"], current["phase"].replace("_", " ")]
    if current["trial"] is not None:
        parts.append(f"trial {current['trial']} of {current['trials']}, {current['load']}")
    if trial is not None and trial.get("environment") == current["environment"]:
        p50_us = trial.get("p50_us")
        p50 = "" if p50_us is None else f", p50 {p50_us / 1e3:.2f} ms"
        parts.append(f"{str(trial['phase']).replace('_', '-')} {trial['elapsed_s']:.0f} s, "
                     f"{trial['achieved_rps']:.0f} rps{p50}")  # fmt: skip
    return " · ".join(parts)


_WORTH_A_LINE = ("environment_claimed", "trial_finished", "block_added", "cancel_requested", "finished")


def sentence(event: RemoteEvent | None, seen: Seen) -> str | None:
    """Return a line for a log about one event, or None when it is not worth one."""
    if event is None:
        return None
    is_trouble = event.kind == "environment_ended" and event.data.get("outcome") != "done"
    if event.kind not in _WORTH_A_LINE and not is_trouble:
        return None
    left = "" if seen.time_left_s is None else f", about {duration(seen.time_left_s)} left"
    return f"{seen.progress['done']}/{seen.progress['total']} trials{left}: {told(event.kind, event.data)}"
