"""Feeds Locust's own statistics in bulk, so that its reports and web UI show what the engine did."""

from __future__ import annotations

import time
from typing import Any

from locust.stats import RequestStats, StatsEntry

from meshgauge.histogram import Histogram, bucket_edges_ns

_NS_PER_MS = 1e6
_DIGITS = 3  # of a key: Locust keeps one count per distinct response time
_MIDDLES_NS = (bucket_edges_ns()[:-1] + bucket_edges_ns()[1:]) / 2


def response_times_ms(histogram: Histogram) -> dict[float, int]:
    """Return counts per response time in ms, rounded to three digits."""
    times: dict[float, int] = {}
    for bucket, count in zip(*histogram.pairs(), strict=True):
        middle_ms = float(f"{_MIDDLES_NS[bucket] / _NS_PER_MS:.{_DIGITS}g}")
        times[middle_ms] = times.get(middle_ms, 0) + int(count)
    return times


def feed(stats: RequestStats, method: str, name: str, replies: Histogram, errors: int) -> None:
    """Add an interval's ``replies`` and the number of ``errors`` that came beside them."""
    total = replies.total + errors
    if not total:
        return
    entry: Any = StatsEntry(stats, name, method)
    now = time.time()
    times = response_times_ms(replies)
    entry.num_requests, entry.num_failures, entry.num_none_requests = total, errors, errors
    entry.last_request_timestamp = now
    entry.num_reqs_per_sec = {int(now): total}
    entry.num_fail_per_sec = {int(now): errors} if errors else {}
    entry.response_times = times
    entry.total_response_time = sum(middle * count for middle, count in times.items())
    entry.min_response_time = min(times, default=None)
    entry.max_response_time = max(times, default=0)
    stats.total.extend(entry)
    stats.entries[(name, method)].extend(entry)
