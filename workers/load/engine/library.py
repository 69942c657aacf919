"""Finds and loads the compiled engine, and refuses one that does not match this source."""

from __future__ import annotations

import ctypes as c
import os
from pathlib import Path

from meshgauge.errors import ConfigurationError
from workers.load.engine.readings import CELLS

ABI = 1  # MG_ABI of engine.h
LIBRARY_NAME = "libmgengine.so"
OVERRIDE = "MESHGAUGE_ENGINE_LIB"
_OUTCOMES = 9


class TargetStruct(c.Structure):
    """struct mg_target of engine.h."""

    _fields_ = (
        ("address_be", c.c_uint32),
        ("port", c.c_uint32),
        ("capacity", c.c_uint32),
        ("requests_per_connection", c.c_uint32),
        ("expected_status", c.c_uint32),
        ("is_head", c.c_uint32),
        ("fifo_priority", c.c_int32),
        ("cpu", c.c_int32),
        ("without_pwait2", c.c_uint32),
        ("reserved", c.c_uint32),
        ("expected_body_bytes", c.c_int64),
        ("timeout_ns", c.c_int64),
        ("request", c.c_char_p),
        ("request_bytes", c.c_uint64),
    )


class ScheduleStruct(c.Structure):
    """struct mg_schedule of engine.h."""

    _fields_ = (
        ("arrival", c.c_uint32),
        ("burst_requests", c.c_uint32),
        ("rate_rps", c.c_double),
        ("ramp_from_rps", c.c_double),
        ("phase", c.c_double),
        ("seed", c.c_uint64),
        ("start_ns", c.c_int64),
        ("window_start_ns", c.c_int64),
        ("window_end_ns", c.c_int64),
        ("end_ns", c.c_int64),
    )


SECOND_FIELDS = ("offered", "sent", "done", "errors", "dropped")

STATS_FIELDS = (
    "state",
    "failure_errno",
    "thread_id",
    "fifo_applied",
    "connections_open",
    "connections_opened",
    "connect_failures",
    "connect_errno",
    "requests_total",
    "replies_total",
    "errors_total",
    "offered",
    "sent",
    "done",
    "dropped",
    "waited",
    "backlog_peak",
    "edges_passed",
    "run_delay_start_ns",
    "run_delay_end_ns",
    "run_delay_known",
)


class StatsStruct(c.Structure):
    """struct mg_stats of engine.h."""

    _fields_ = (*((name, c.c_uint64) for name in STATS_FIELDS), ("outcomes", c.c_uint64 * _OUTCOMES))


_SIGNATURES = {
    "mg_open": (c.c_void_p, [c.POINTER(TargetStruct)]),
    "mg_set_connections": (None, [c.c_void_p, c.c_uint32]),
    "mg_begin": (c.c_int, [c.c_void_p, c.POINTER(ScheduleStruct)]),
    "mg_stop": (None, [c.c_void_p]),
    "mg_close": (None, [c.c_void_p]),
    "mg_stats": (c.POINTER(StatsStruct), [c.c_void_p]),
    "mg_histograms": (c.c_void_p, [c.c_void_p]),
    "mg_live": (c.c_void_p, [c.c_void_p]),
    "mg_batches": (c.c_void_p, [c.c_void_p]),
    "mg_seconds": (c.c_void_p, [c.c_void_p]),
    "mg_second_counts": (c.c_void_p, [c.c_void_p]),
    "mg_edges": (c.c_void_p, [c.c_void_p]),
    "mg_release_second": (None, [c.c_void_p, c.c_uint64]),
    "mg_parser_new": (c.c_void_p, [c.c_uint32]),
    "mg_parser_free": (None, [c.c_void_p]),
    "mg_parser_feed": (c.c_int64, [c.c_void_p, c.c_char_p, c.c_uint64]),
    "mg_parser_eof": (c.c_int64, [c.c_void_p]),
    "mg_parser_status": (c.c_uint32, [c.c_void_p]),
    "mg_parser_body_bytes": (c.c_int64, [c.c_void_p]),
    "mg_parser_closes": (c.c_uint32, [c.c_void_p]),
    "mg_arrivals": (None, [c.POINTER(ScheduleStruct), c.POINTER(c.c_int64), c.c_uint64]),
    "mg_bucket": (c.c_uint64, [c.c_uint64]),
}


def library_path() -> Path:
    """Return where the library is expected: the override, else beside this file."""
    override = os.environ.get(OVERRIDE)
    return Path(override) if override else Path(__file__).with_name(LIBRARY_NAME)


def load_library(path: Path | None = None) -> c.CDLL:
    """Return the loaded library with its signatures set.

    Raises:
        ConfigurationError: it is missing, does not load, or was built from another source.
    """
    path = path or library_path()
    if not path.is_file():
        raise ConfigurationError(
            f"no native load engine at {path}: reinstall Meshgauge where a C compiler is on PATH, or set {OVERRIDE}"
        )
    try:
        library = c.CDLL(str(path), use_errno=True)
    except OSError as error:
        raise ConfigurationError(f"the native load engine {path} does not load: {error}") from error
    _check(library, path)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _check(library: c.CDLL, path: Path) -> None:
    try:
        library.mg_abi.restype, library.mg_struct_bytes.restype = c.c_uint32, c.c_uint64
    except AttributeError as error:
        raise ConfigurationError(f"{path} is no Meshgauge load engine: {error}") from error
    found = library.mg_abi()
    if found != ABI:
        raise ConfigurationError(f"the native load engine {path} has ABI {found}, this source needs {ABI}: reinstall")
    expected = (c.sizeof(TargetStruct), c.sizeof(ScheduleStruct), 8 * len(SECOND_FIELDS), c.sizeof(StatsStruct), CELLS)
    sizes = tuple(library.mg_struct_bytes(which) for which in range(len(expected)))
    if sizes != expected:
        raise ConfigurationError(
            f"the native load engine {path} was built from another source (struct sizes {sizes}, not {expected}):"
            " reinstall"
        )
