"""Fortio's JSON results: seconds in the histogram, nanoseconds in ActualDuration, a word or number in RequestedQPS.

Source: fortio/fortio, periodic.RunnerResults, stats.HistogramData and fhttp.HTTPRunnerResults. Meshery stores the
same object under ``runner_results``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from meshgauge.errors import InvalidRequestError
from reports.exchange.published import PublishedPoint

CAVEATS = (
    "Fortio is a closed loop paced to a rate: latency from the actual send, so stalls of the server hide "
    "(coordinated omission); our net response time starts at the intended send.",
    "Percentiles are Fortio's own, interpolated inside its buckets; how wide those were depends on its -r option.",
    "Single measurements without interval. CPU and memory are not part of the file.",
)
_MS_PER_S = 1000.0
_NS_PER_S = 1e9
_PERCENTILES = {50.0: "p50_ms", 90.0: "p90_ms", 99.0: "p99_ms", 99.9: "p999_ms"}


def read_points(text: str) -> tuple[PublishedPoint, ...]:
    """Return one point for each Fortio result in the text: an object, a list of them, or Meshery's wrapping.

    Raises:
        InvalidRequestError: not JSON, not Fortio's, or a number in it is none; says where.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise InvalidRequestError(f"not JSON: {error}") from error
    points = tuple(_point(found, path) for found, path in _results(document, "$"))
    if not points:
        raise InvalidRequestError("no Fortio result in it: an object with DurationHistogram and ActualQPS")
    return points


def _results(document: Any, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    if isinstance(document, list):
        for at, item in enumerate(document):
            yield from _results(item, f"{path}[{at}]")
    elif isinstance(document, dict):
        if "DurationHistogram" in document:
            yield document, path
        elif "runner_results" in document:
            yield from _results(document["runner_results"], f"{path}.runner_results")


def _point(found: Mapping[str, Any], path: str) -> PublishedPoint:
    histogram = found["DurationHistogram"]
    if not isinstance(histogram, dict):
        raise InvalidRequestError(f"{path}.DurationHistogram is no object; is this a Fortio result?")
    count = _number(histogram, "Count", f"{path}.DurationHistogram")
    if not count:
        raise InvalidRequestError(f"{path}.DurationHistogram.Count: no requests were measured")
    window_ns = _number(found, "ActualDuration", path)
    at = f"{path}.DurationHistogram"
    return PublishedPoint(
        arm=str(found.get("Labels") or found.get("URL") or found.get("RunType") or "Fortio result"),
        at=str(found["StartTime"]) if found.get("StartTime") else None,
        rate_rps=_rate(found.get("RequestedQPS"), path),
        achieved_rps=_number(found, "ActualQPS", path),
        connections=_whole(found, "NumThreads", path),
        window_s=None if window_ns is None else window_ns / _NS_PER_S,
        requests=int(count),
        mean_ms=_ms(histogram, "Avg", at),
        max_ms=_ms(histogram, "Max", at),
        cpu_data_plane=None,
        memory_data_plane_mib=None,
        errors_percent=_errors_percent(found, path),
        **_percentiles(histogram, at),
    )


def _percentiles(histogram: Mapping[str, Any], path: str) -> dict[str, float | None]:
    told: dict[str, float | None] = dict.fromkeys(_PERCENTILES.values())
    listed = histogram.get("Percentiles") or ()
    for at, entry in enumerate(listed):
        here = f"{path}.Percentiles[{at}]"
        if not isinstance(entry, dict):
            raise InvalidRequestError(f"{here} is no object")
        name = _PERCENTILES.get(_number(entry, "Percentile", here) or 0.0)
        if name is not None:
            told[name] = _ms(entry, "Value", here)
    return told


def _rate(told: Any, path: str) -> float | None:
    """Return the offered rate; None for ``max``, which is also what Fortio makes of 0 and less."""
    if told is None or str(told).strip().lower() == "max":
        return None
    try:
        rate = float(told)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{path}.RequestedQPS: {told!r} is neither a number nor max") from error
    return rate if rate > 0 else None


def _errors_percent(found: Mapping[str, Any], path: str) -> float | None:
    """Return the share of replies other than 2xx (HTTP) or SERVING (gRPC); None without counts."""
    codes = found.get("RetCodes")
    if not isinstance(codes, dict) or not codes:
        return None
    counts = {code: _number(codes, code, f"{path}.RetCodes") or 0.0 for code in codes}
    good = sum(n for code, n in counts.items() if code == "SERVING" or (len(code) == 3 and code.startswith("2")))
    total = sum(counts.values())
    return 100 * (total - good) / total if total else None


def _ms(holder: Mapping[str, Any], name: str, path: str) -> float | None:
    value = _number(holder, name, path)
    return None if value is None else value * _MS_PER_S


def _whole(holder: Mapping[str, Any], name: str, path: str) -> int | None:
    value = _number(holder, name, path)
    return None if value is None else int(value)


def _number(holder: Mapping[str, Any], name: str, path: str) -> float | None:
    value = holder.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise InvalidRequestError(f"{path}.{name}: {str(value)[:40]!r} is no number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False
