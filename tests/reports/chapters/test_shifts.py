"""The shift over percentiles: a band that holds for all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from meshgauge.run import RunRecord
from reports.readings.shifts import half_widths, shift_of

MakeRun = Callable[..., RunRecord]
Read = Callable[[RunRecord], Any]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2}


def _correlated(generator: np.random.Generator, blocks: int, percentiles: int) -> Any:
    at = np.linspace(0, 1, percentiles)
    covariance = 0.2 + 0.8 * np.exp(-np.abs(at[:, None] - at) / 0.3)
    return generator.normal(size=(blocks, percentiles)) @ np.linalg.cholesky(covariance).T


@pytest.mark.parametrize("blocks", [6, 10])
@pytest.mark.parametrize("effect", [0.0, 30.0])
def test_the_band_misses_anywhere_in_one_of_twenty_and_single_intervals_far_more_often(
    blocks: int, effect: float
) -> None:
    """statistics.md 6.3: .037 to .053 for the band, .14 to .16 and more for pointwise ones; whatever the effect."""
    generator, repetitions, outside, single = np.random.default_rng(7), 600, 0, 0
    for _ in range(repetitions):
        differences = effect + _correlated(generator, blocks, 13)
        pointwise, band = half_widths(differences, 0.95)
        assert pointwise is not None
        assert band is not None
        away = np.abs(differences.mean(axis=0) - effect)
        outside += bool((away > band).any())
        single += bool((away > pointwise).any())
    assert 0.02 <= outside / repetitions <= 0.075
    assert single / repetitions > 0.2


def test_a_band_is_never_narrower_than_a_single_interval() -> None:
    together = np.outer(np.linspace(-1, 1, 10), np.ones(13))
    pointwise, band = half_widths(together, 0.95)
    assert pointwise is not None
    assert band is not None
    assert (band >= pointwise).all()


def test_the_single_interval_is_a_t_interval() -> None:
    differences = np.random.default_rng(3).normal(size=(8, 4))
    pointwise, _ = half_widths(differences, 0.95)
    ends = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert pointwise == pytest.approx((ends.high - ends.low) / 2)


def test_few_blocks_have_no_band_and_one_block_no_interval() -> None:
    assert half_widths(np.zeros((5, 3)), 0.95)[1] is None
    assert half_widths(np.zeros((1, 3)), 0.95) == (None, None)


def test_equal_values_still_have_a_width() -> None:
    pointwise, band = half_widths(np.full((10, 3), 0.2), 0.95)
    assert pointwise is not None
    assert band is not None
    assert (band > 0).all()


def test_a_scaled_distribution_shifts_alike_everywhere(make_run: MakeRun, read: Read) -> None:
    analysis = read(make_run(ratio=TRUTH, world={"run_sd": 0.002})).analysis
    answer = next(a for a in analysis.answers if a.question.key == "baseline")
    median = next(c for c in answer.comparisons if c.metric.name == "p50" and "envoy-1.40.0" in c.pair.label)
    shift = shift_of(median, analysis.readings)
    assert shift is not None
    assert np.exp(shift.middle) == pytest.approx(1.61, rel=0.01)
    assert shift.p[-1] == pytest.approx(0.995)  # 20 000 requests: 100 lie above
    at = list(shift.p).index(0.5)
    assert shift.middle[at] == pytest.approx(np.mean(median.differences))


def test_only_blocks_of_the_comparison_count(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH, edit=lambda t: None if "nginx" in t.cell and t.block == 3 else t))
    blocks = {row["arm"]: row["blocks"] for row in book.grid("which-requests", "shifts")}
    assert blocks["nginx-1.31.0 · mtls"] == "9"
    assert blocks["envoy-1.40.0 · mtls"] == "10"


def test_the_answer_names_the_percentiles_shown_to_differ(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio={"envoy-1.40.0": 1.61}))
    answer = book["which-requests"].answer
    assert answer.startswith("Against no mesh, 1 of 4 arms have a higher latency at every percentile")
    assert "3 are not shown to differ at any" in answer


def test_no_statement_without_a_verdict(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH, blocks=4))
    assert book["which-requests"].answer.startswith("No statement about single percentiles: 4 of 4 planned blocks")
    assert not book.figures("which-requests")
