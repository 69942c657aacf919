"""Latency counts: log-linear buckets in nanoseconds, exact to merge, three significant digits.

Bucket layout (HdrHistogram's idea, http://hdrhistogram.org): values below ``SUB_BUCKETS`` ns have a
bucket each; every octave above has ``SUB_BUCKETS / 2`` equal ones, so a bucket is never wider than
1/1024 of its value. The load engine in C counts into the same layout: ``workers/load/engine``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

SUB_BUCKET_BITS = 11
SUB_BUCKETS = 1 << SUB_BUCKET_BITS
HALF = SUB_BUCKETS // 2
MAX_VALUE_BITS = 36
MAX_VALUE_NS = (1 << MAX_VALUE_BITS) - 1  # 68.7 s; larger values are counted as overflow
BUCKETS = SUB_BUCKETS + (MAX_VALUE_BITS - SUB_BUCKET_BITS) * HALF
TAIL_REQUESTS = 100  # a percentile needs this many requests above it (measurement.md 4)

_MAGIC = b"MGH1"

Counts = npt.NDArray[np.int64]


def bucket_index(values_ns: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the bucket of each value.

    Args:
        values_ns: shape (n,), nanoseconds, 0 <= value <= MAX_VALUE_NS.
    """
    values = np.asarray(values_ns, dtype=np.int64)
    # frexp is exact below 2**53: its exponent is the bit length.
    shift = np.maximum(np.frexp(values.astype(np.float64))[1] - SUB_BUCKET_BITS, 0).astype(np.int64)
    index: npt.NDArray[np.int64] = shift * HALF + (values >> shift)
    return index


def bucket_edges_ns() -> npt.NDArray[np.float64]:
    """Return the lower edges of all buckets and the upper edge of the last: shape (BUCKETS + 1,)."""
    index = np.arange(BUCKETS + 1, dtype=np.int64)
    shift = np.maximum(index // HALF - 1, 0)
    edges: npt.NDArray[np.float64] = ((index - shift * HALF) << shift).astype(np.float64)
    return edges


_EDGES_NS = bucket_edges_ns()


def _no_counts() -> Counts:
    return np.zeros(BUCKETS, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts per bucket plus values beyond the range. Addition merges exactly.

    Attributes:
        counts: shape (BUCKETS,), requests per bucket.
        overflow: requests slower than ``MAX_VALUE_NS``; they rank above every bucket.
    """

    counts: Counts = field(default_factory=_no_counts)
    overflow: int = 0

    @classmethod
    def of(cls, values_ns: npt.ArrayLike) -> Self:
        """Count ``values_ns`` (shape (n,), nanoseconds; negative values are an error)."""
        values = np.asarray(values_ns, dtype=np.int64)
        if values.size and values.min() < 0:
            raise ValueError("latencies cannot be negative")
        inside = values <= MAX_VALUE_NS
        counts = np.bincount(bucket_index(values[inside]), minlength=BUCKETS).astype(np.int64)
        return cls(counts, int(values.size - inside.sum()))

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Self:
        """Return the exact sum of ``parts``; the empty histogram when there are none."""
        counts, overflow = _no_counts(), 0
        for part in parts:
            counts += part.counts
            overflow += part.overflow
        return cls(counts, overflow)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.counts + other.counts, self.overflow + other.overflow)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """Return what was counted since ``earlier``, a former state of the same counters."""
        counts = self.counts - earlier.counts
        if counts.min() < 0 or self.overflow < earlier.overflow:
            raise ValueError("not an earlier state of this histogram")
        return Histogram(counts, self.overflow - earlier.overflow)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self.overflow == other.overflow and bool(np.array_equal(self.counts, other.counts))

    __hash__ = None  # type: ignore[assignment]  # arrays inside

    @property
    def total(self) -> int:
        """Requests counted, overflow included."""
        return int(self.counts.sum()) + self.overflow

    def quantile_ns(self, p: float) -> float | None:
        """Return the ``p`` quantile in ns, interpolated inside its bucket; None when empty or overflown.

        The rank rule is rank = p * n over the cumulative counts, linear inside the bucket.
        """
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p must lie in 0..1, not {p}")
        if self.total == 0:
            return None
        rank = p * self.total
        cumulative = np.cumsum(self.counts)
        at = int(np.searchsorted(cumulative, rank, side="left")) if rank > 0 else int(np.argmax(self.counts > 0))
        if at >= BUCKETS:
            return None  # among the overflown: all we know is that it is beyond the range
        below = int(cumulative[at]) - int(self.counts[at])
        share = (rank - below) / int(self.counts[at])
        return float(_EDGES_NS[at] + max(share, 0.0) * (_EDGES_NS[at + 1] - _EDGES_NS[at]))

    def reportable_quantile_ns(self, p: float) -> float | None:
        """Return ``quantile_ns(p)`` when at least TAIL_REQUESTS lie above it, else None."""
        return self.quantile_ns(p) if self.total * (1.0 - p) >= TAIL_REQUESTS else None

    def mean_ns(self) -> float | None:
        """Return the mean of bucket midpoints in ns; None when empty or when anything overflowed."""
        if self.total == 0 or self.overflow:
            return None
        middles = (_EDGES_NS[:-1] + _EDGES_NS[1:]) / 2
        return float(self.counts @ middles / self.total)

    def max_ns(self) -> float | None:
        """Return the upper edge of the highest bucket in use; None when empty or overflown."""
        used = np.flatnonzero(self.counts)
        return float(_EDGES_NS[used[-1] + 1]) if used.size and not self.overflow else None

    def encode(self) -> bytes:
        """Return the lossless wire and storage form: magic, overflow, zlib of sparse (index, count)."""
        used = np.flatnonzero(self.counts)
        pairs = np.concatenate([np.diff(used, prepend=0), self.counts[used]]).astype("<i8")
        return _MAGIC + int(self.overflow).to_bytes(8, "little") + zlib.compress(pairs.tobytes(), 6)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the histogram ``encode`` wrote.

        Raises:
            ValueError: the bytes are not a histogram of this layout.
        """
        if data[:4] != _MAGIC:
            raise ValueError("not a Meshgauge histogram (magic bytes differ)")
        pairs = np.frombuffer(zlib.decompress(data[12:]), dtype="<i8")
        steps, used_counts = np.split(pairs, 2)
        counts = _no_counts()
        counts[np.cumsum(steps)] = used_counts
        return cls(counts, int.from_bytes(data[4:12], "little"))
