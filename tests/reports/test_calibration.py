"""Seeded simulations: how often a verdict is wrong where the truth is known (reference/statistics.md 7.10, 7.20)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from reports.metrics import METRIC_OF
from reports.statistics import blocks_needed, moderated, signed_rank_p, trimmed_effect
from reports.verdict import judge, margin_on_scale

Noise = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return generator.normal(0, 1, shape)


def heavy_tailed(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return generator.standard_t(3, shape)


def _false_positives(noise: Noise, n: int, experiments: int) -> float:
    values = 0.035 * noise(np.random.default_rng(n), (experiments, n))
    return sum((trimmed_effect(row).p or 1) <= 0.05 for row in values.tolist()) / experiments


@pytest.mark.parametrize("noise", [normal, heavy_tailed])
@pytest.mark.parametrize("n", [6, 10])
def test_no_difference_is_called_one_about_one_time_in_twenty(noise: Noise, n: int) -> None:
    assert 0.03 <= _false_positives(noise, n, 2000) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("noise", [normal, heavy_tailed])
@pytest.mark.parametrize("n", [6, 10, 15, 20])
def test_no_difference_is_called_one_about_one_time_in_twenty_in_the_long_form(noise: Noise, n: int) -> None:
    assert 0.032 <= _false_positives(noise, n, 20_000) <= 0.062


def test_planned_blocks_have_the_power_they_were_planned_for() -> None:
    sd, difference = 0.035, math.log1p(0.05)
    n = blocks_needed(sd, difference)
    assert n is not None
    values = np.random.default_rng(3).normal(difference, sd, (2000, n))
    power = sum((trimmed_effect(row).p or 1) <= 0.05 for row in values.tolist()) / 2000
    assert 0.76 <= power <= 0.88  # n is rounded up, and is small here: it may have a little more than 0.8


def test_the_interval_contains_the_truth_about_nineteen_times_in_twenty() -> None:
    truth = math.log1p(0.05)
    values = np.random.default_rng(5).normal(truth, 0.035, (2000, 10))
    intervals = [trimmed_effect(row).interval() for row in values.tolist()]
    assert 0.93 <= sum(i is not None and i.low <= truth <= i.high for i in intervals) / 2000 <= 0.97


def test_a_difference_as_large_as_the_margin_is_seldom_called_equivalent() -> None:
    metric = METRIC_OF["p50"]
    margin = margin_on_scale(metric, 0.03)
    values = np.random.default_rng(6).normal(margin, 0.02, (1500, 10))
    words = [
        judge(effect, metric, margin, effect.p or 1, signed_rank_p(row), degraded=False).word
        for row in values.tolist()
        for effect in [trimmed_effect(row)]
    ]
    assert words.count("equivalent") / 1500 <= 0.06


def _moderated_false_positives(noise: Noise, families: int) -> float:
    generator = np.random.default_rng(11)
    hits = 0
    for _ in range(families):
        sds = 0.03 * np.exp(generator.normal(0, 0.4, 30))
        rows = sds[:, None] * noise(generator, (30, 6))
        hits += sum((effect.p or 1) <= 0.05 for effect in moderated([trimmed_effect(r) for r in rows.tolist()]))
    return hits / (30 * families)


def test_sharing_variances_keeps_the_rate_of_false_differences() -> None:
    assert 0.035 <= _moderated_false_positives(normal, 100) <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "low", "high"), [(normal, 0.040, 0.060), (heavy_tailed, 0.028, 0.050)])
def test_sharing_variances_keeps_the_rate_of_false_differences_in_the_long_form(
    noise: Noise, low: float, high: float
) -> None:
    assert low <= _moderated_false_positives(noise, 1000) <= high
