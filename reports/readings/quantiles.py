"""Quantiles of one histogram in ms, by the rank rule of meshgauge.histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from meshgauge.histogram import TAIL_REQUESTS, Histogram

NS_PER_MS = 1e6


def quantiles_ms(histogram: Histogram, ps: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the quantiles in ms, shape (len(ps),); NaN where the histogram is empty or has overflown."""
    return histogram.quantiles_ns(ps) / NS_PER_MS


def reportable_quantiles_ms(histogram: Histogram, ps: Sequence[float]) -> list[float | None]:
    """Return the quantiles in ms in the order of ``ps``; None where too few requests lie above, or where unknown."""
    at_hand = histogram.unpacked()
    total = at_hand.total
    return [
        float(value) if reportable(total, p) and math.isfinite(value) else None
        for p, value in zip(ps, quantiles_ms(at_hand, ps), strict=True)
    ]


def reportable(requests: int, p: float) -> bool:
    """Return whether enough requests lie above ``p`` to speak of that percentile (measurement.md 4)."""
    return requests * (1.0 - p) >= TAIL_REQUESTS
