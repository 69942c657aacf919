"""Effects, intervals and powers, held against scipy, simulation and the tables of the protocol."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import mstats

from reports.comparing.statistics import (
    MODERATION_CELLS,
    Effect,
    adjusted_p,
    blocks_needed,
    blocks_needed_apart,
    detectable_in_sd,
    moderated,
    signed_rank_p,
    smallest_detectable,
    trimmed_effect,
    welch_effect,
    yuen,
)

differences = st.lists(st.floats(-2, 2, allow_nan=False), min_size=2, max_size=30)


@pytest.mark.parametrize("n", [10, 20, 30])
def test_effect_and_interval_equal_scipys_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).standard_t(3, n) * 0.03 + 0.01
    effect = trimmed_effect(values.tolist())
    interval = effect.interval()
    low, high = mstats.trimmed_mean_ci(values, limits=(0.1, 0.1), alpha=0.05)
    assert effect.estimate == pytest.approx(float(stats.trim_mean(values, 0.1)))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((float(low), float(high)))


@pytest.mark.parametrize("n", [3, 6, 9])
def test_below_ten_blocks_it_is_the_paired_t_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.02, 0.03, n)
    effect, oracle = trimmed_effect(values.tolist()), stats.ttest_1samp(values, 0)
    assert effect.p == pytest.approx(float(oracle.pvalue))
    interval = effect.interval(0.9)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle.confidence_interval(0.9)))


def test_yuens_t_follows_its_formula_where_n_is_no_multiple_of_ten() -> None:
    values = np.sort(np.random.default_rng(4).normal(0, 1, 15))
    winsorised = np.concatenate([[values[1]], values[1:-1], [values[-2]]])
    se = winsorised.std(ddof=1) / ((1 - 2 / 15) * math.sqrt(15))
    effect = trimmed_effect(values.tolist())
    assert effect.estimate == pytest.approx(values[1:-1].mean())
    assert effect.standard_error == pytest.approx(se)
    assert effect.p == pytest.approx(2 * stats.t.sf(abs(values[1:-1].mean()) / se, 12))


@settings(deadline=None)  # the machine is shared
@given(differences)
def test_swapping_arm_and_control_mirrors_the_effect(values: list[float]) -> None:
    forward, backward = trimmed_effect(values), trimmed_effect([-value for value in values])
    assert forward.estimate == pytest.approx(-backward.estimate, abs=1e-12)
    assert forward.standard_error == pytest.approx(backward.standard_error)


@settings(deadline=None)  # the machine is shared
@given(differences, st.floats(-1, 1))
def test_a_constant_factor_shifts_the_effect_and_keeps_its_width(values: list[float], shift: float) -> None:
    before, after = trimmed_effect(values), trimmed_effect([value + shift for value in values])
    assert after.estimate == pytest.approx(before.estimate + shift, abs=1e-9)
    assert after.standard_error == pytest.approx(before.standard_error, abs=1e-9)


@settings(deadline=None)  # the machine is shared
@given(differences, st.randoms(use_true_random=False))
def test_the_order_of_blocks_is_irrelevant(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert trimmed_effect(shuffled).estimate == pytest.approx(trimmed_effect(values).estimate, abs=1e-12)


@settings(deadline=None)  # the machine is shared
@given(differences)
def test_a_higher_level_gives_a_wider_interval(values: list[float]) -> None:
    effect = trimmed_effect(values)
    narrow, wide = effect.interval(0.95), effect.interval(0.99)
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low <= narrow.high < wide.high


def test_identical_values_do_not_give_an_interval_of_width_zero() -> None:
    interval = trimmed_effect([0.0] * 8).interval()
    assert interval is not None
    assert interval.high - interval.low > 0


def test_a_single_block_has_an_estimate_and_no_interval() -> None:
    effect = trimmed_effect([0.1])
    assert (effect.estimate, effect.interval(), effect.p, effect.sd) == (0.1, None, None, None)


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_missing_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        trimmed_effect(values)


def test_the_rank_test_is_exact_and_drops_zeros() -> None:
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0]) == pytest.approx(2 / 2**6)
    assert signed_rank_p([0.0, 0.0]) == 1.0


@settings(deadline=None)  # the machine is shared
@given(st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=24))
def test_the_rank_test_equals_scipys_exact_one(values: list[float]) -> None:
    nonzero = [value for value in values if value != 0]
    expected = stats.wilcoxon(nonzero, method="exact").pvalue if nonzero else 1.0
    assert signed_rank_p(values) == pytest.approx(float(expected), abs=1e-12)


def test_yuen_over_many_rows_is_the_trimmed_effect_of_each() -> None:
    for n in (2, 6, 10, 15, 20):
        values = np.random.default_rng(n).normal(0.01, 0.04, (50, n))
        means, errors, df = yuen(values)
        each = [trimmed_effect(row) for row in values.tolist()]
        assert means.tolist() == pytest.approx([effect.estimate for effect in each])
        assert errors.tolist() == pytest.approx([effect.standard_error for effect in each])
        assert {effect.df for effect in each} == {df}


@pytest.mark.parametrize(("ours", "theirs"), [(6, 6), (10, 20), (7, 3)])
def test_the_difference_of_two_runs_is_scipys_welch_test(ours: int, theirs: int) -> None:
    generator = np.random.default_rng(ours)
    a, b = generator.normal(0.3, 0.02, ours), generator.normal(0.25, 0.06, theirs)
    effect, oracle = welch_effect(a.tolist(), b.tolist()), stats.ttest_ind(a, b, equal_var=False)
    assert effect.p == pytest.approx(float(oracle.pvalue))
    assert effect.df == pytest.approx(float(oracle.df))
    interval = effect.interval(0.982)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(tuple(oracle.confidence_interval(0.982)))


def test_a_single_block_on_a_side_has_no_interval_and_equal_values_have_one() -> None:
    assert welch_effect([0.1], [0.2, 0.3]).interval() is None
    interval = welch_effect([0.1] * 6, [0.1] * 6).interval()
    assert interval is not None
    assert interval.high > 0 > interval.low
    with pytest.raises(ValueError, match="finite"):
        welch_effect([0.1, math.nan], [0.2])


def test_a_stricter_level_needs_more_blocks_and_detects_less() -> None:
    assert smallest_detectable(0.04, 10, 0.018) > smallest_detectable(0.04, 10)
    strict, plain = blocks_needed(0.04, 0.03, 0.018), blocks_needed(0.04, 0.03)
    assert strict is not None
    assert plain is not None
    assert strict > plain


def test_two_runs_need_about_twice_the_blocks_of_one() -> None:
    sd, size = 0.05, math.log1p(0.03)
    apart, together = blocks_needed_apart(math.sqrt(2) * sd, size), blocks_needed(sd, size)
    assert apart is not None
    assert together is not None
    assert 1.8 <= apart / together <= 2.1


def test_adjusted_p_equals_scipy_and_a_hopeless_cell_never_adds_a_rejection() -> None:
    ps = np.random.default_rng(0).beta(0.3, 1, 40).tolist()
    assert adjusted_p(ps) == pytest.approx(stats.false_discovery_control(ps).tolist())
    rejected = sum(p <= 0.05 for p in adjusted_p(ps))
    assert sum(p <= 0.05 for p in adjusted_p([*ps, 1.0])[:-1]) <= rejected
    assert adjusted_p([*ps, 1.0])[-1] == 1.0
    assert adjusted_p([]) == []


# reference/statistics.md 3.3: sd of a block difference in %, blocks for +1 +2 +3 +5 +10 +20 %.
BLOCKS = {
    1: (11, 5, 4, 3, 3, 3),
    2: (34, 11, 6, 4, 3, 3),
    3.5: (100, 27, 14, 7, 4, 3),
    5: (201, 52, 25, 11, 5, 3),
    8: (510, 131, 60, 24, 8, 4),
    12.5: (1241, 315, 143, 54, 16, 6),
    20: (None, 803, 362, 134, 37, 12),
}


@pytest.mark.parametrize("sd_percent", BLOCKS)
def test_blocks_needed_are_those_of_the_protocols_table(sd_percent: float) -> None:
    found = tuple(blocks_needed(sd_percent / 100, math.log1p(d / 100)) for d in (1, 2, 3, 5, 10, 20))
    assert found == BLOCKS[sd_percent]


@pytest.mark.parametrize(("sd_percent", "shown"), [(2, (2.9, 2.0, 1.6, 1.3)), (5, (7.4, 5.1, 4.0, 3.4))])
def test_the_smallest_detectable_effect_is_that_of_the_protocols_table(
    sd_percent: float, shown: tuple[float, ...]
) -> None:
    found = tuple(round(100 * math.expm1(smallest_detectable(sd_percent / 100, n)), 1) for n in (6, 10, 15, 20))
    assert found == shown


def test_fewer_than_two_blocks_can_show_nothing() -> None:
    assert detectable_in_sd(1) == math.inf


def _effects(sds: np.ndarray, n: int, seed: int) -> list[Effect]:
    generator = np.random.default_rng(seed)
    return [trimmed_effect(generator.normal(0, sd, n).tolist()) for sd in sds]


def test_moderation_pulls_variances_together_and_leaves_estimates_alone() -> None:
    effects = _effects(np.full(40, 0.03), 6, 1)
    shrunk = moderated(effects)
    errors = [[e.standard_error or 0 for e in group] for group in (effects, shrunk)]
    assert [e.estimate for e in shrunk] == [e.estimate for e in effects]
    assert np.ptp(errors[1]) < 0.5 * np.ptp(errors[0])
    assert all((s.df or 0) > (e.df or 0) for s, e in zip(shrunk, effects, strict=True))


def test_moderation_recovers_the_prior_that_made_the_variances() -> None:
    generator = np.random.default_rng(7)
    prior_df, prior_variance, df = 8.0, 0.03**2, 9
    true = prior_variance * prior_df / generator.chisquare(prior_df, 4000)
    effects = _effects(np.sqrt(true), df + 1, 8)
    plain = [Effect(e.estimate, (e.standard_error or 0), 7, e.n) for e in effects]
    found = moderated(plain)[0].df
    assert found is not None
    assert found - 7 == pytest.approx(prior_df, rel=0.35)


def test_moderation_refuses_too_few_cells_and_unequal_n() -> None:
    effects = _effects(np.full(MODERATION_CELLS, 0.03), 6, 1)
    with pytest.raises(ValueError, match="share n"):
        moderated(effects[:-1])
    with pytest.raises(ValueError, match="share n"):
        moderated([*effects[:-1], *_effects(np.array([0.03]), 7, 2)])
