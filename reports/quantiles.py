"""Many quantiles of one histogram at once, by the rank rule of meshgauge.histogram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from meshgauge.histogram import TAIL_REQUESTS, Histogram, bucket_edges_ns

NS_PER_MS = 1e6

_EDGES_NS = bucket_edges_ns()


def quantiles_ms(histogram: Histogram, ps: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the quantiles in ms, shape (len(ps),); NaN where the histogram is empty or has overflown.

    One pass over the used buckets serves all of ``ps``; Histogram.quantile_ns sums all buckets anew for each.
    """
    total = histogram.total
    used = np.flatnonzero(histogram.counts)
    found = np.full(len(ps), np.nan)
    if total == 0 or used.size == 0:
        return found
    cumulative = np.cumsum(histogram.counts[used])
    ranks = np.asarray(ps, dtype=np.float64) * total
    at = np.searchsorted(cumulative, ranks, side="left")
    known = at < used.size
    bucket, at = used[at[known]], at[known]
    counts = histogram.counts[bucket]
    share = np.maximum((ranks[known] - (cumulative[at] - counts)) / counts, 0.0)
    found[known] = (_EDGES_NS[bucket] + share * (_EDGES_NS[bucket + 1] - _EDGES_NS[bucket])) / NS_PER_MS
    return found


def reportable(requests: int, p: float) -> bool:
    """Return whether enough requests lie above ``p`` to speak of that percentile (measurement.md 4)."""
    return requests * (1.0 - p) >= TAIL_REQUESTS
