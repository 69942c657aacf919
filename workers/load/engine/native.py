"""The native engine: the C thread behind the Engine contract."""

from __future__ import annotations

import ctypes as c
import os
import socket
from typing import Any

import numpy as np

from meshgauge.errors import ConfigurationError, MeasurementError
from meshgauge.histogram import Histogram
from meshgauge.trial import CLOCKS, OUTCOMES
from workers.load.engine.contract import (
    ARRIVAL_KINDS,
    BATCHES,
    Counts,
    EngineName,
    Schedule,
    SecondTally,
    Target,
    WindowTally,
)
from workers.load.engine.library import ABI, SECOND_FIELDS, ScheduleStruct, TargetStruct, load_library
from workers.load.engine.readings import (
    CELLS,
    SECOND_STRIDE,
    Array,
    Arrays,
    SecondsReader,
    counts_of,
    histogram_of,
    second_count,
    window_of,
)


def target_struct(target: Target, *, without_pwait2: bool = False) -> TargetStruct:
    """Return ``target`` as the C side reads it."""
    return TargetStruct(
        address_be=int.from_bytes(socket.inet_aton(target.host), "little"),
        port=target.port,
        capacity=target.capacity,
        requests_per_connection=target.requests_per_connection or 0,
        expected_status=target.expected_status,
        is_head=int(target.is_head),
        fifo_priority=target.fifo_priority or 0,
        cpu=-1 if target.cpu is None else target.cpu,
        without_pwait2=int(without_pwait2),
        expected_body_bytes=-1 if target.expected_body_bytes is None else target.expected_body_bytes,
        timeout_ns=round(target.timeout_s * 1e9),
        request=target.request,
        request_bytes=len(target.request),
    )


def schedule_struct(schedule: Schedule) -> ScheduleStruct:
    """Return ``schedule`` as the C side reads it."""
    return ScheduleStruct(
        arrival=ARRIVAL_KINDS.index(schedule.kind),
        burst_requests=schedule.burst_requests,
        rate_rps=schedule.rate_rps or 0.0,
        ramp_from_rps=schedule.ramp_from_rps or 0.0,
        phase=schedule.phase,
        seed=schedule.seed,
        start_ns=schedule.start_ns,
        window_start_ns=schedule.window_start_ns,
        window_end_ns=schedule.window_end_ns,
        end_ns=schedule.end_ns,
    )


def _view(address: int, cell: Any, *shape: int) -> Array:
    """Return counters at ``address`` as an array; no copy."""
    total = int(np.prod(shape))
    return np.ctypeslib.as_array((cell * total).from_address(address)).reshape(shape)


class NativeEngine:
    """One C engine thread. It never takes the GIL; this object only reads its counters."""

    name: EngineName = "native"
    abi: int | None = ABI

    def __init__(self, target: Target, *, without_pwait2: bool = False) -> None:
        self._library = load_library()
        self._engine: int | None = self._library.mg_open(c.byref(target_struct(target, without_pwait2=without_pwait2)))
        if self._engine is None:
            reason = os.strerror(c.get_errno())
            raise ConfigurationError(f"the load engine did not start with {target.capacity} connections: {reason}")
        self._stats = self._library.mg_stats(self._engine).contents
        self._live = _view(self._library.mg_live(self._engine), c.c_uint64, CELLS)
        address = self._library.mg_histograms(self._engine)
        self._histograms = _view(address, c.c_uint64, len(OUTCOMES), len(CLOCKS), CELLS)
        self._arrays: Arrays | None = None
        self._reader: SecondsReader | None = None
        self._window_ns = 0

    def _handle(self) -> int:
        """Return the C engine; its memory is gone once it is closed."""
        if self._engine is None:
            raise MeasurementError("the load engine is closed")
        return self._engine

    def set_connections(self, connections: int) -> None:
        """Open or close connections until there are so many."""
        self._library.mg_set_connections(self._handle(), connections)

    def begin(self, schedule: Schedule) -> None:
        """Hand over the schedule, once."""
        library, engine = self._library, self._handle()
        error = library.mg_begin(engine, c.byref(schedule_struct(schedule)))
        if error:
            raise ConfigurationError(f"the load engine did not take the schedule: {os.strerror(error)}")
        self._window_ns = schedule.window_end_ns - schedule.window_start_ns
        n = second_count(self._window_ns)
        self._arrays = Arrays(
            batches=_view(library.mg_batches(engine), c.c_uint32, BATCHES, CELLS),
            seconds=_view(library.mg_seconds(engine), c.c_uint64, n, len(SECOND_FIELDS)),
            second_counts=_view(library.mg_second_counts(engine), c.c_uint32, n, SECOND_STRIDE),
            edges=_view(library.mg_edges(engine), c.c_uint64, n + 1),
        )
        self._reader = SecondsReader(self._arrays, schedule, self._release)

    def _release(self, second: int) -> None:
        self._library.mg_release_second(self._handle(), second)

    def stop(self) -> None:
        """End at once."""
        self._library.mg_stop(self._handle())

    def close(self) -> None:
        """Join the thread and free its memory; nothing can be read afterwards."""
        if self._engine is not None:
            self._library.mg_close(self._engine)
            self._engine = None

    def counts(self) -> Counts:
        """Return where it stands."""
        self._handle()
        return counts_of(self._stats)

    def live(self) -> Histogram:
        """Return the net response of expected replies in all phases so far."""
        self._handle()
        return histogram_of(self._live)

    def finished_seconds(self) -> list[SecondTally]:
        """Return the seconds that finished since the last call."""
        if self._reader is None:
            return []
        finished = self.counts().state == "finished"
        return self._reader.take(self._stats.edges_passed, finished=finished)

    def window(self) -> WindowTally:
        """Return what the window saw."""
        self._handle()
        if self._arrays is None:
            raise ConfigurationError("the load engine was given no schedule")
        return window_of(self._stats, self._histograms, self._arrays, self._window_ns)
