"""Histograms: exact to merge, lossless to store, three significant digits."""

from __future__ import annotations

import copy
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshgauge.histogram import BUCKETS, MAX_VALUE_NS, TAIL_REQUESTS, Histogram, bucket_edges_ns, bucket_index

values_ns = st.lists(st.integers(0, 2 * MAX_VALUE_NS), max_size=200)
# Few buckets with many requests: equal ranks, ends of buckets and gaps between them come up often.
crowded_ns = st.lists(st.sampled_from([0, 1, 2047, 2048, 4096, 10**6, 10**9, MAX_VALUE_NS, MAX_VALUE_NS + 1]))
shares = st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.99, 1.0])


def dense_counts(values: list[int]) -> npt.NDArray[np.int64]:
    """Return the histogram by its definition: every value added to its bucket, all buckets there."""
    counts = np.zeros(BUCKETS, dtype=np.int64)
    for value in values:
        if value <= MAX_VALUE_NS:
            counts[bucket_index(value)] += 1
    return counts


def dense_quantile_ns(counts: npt.NDArray[np.int64], overflow: int, p: float) -> float | None:
    """Return a quantile by the rank rule, bucket by bucket over all of them."""
    rank, below = p * (int(counts.sum()) + overflow), 0
    edges = bucket_edges_ns()
    for at in np.flatnonzero(counts):
        if below + counts[at] >= rank:
            return float(edges[at] + max((rank - below) / counts[at], 0.0) * (edges[at + 1] - edges[at]))
        below += int(counts[at])
    return None


def test_every_value_lies_in_its_bucket_and_no_bucket_is_wider_than_a_thousandth() -> None:
    edges = bucket_edges_ns()
    values = np.unique(np.geomspace(1, MAX_VALUE_NS, 100_000).astype(np.int64))
    at = bucket_index(values)
    assert (edges[at] <= values).all()
    assert (values < edges[at + 1]).all()
    widths = np.diff(edges)
    assert (widths[2048:] / edges[2048:-1] <= 1 / 1024).all()
    assert edges[BUCKETS] == MAX_VALUE_NS + 1


@settings(deadline=None)
@given(values_ns, values_ns, values_ns)
def test_merging_is_associative_commutative_and_counts_everything(a: list[int], b: list[int], c: list[int]) -> None:
    first, second, third = map(Histogram.of, (a, b, c))
    assert (first + second) + third == first + (second + third) == Histogram.merged([third, first, second])
    assert (first + second).total == len(a) + len(b)
    assert (first + second) - second == first
    assert first + second == Histogram.of(a + b)


@settings(deadline=None)
@given(values_ns)
def test_decoding_gives_back_what_was_encoded(values: list[int]) -> None:
    histogram = Histogram.of(values)
    assert Histogram.decode(histogram.encode()) == histogram
    assert histogram.overflow == sum(value > MAX_VALUE_NS for value in values)


@settings(deadline=None)
@given(values_ns | crowded_ns, st.lists(shares, min_size=1, max_size=5))
def test_kept_pairs_say_what_the_dense_definition_says(values: list[int], ps: list[float]) -> None:
    counts, overflow = dense_counts(values), sum(value > MAX_VALUE_NS for value in values)
    histogram = Histogram.of(values)
    for form in (histogram, Histogram(counts, overflow), Histogram.stored(histogram.encode())):
        assert np.array_equal(form.counts, counts)
        assert form.total == len(values)
        assert [form.quantile_ns(p) for p in ps] == [dense_quantile_ns(counts, overflow, p) for p in ps]
        assert form.quantiles_ns(ps).tolist() == pytest.approx(
            [np.nan if (one := form.quantile_ns(p)) is None else one for p in ps], nan_ok=True, rel=0, abs=0
        )
        edges = bucket_edges_ns()
        expected = None if overflow or not values else counts @ (edges[1:] + edges[:-1]) / 2 / len(values)
        assert form.mean_ns() == (None if expected is None else pytest.approx(float(expected), rel=1e-12))
        assert form.max_ns() == (edges[np.flatnonzero(counts)[-1] + 1] if values and not overflow else None)


@settings(deadline=None)
@given(st.lists(values_ns | crowded_ns, max_size=4))
def test_packed_and_unpacked_histograms_merge_and_differ_as_dense_arrays_do(groups: list[list[int]]) -> None:
    parts = [Histogram.of(values) for values in groups]
    packed = [Histogram.stored(part.encode()) for part in parts]
    total = Histogram.merged(packed)
    assert np.array_equal(total.counts, sum((dense_counts(values) for values in groups), dense_counts([])))
    assert total == Histogram.merged(parts)
    for part, same in zip(parts, packed, strict=True):
        assert part == same == same.unpacked() == copy.deepcopy(same)
        assert same.encode() == part.encode()
        assert np.array_equal((total - same).counts, total.counts - part.counts)


def test_stored_bytes_are_those_of_the_first_release() -> None:
    """What is in Postgres today has to be readable for ever: magic, overflow, zlib of bucket steps and counts."""
    pairs = np.array([5, 2043, 1, 3, 7, 9], dtype="<i8")  # buckets 5, 2048, 2049
    data = b"MGH1" + (2).to_bytes(8, "little") + zlib.compress(pairs.tobytes(), 6)
    histogram = Histogram.decode(data)
    assert [array.tolist() for array in histogram.pairs()] == [[5, 2048, 2049], [3, 7, 9]]
    assert (histogram.overflow, histogram.total, histogram.encode()) == (2, 21, data)


def test_a_histogram_cannot_be_changed_through_what_it_gives_away() -> None:
    histogram = Histogram.of([5, 5, 7])
    counts = histogram.counts
    counts[:] = 0
    assert histogram.total == 3


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99, 0.999])
def test_quantiles_agree_with_numpy_to_a_thousandth(p: float) -> None:
    values = np.random.default_rng(1).lognormal(12, 1, 200_000).astype(np.int64)
    found = Histogram.of(values).quantile_ns(p)
    assert found == pytest.approx(np.quantile(values, p), rel=1e-3)


@settings(deadline=None)
@given(st.lists(st.integers(0, MAX_VALUE_NS), min_size=1, max_size=200))
def test_quantiles_are_monotone_and_inside_the_data(values: list[int]) -> None:
    histogram = Histogram.of(values)
    found = [histogram.quantile_ns(p) for p in (0.0, 0.1, 0.5, 0.9, 1.0)]
    known = [value for value in found if value is not None]
    assert known == sorted(known)
    assert len(known) == 5
    assert min(values) * (1 - 1 / 1024) - 1 <= known[0]
    assert known[-1] <= max(values) * (1 + 1 / 1024) + 1


def test_a_percentile_needs_a_hundred_requests_above_it() -> None:
    enough = Histogram.of(np.arange(100 * TAIL_REQUESTS) + 1000)
    assert enough.reportable_quantile_ns(0.99) is not None
    assert Histogram.of(np.arange(100 * TAIL_REQUESTS - 1) + 1000).reportable_quantile_ns(0.99) is None


def test_nothing_is_known_of_an_empty_or_overflown_quantile() -> None:
    assert Histogram().quantile_ns(0.5) is None
    assert Histogram().mean_ns() is None
    assert Histogram().max_ns() is None
    assert Histogram.of([MAX_VALUE_NS + 1]).quantile_ns(0.5) is None
    assert Histogram.of([MAX_VALUE_NS + 1]).quantile_ns(0.0) is None


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Histogram.of([-1])
    with pytest.raises(ValueError, match="magic"):
        Histogram.decode(b"nonsense")
    with pytest.raises(ValueError, match="earlier state"):
        Histogram() - Histogram.of([5])
    with pytest.raises(ValueError, match="p must lie"):
        Histogram().quantile_ns(1.5)
    with pytest.raises(ValueError, match="shape"):
        Histogram(np.zeros(7, dtype=np.int64))
    whole = Histogram.of(range(0, 10**6, 1000)).encode()
    damaged = [whole[:-9], whole[:12], _packed([1, 2, 3]), _packed([BUCKETS, 1]), _packed([5, 0, 1, 1])]
    for data in damaged:
        with pytest.raises(ValueError, match="Meshgauge histogram"):
            Histogram.decode(data)


def _packed(numbers: list[int]) -> bytes:
    return b"MGH1" + bytes(8) + zlib.compress(np.array(numbers, dtype="<i8").tobytes())
