"""Istio's benchmark CSV: one row a cell, latencies in microseconds, CPU in millicores, memory in MiB.

Source: istio/tools, perf/benchmark/runner/fortio.py and prom.py: percentiles are written as int(seconds * 10**6),
``cpu_mili_avg_*`` is the mean of 1000 x rate(container_cpu_usage_seconds_total), ``mem_Mi_avg_*`` is MiB.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping

from meshgauge.errors import InvalidRequestError
from reports.exchange.published import PublishedPoint

CAVEATS = (
    "Fortio, a closed loop paced to a rate: latency from the actual send, so stalls of the server hide "
    "(coordinated omission); our net response time starts at the intended send.",
    "Each row is one measurement in a fixed order of cells, without interval; equal cells of the file of 2020-08-12 "
    "differ by up to 27 %, and memory grew there with the time of day.",
    "CPU is of the client's and the server's proxy together, per 1000 requests a second; an idle proxy in a "
    "baseline cell is in it.",
)
_NEEDED = ("Labels", "NumThreads", "ActualQPS", "p50", "p90", "p99")
_LABEL = re.compile(r"^(?:[0-9a-f]+_)?qps_(?P<rate>[0-9.]+)_c_(?P<connections>\d+)_(?P<bytes>\d+)_(?P<arm>.+)$")
_US_PER_MS = 1000.0
_PROXIES = ("istio_proxy_fortioclient", "istio_proxy_fortioserver")


def read_points(text: str) -> tuple[PublishedPoint, ...]:
    """Return every row of the CSV in our units.

    Raises:
        InvalidRequestError: columns are missing, or a field is no number; names the line.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    try:
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidRequestError(
                f"not a benchmark CSV of Istio's: no column {', '.join(missing)}; "
                "its header has StartTime, Labels, p50 ..."
            )
        points = tuple(_point(row, line) for line, row in enumerate(reader, start=2))
    except csv.Error as error:
        raise InvalidRequestError(f"line {reader.line_num}: not CSV: {error}") from error
    if not points:
        raise InvalidRequestError("the CSV has a header and no rows")
    return points


def _point(row: Mapping[str, str | None], line: int) -> PublishedPoint:
    label = row["Labels"] or ""
    parts = _LABEL.match(label)
    if parts is None:
        raise InvalidRequestError(f"line {line}: the label {label!r} is not HASH_qps_RATE_c_CONNECTIONS_BYTES_ARM")
    achieved = _number(row, "ActualQPS", line)
    return PublishedPoint(
        arm=f"{parts['arm'].replace('_', ' ')}, {parts['bytes']} B",
        at=row.get("StartTime") or None,
        rate_rps=float(parts["rate"]) or None,  # 0 is Fortio's word for: as fast as it can
        achieved_rps=achieved,
        connections=_whole(row, "NumThreads", line),
        window_s=_number(row, "ActualDuration", line),
        requests=None,
        p50_ms=_ms(row, "p50", line),
        p90_ms=_ms(row, "p90", line),
        p99_ms=_ms(row, "p99", line),
        p999_ms=_ms(row, "p999", line),
        mean_ms=None,
        max_ms=_ms(row, "max", line),
        cpu_data_plane=_cores_per_krps(row, achieved, line),
        memory_data_plane_mib=_sum(row, "mem_Mi_avg", line),
        errors_percent=_number(row, "errorPercent", line),
    )


def _cores_per_krps(row: Mapping[str, str | None], achieved_rps: float | None, line: int) -> float | None:
    millicores = _sum(row, "cpu_mili_avg", line)
    return None if millicores is None or not achieved_rps else millicores / 1000 / achieved_rps * 1000


def _sum(row: Mapping[str, str | None], column: str, line: int) -> float | None:
    """Return a resource of the two proxies on the path together; None where one is missing."""
    values = [_number(row, f"{column}_{proxy}", line) for proxy in _PROXIES]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ms(row: Mapping[str, str | None], column: str, line: int) -> float | None:
    value = _number(row, column, line)
    return None if value is None else value / _US_PER_MS


def _whole(row: Mapping[str, str | None], column: str, line: int) -> int | None:
    value = _number(row, column, line)
    return None if value is None else int(value)


def _number(row: Mapping[str, str | None], column: str, line: int) -> float | None:
    """Return a field as a number; None where it is empty, ``-`` (Istio's word for no data), or there is no column."""
    text = (row.get(column) or "").strip()
    if text in ("", "-"):
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidRequestError(f"line {line}, {column}: {text!r} is no number") from error
    if not math.isfinite(value):
        raise InvalidRequestError(f"line {line}, {column}: {text!r} is not finite")
    return value
