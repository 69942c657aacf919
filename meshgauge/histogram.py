"""Latency counts: log-linear buckets in nanoseconds, exact to merge, three significant digits.

Bucket layout (HdrHistogram's idea, http://hdrhistogram.org): values below ``SUB_BUCKETS`` ns have a
bucket each; every octave above has ``SUB_BUCKETS / 2`` equal ones, so a bucket is never wider than
1/1024 of its value. The load engine in C counts into the same layout: ``workers/load/engine``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
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
Pairs = tuple[npt.NDArray[np.int64], Counts]


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
_NO_PAIRS: Pairs = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Histogram:
    """Counts per bucket plus values beyond the range. Addition merges exactly. Never changed once made.

    Of the 27 648 buckets a trial uses some thousands, so only those are kept: (bucket, count) pairs, or, for a
    histogram out of the store, its bytes alone (about 5 kB; a report of 10 000 trials has 40 000 of them), which
    are unpacked whenever something is asked. Hold on to ``unpacked()`` to ask several things.

    Attributes:
        overflow: requests slower than ``MAX_VALUE_NS``; they rank above every bucket.
    """

    __slots__ = ("_held", "overflow")

    _held: Pairs | bytes  # bytes: as stored
    overflow: int

    def __init__(self, counts: Counts | None = None, overflow: int = 0) -> None:
        """Keep what is counted in ``counts``: shape (BUCKETS,), requests per bucket; None: nothing."""
        self._held = _NO_PAIRS
        self.overflow = overflow
        if counts is None:
            return
        if counts.shape != (BUCKETS,):
            raise ValueError(f"counts have the shape {counts.shape}; a histogram has ({BUCKETS},)")
        used = np.flatnonzero(counts)
        self._held = (used, np.asarray(counts[used], dtype=np.int64))

    @classmethod
    def _holding(cls, held: Pairs | bytes, overflow: int) -> Self:
        made = cls(None, overflow)
        made._held = held
        return made

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
        counts, overflow = np.zeros(BUCKETS, dtype=np.int64), 0
        for part in parts:
            used, some = part.pairs()
            counts[used] += some  # each bucket stands once in ``used``
            overflow += part.overflow
        return cls(counts, overflow)

    @classmethod
    def stored(cls, data: bytes) -> Self:
        """Return what ``encode`` wrote as a histogram that stays packed until asked; see ``decode`` for errors."""
        return cls._holding(data, _overflow_of(data))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram.merged((self, other))

    def __sub__(self, earlier: Histogram) -> Histogram:
        """Return what was counted since ``earlier``, a former state of the same counters."""
        counts = self.counts
        used, some = earlier.pairs()
        counts[used] -= some
        if counts.min() < 0 or self.overflow < earlier.overflow:
            raise ValueError("not an earlier state of this histogram")
        return Histogram(counts, self.overflow - earlier.overflow)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        if self.overflow != other.overflow:
            return False
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self.pairs(), other.pairs(), strict=True))

    __hash__ = None  # type: ignore[assignment]  # arrays inside

    def __repr__(self) -> str:
        return f"Histogram({self.total} requests, {self.overflow} of them beyond the range)"

    def pairs(self) -> Pairs:
        """Return the buckets in use, ascending, and how many requests each holds: two arrays of shape (used,)."""
        return _unpacked(self._held) if isinstance(self._held, bytes) else self._held

    def unpacked(self) -> Histogram:
        """Return this histogram with its pairs at hand."""
        return self._holding(self.pairs(), self.overflow) if isinstance(self._held, bytes) else self

    @property
    def counts(self) -> Counts:
        """Requests per bucket, shape (BUCKETS,): an array of the caller's own, made anew each time."""
        counts = np.zeros(BUCKETS, dtype=np.int64)
        used, some = self.pairs()
        counts[used] = some
        return counts

    @property
    def total(self) -> int:
        """Requests counted, overflow included."""
        return int(self.pairs()[1].sum()) + self.overflow

    def quantiles_ns(self, ps: Sequence[float]) -> npt.NDArray[np.float64]:
        """Return the quantiles in ns, shape (len(ps),), interpolated inside their bucket; NaN where not known.

        Nothing is known of an empty histogram, and of ranks among the overflown. The rank rule is rank = p * n
        over the cumulative counts, linear inside the bucket.

        Raises:
            ValueError: a p outside 0..1.
        """
        shares = np.asarray(ps, dtype=np.float64)
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"p must lie in 0..1, not {ps}")
        used, counts = self.pairs()
        cumulative = np.cumsum(counts)
        ranks = shares * (int(cumulative[-1]) + self.overflow if used.size else self.overflow)
        at = np.searchsorted(cumulative, ranks, side="left")
        known = at < used.size
        at = at[known]
        inside = (ranks[known] - (cumulative[at] - counts[at])) / counts[at]
        low, high = _EDGES_NS[used[at]], _EDGES_NS[used[at] + 1]
        found = np.full(shares.shape, np.nan)
        found[known] = low + np.maximum(inside, 0.0) * (high - low)
        return found

    def quantile_ns(self, p: float) -> float | None:
        """Return one quantile by the rule of ``quantiles_ns``; None where it is not known."""
        found = float(self.quantiles_ns((p,))[0])
        return None if math.isnan(found) else found

    def reportable_quantile_ns(self, p: float) -> float | None:
        """Return ``quantile_ns(p)`` when at least TAIL_REQUESTS lie above it, else None."""
        at_hand = self.unpacked()
        return at_hand.quantile_ns(p) if at_hand.total * (1.0 - p) >= TAIL_REQUESTS else None

    def mean_ns(self) -> float | None:
        """Return the mean of bucket midpoints in ns; None when empty or when anything overflowed."""
        used, counts = self.pairs()
        if not used.size or self.overflow:
            return None
        middles = (_EDGES_NS[used] + _EDGES_NS[used + 1]) / 2
        return float(counts @ middles / counts.sum())

    def max_ns(self) -> float | None:
        """Return the upper edge of the highest bucket in use; None when empty or overflown."""
        used, _ = self.pairs()
        return float(_EDGES_NS[used[-1] + 1]) if used.size and not self.overflow else None

    def encode(self) -> bytes:
        """Return the lossless wire and storage form: magic, overflow, zlib of sparse (index, count)."""
        if isinstance(self._held, bytes):
            return self._held
        used, counts = self._held
        pairs = np.concatenate([np.diff(used, prepend=0), counts]).astype("<i8")
        return _MAGIC + int(self.overflow).to_bytes(8, "little") + zlib.compress(pairs.tobytes(), 6)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the histogram ``encode`` wrote.

        Raises:
            ValueError: the bytes are not a histogram of this layout.
        """
        overflow = _overflow_of(data)
        return cls._holding(_unpacked(data), overflow)


def _overflow_of(data: bytes) -> int:
    if data[:4] != _MAGIC:
        raise ValueError("not a Meshgauge histogram (magic bytes differ)")
    return int.from_bytes(data[4:12], "little")


def _unpacked(data: bytes) -> Pairs:
    """Return the pairs in ``data``, whose magic is known to be right."""
    try:
        numbers = np.frombuffer(zlib.decompress(data[12:]), dtype="<i8")
    except (zlib.error, ValueError) as error:
        raise ValueError(f"not a whole Meshgauge histogram: {error}") from error
    steps, counts = numbers[: numbers.size // 2], numbers[numbers.size // 2 :]
    used = np.cumsum(steps)
    if steps.size != counts.size or (used.size and not (used[0] >= 0 and steps[1:].all() and used[-1] < BUCKETS)):
        raise ValueError("not a Meshgauge histogram of this layout (its buckets are out of order or range)")
    return used, counts
