"""Quantiles in bulk are those of the histogram itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshgauge.histogram import MAX_VALUE_NS, Histogram
from reports.readings.quantiles import quantiles_ms, reportable, reportable_quantiles_ms

PS = (0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, MAX_VALUE_NS), min_size=1, max_size=300))
def test_bulk_quantiles_equal_single_ones(values: list[int]) -> None:
    histogram = Histogram.of(values)
    single = [histogram.quantile_ns(p) for p in PS]
    assert quantiles_ms(histogram, PS).tolist() == pytest.approx([(v or 0.0) / 1e6 for v in single])


def test_quantiles_grow_with_p_and_do_not_change_with_the_number_of_requests() -> None:
    histogram = Histogram.of(np.random.default_rng(1).lognormal(13, 0.5, 5000).astype(np.int64))
    sevenfold = Histogram(histogram.counts * 7)
    values = quantiles_ms(histogram, PS)
    assert (np.diff(values) >= 0).all()
    assert quantiles_ms(sevenfold, PS).tolist() == pytest.approx(values.tolist())


def test_nothing_and_the_overflown_have_no_quantile() -> None:
    assert all(math.isnan(value) for value in quantiles_ms(Histogram(), PS))
    mostly_lost = Histogram.of([1000, MAX_VALUE_NS + 1, MAX_VALUE_NS + 1])
    found = quantiles_ms(mostly_lost, (0.2, 0.99))
    assert found[0] == pytest.approx(0.001, rel=0.01)
    assert math.isnan(found[1])


@pytest.mark.parametrize(("requests", "p", "enough"), [(10_000, 0.99, True), (9_999, 0.99, False), (200, 0.5, True)])
def test_a_percentile_needs_a_hundred_requests_above_it(requests: int, p: float, enough: bool) -> None:
    assert reportable(requests, p) is enough


def test_a_percentile_with_too_few_requests_above_it_is_none_and_not_a_number() -> None:
    histogram = Histogram.of(np.arange(9_999) + 1_000_000)
    p50, p99, p999 = reportable_quantiles_ms(Histogram.stored(histogram.encode()), (0.5, 0.99, 0.999))
    assert p50 == quantiles_ms(histogram, (0.5,))[0]
    assert p99 is None
    assert p999 is None
    assert reportable_quantiles_ms(Histogram(), (0.5,)) == [None]
    lost = Histogram.of([1000] * 300 + [MAX_VALUE_NS + 1] * 700)
    assert reportable_quantiles_ms(lost, (0.2, 0.5))[1] is None
