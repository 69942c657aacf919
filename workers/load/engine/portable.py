"""The pure-Python engine: epoll and a timerfd in a thread, where no native engine could be built."""

from __future__ import annotations

import dataclasses
import errno
import os

from meshgauge.errors import ConfigurationError, MeasurementError
from meshgauge.histogram import Histogram
from workers.load.engine.contract import ENGINE_STATES, Counts, EngineName, Schedule, SecondTally, Target, WindowTally
from workers.load.engine.osthreads import unpatched
from workers.load.engine.portable_loop import Loop
from workers.load.engine.portable_tally import Tally
from workers.load.engine.readings import SecondsReader, counts_of, histogram_of, window_of

MOST_RPS = 10_000.0  # beyond, hand-offs of the GIL cost milliseconds (reference/load-engine.md 10.9)


class PythonEngine:
    """One engine thread in Python. Its thread appends events; this object counts them when asked."""

    name: EngineName = "python"
    abi: int | None = None

    def __init__(self, target: Target) -> None:
        self._tally = Tally()
        self._loop = Loop(target, self._tally)
        self._reader: SecondsReader | None = None
        self._window_ns = 0
        self._failure: list[BaseException] = []
        self._ended = unpatched("_thread", "allocate_lock")()
        self._ended.acquire()
        self._closed = False
        unpatched("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        try:
            self._loop.run()
        except Exception as error:
            self._failure.append(error)
            self._loop.fail(error.errno if isinstance(error, OSError) and error.errno else errno.EIO)
        finally:
            self._ended.release()

    def _check_open(self) -> None:
        if self._closed:
            raise MeasurementError("the load engine is closed")

    def set_connections(self, connections: int) -> None:
        """Open or close connections until there are so many."""
        self._check_open()
        self._loop.ask_connections(connections)

    def begin(self, schedule: Schedule) -> None:
        """Hand over the schedule, once."""
        self._check_open()
        if self._reader is not None:
            raise ConfigurationError(f"the load engine did not take the schedule: {os.strerror(errno.EALREADY)}")
        if schedule.rate_rps is not None and schedule.rate_rps > MOST_RPS:
            raise ConfigurationError(
                f"{schedule.rate_rps:g} rps is too much for one load worker with the pure-Python engine (at most"
                f" {MOST_RPS:g}): build the native engine (meshgauge doctor says why it is missing), use more load"
                " workers, or lower the rate"
            )
        arrays = self._tally.begin(schedule)
        self._reader = SecondsReader(arrays, schedule, lambda _: None)
        self._window_ns = schedule.window_end_ns - schedule.window_start_ns
        self._loop.give_schedule(schedule)

    def stop(self) -> None:
        """End at once."""
        self._check_open()
        self._loop.ask_stop()

    def close(self) -> None:
        """Wait for the thread and give its descriptors back."""
        if self._closed:
            return
        self.stop()
        self._closed = True
        self._ended.acquire()
        self._loop.release()

    def counts(self) -> Counts:
        """Return where it stands."""
        self._check_open()
        state = ENGINE_STATES[self._tally.stats.state]  # before the fold: "finished" then means all is counted
        self._tally.fold()
        return dataclasses.replace(counts_of(self._tally.stats), state=state)

    def live(self) -> Histogram:
        """Return the net response of expected replies in all phases so far."""
        self._check_open()
        self._tally.fold()
        return histogram_of(self._tally.live)

    def finished_seconds(self) -> list[SecondTally]:
        """Return the seconds that finished since the last call."""
        if self._reader is None:
            return []
        edges_passed = self._tally.stats.edges_passed  # before the fold: its events are then all there
        finished = self.counts().state == "finished"
        return self._reader.take(edges_passed, finished=finished)

    def window(self) -> WindowTally:
        """Return what the window saw."""
        self._check_open()
        if self._failure:
            raise MeasurementError("the load engine failed") from self._failure[0]
        arrays = self._tally.arrays
        if arrays is None:
            raise ConfigurationError("the load engine was given no schedule")
        state = self.counts().state
        if state != "finished":
            raise MeasurementError(f"the load engine has no result: it is {state}, not finished")
        return window_of(self._tally.stats, self._tally.histograms, arrays, self._window_ns)
