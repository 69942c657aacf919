"""Histograms: exact to merge, lossless to store, three significant digits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshgauge.histogram import BUCKETS, MAX_VALUE_NS, TAIL_REQUESTS, Histogram, bucket_edges_ns, bucket_index

values_ns = st.lists(st.integers(0, 2 * MAX_VALUE_NS), max_size=200)


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


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Histogram.of([-1])
    with pytest.raises(ValueError, match="magic"):
        Histogram.decode(b"nonsense")
    with pytest.raises(ValueError, match="earlier state"):
        Histogram() - Histogram.of([5])
    with pytest.raises(ValueError, match="p must lie"):
        Histogram().quantile_ns(1.5)
