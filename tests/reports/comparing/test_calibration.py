"""Seeded simulations: how often a verdict is wrong where the truth is known (reference/statistics.md 3 and 7)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from meshgauge.plan import LOOKS
from reports.comparing.confirmation import FULL_SCREEN_BLOCKS, SHORT_SCREEN_P
from reports.comparing.sequential import LOOK_ALPHA
from reports.comparing.statistics import (
    ALPHA,
    LN_SD_FLOOR,
    Effect,
    adjusted_p,
    blocks_needed,
    moderated,
    signed_rank_p,
    trimmed_effect,
    welch_effect,
    yuen,
)
from reports.comparing.verdict import judge, margin_on_scale, selected_interval
from reports.readings.metrics import METRIC_OF

Values = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Values]

SD = 0.035  # of one block difference: p50 on a shared machine (3.3)
MARGIN = math.log1p(0.03)


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Values:
    return generator.normal(0, 1, shape)


def heavy_tailed(generator: np.random.Generator, shape: tuple[int, ...]) -> Values:
    return generator.standard_t(3, shape)


def _blocks(noise: Noise, experiments: int, n: int, *, mean: float = 0.0, sd: float = SD, seed: int = 0) -> Values:
    """Return block differences of many experiments, shape (experiments, n)."""
    return mean + sd * noise(np.random.default_rng([seed, n]), (experiments, n))


def _effects(values: Values) -> tuple[Values, Values, int]:
    """Return Yuen's estimates and errors of every row, and df: the production formula over all rows at once."""
    means, errors, df = yuen(values)
    return means, np.maximum(errors, LN_SD_FLOOR / math.sqrt(values.shape[-1])), df


def _p(values: Values) -> Values:
    means, errors, df = _effects(values)
    p: Values = 2 * special.stdtr(df, -np.abs(means) / errors)
    return p


def _half(df: float, level: float) -> float:
    return float(special.stdtrit(df, 0.5 + level / 2))


def _words(values: Values, margin: float, alpha: float = ALPHA) -> npt.NDArray[np.str_]:
    """Return the verdict on every row by itself, as ``judge`` gives it."""
    means, errors, df = _effects(values)
    narrow = _half(df, 1 - 2 * alpha) * errors
    inside = (means - narrow >= -margin) & (means + narrow <= margin)
    differs = (_p(values) <= alpha) & ~inside
    return np.where(inside, "equivalent", np.where(differs, np.where(means > 0, "slower", "faster"), "inconclusive"))


def test_the_simulations_judge_as_the_code_does() -> None:
    values = np.concatenate([_blocks(normal, 150, n, mean=0.02, seed=1)[:, :6] for n in (6, 7)])
    for alpha in (ALPHA, LOOK_ALPHA):
        words = [
            judge(e, METRIC_OF["p50"], MARGIN, e.p or 1.0, signed_rank_p(row), degraded=False, alpha=alpha).word
            for row in values.tolist()
            for e in [trimmed_effect(row)]
        ]
        assert words == _words(values, MARGIN, alpha).tolist()
    assert _p(values).tolist() == pytest.approx([trimmed_effect(row).p for row in values.tolist()])


@pytest.mark.parametrize("noise", [normal, heavy_tailed])
@pytest.mark.parametrize("n", [6, 10, 20])
def test_no_difference_is_called_one_about_one_time_in_twenty(noise: Noise, n: int) -> None:
    assert 0.03 <= np.mean(_p(_blocks(noise, 20_000, n)) <= ALPHA) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("noise", [normal, heavy_tailed])
@pytest.mark.parametrize("n", [6, 7, 8, 9, 10, 12, 15, 19, 20, 30])
def test_no_difference_is_called_one_about_one_time_in_twenty_in_the_long_form(noise: Noise, n: int) -> None:
    assert 0.032 <= np.mean(_p(_blocks(noise, 400_000, n)) <= ALPHA) <= 0.057  # 3.2: .032 to .056


@pytest.mark.parametrize(("sd", "difference"), [(0.05, 0.03), (0.08, 0.05), (0.035, 0.02), (0.125, 0.10)])
def test_planned_blocks_have_the_power_they_were_planned_for(sd: float, difference: float) -> None:
    truth = math.log1p(difference)
    n = blocks_needed(sd, truth)
    assert n is not None
    assert 0.76 <= np.mean(_p(_blocks(normal, 20_000, n, mean=truth, sd=sd)) <= ALPHA) <= 0.84


@pytest.mark.parametrize("noise", [normal, heavy_tailed])
@pytest.mark.parametrize("n", [6, 10, 20])
@pytest.mark.parametrize("level", [0.9, 0.95, 1 - LOOK_ALPHA])
def test_the_interval_contains_the_truth_as_often_as_it_says(noise: Noise, n: int, level: float) -> None:
    truth = math.log1p(0.05)
    means, errors, df = _effects(_blocks(noise, 20_000, n, mean=truth))
    outside = float(np.mean(np.abs(means - truth) > _half(df, level) * errors))
    assert 0.6 * (1 - level) <= outside <= 1.25 * (1 - level)


@pytest.mark.parametrize("n", [6, 10, 20])
@pytest.mark.parametrize("sd", [0.005, 0.015, 0.03])
def test_a_difference_as_large_as_the_margin_is_seldom_called_equivalent(n: int, sd: float) -> None:
    values = _blocks(normal, 20_000, n, mean=margin_on_scale(METRIC_OF["p50"], 0.03), sd=sd)
    assert np.mean(_words(values, MARGIN) == "equivalent") <= 0.06


@pytest.mark.parametrize(
    ("sd", "truth", "shares"),
    [
        (0.03, 0.0, {"slower": 0.017, "equivalent": 0.78, "inconclusive": 0.19, "faster": 0.017}),
        (0.03, 0.03, {"slower": 0.78, "equivalent": 0.05, "inconclusive": 0.17, "faster": 0.0}),
        (0.03, 0.05, {"slower": 0.996, "equivalent": 0.0, "inconclusive": 0.004, "faster": 0.0}),
        (0.06, 0.0, {"slower": 0.023, "equivalent": 0.06, "inconclusive": 0.89, "faster": 0.025}),
        (0.06, 0.05, {"slower": 0.63, "equivalent": 0.003, "inconclusive": 0.37, "faster": 0.0}),
        (0.015, 0.01, {"slower": 0.015, "equivalent": 0.98, "inconclusive": 0.001, "faster": 0.0}),
    ],
)
def test_ten_blocks_give_the_shares_of_words_of_the_protocols_table(
    sd: float, truth: float, shares: dict[str, float]
) -> None:
    """The table (3.7) is of the paired t; Yuen gives up to five points of power in normal noise for heavy tails."""
    words = _words(_blocks(normal, 20_000, 10, mean=math.log1p(truth), sd=sd), MARGIN)
    for word, share in shares.items():
        assert np.mean(words == word) == pytest.approx(share, abs=0.055), word


def _moderated_false_positives(noise: Noise, families: int) -> float:
    generator = np.random.default_rng(11)
    hits = 0
    for _ in range(families):
        sds = 0.03 * np.exp(generator.normal(0, 0.4, 30))
        means, errors, df = _effects(sds[:, None] * noise(generator, (30, 6)))
        effects = [Effect(float(m), float(e), df, 6) for m, e in zip(means, errors, strict=True)]
        hits += sum((effect.p or 1) <= ALPHA for effect in moderated(effects))
    return hits / (30 * families)


def test_sharing_variances_keeps_the_rate_of_false_differences() -> None:
    assert 0.035 <= _moderated_false_positives(normal, 300) <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "low", "high"), [(normal, 0.040, 0.060), (heavy_tailed, 0.028, 0.050)])
def test_sharing_variances_keeps_the_rate_of_false_differences_in_the_long_form(
    noise: Noise, low: float, high: float
) -> None:
    assert low <= _moderated_false_positives(noise, 4000) <= high


def _stopped_at(values: Values, alpha: float, looks: tuple[int, ...]) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Return the blocks each experiment stopped at, and whether with a difference."""
    stopped = np.full(len(values), looks[-1])
    found = np.zeros(len(values), dtype=bool)
    for look in looks:
        hit = ~found & (_p(values[:, :look]) < alpha)
        stopped[hit], found = look, found | hit
    return stopped.astype(float), found


def _sequential_false_positives(noise: Noise, experiments: int) -> float:
    return float(np.mean(_stopped_at(_blocks(noise, experiments, 20, sd=0.04), LOOK_ALPHA, LOOKS)[1]))


@pytest.mark.parametrize("noise", [normal, heavy_tailed])
def test_declared_looks_find_a_difference_where_there_is_none_one_time_in_twenty(noise: Noise) -> None:
    assert 0.035 <= _sequential_false_positives(noise, 20_000) <= 0.06


@pytest.mark.slow
def test_declared_looks_find_a_difference_where_there_is_none_one_time_in_twenty_in_the_long_form() -> None:
    assert 0.050 <= _sequential_false_positives(normal, 400_000) <= 0.058  # the paired t of 3.5: .052 here


def test_looking_whenever_one_likes_would_not_keep_its_word() -> None:
    """The simulation sees what the rule prevents: without it, the declared looks would be worth no more."""
    values = _blocks(normal, 5_000, 20, sd=0.04)
    assert np.mean(_stopped_at(values, ALPHA, tuple(range(5, 21)))[1]) > 0.16
    assert np.mean(_stopped_at(values, ALPHA, LOOKS)[1]) > 0.11


@pytest.mark.parametrize(("truth", "power", "blocks"), [(0.02, 0.45, None), (0.05, 0.997, 9.4)])
def test_declared_looks_have_the_power_of_the_protocols_table(truth: float, power: float, blocks: float | None) -> None:
    values = _blocks(normal, 20_000, 20, mean=math.log1p(truth), sd=0.04)
    stopped, found = _stopped_at(values, LOOK_ALPHA, LOOKS)
    assert np.mean(found) == pytest.approx(power, abs=0.04)
    assert blocks is None or np.mean(stopped) == pytest.approx(blocks, abs=0.5)


@pytest.mark.parametrize("truth", [0.0, 0.02, 0.05])
def test_after_stopping_the_wide_interval_still_contains_the_truth(truth: float) -> None:
    values = _blocks(normal, 20_000, 20, mean=math.log1p(truth), sd=0.04)
    stopped, _ = _stopped_at(values, LOOK_ALPHA, LOOKS)
    missed = dict.fromkeys((0.95, 1 - LOOK_ALPHA), 0)
    for look in LOOKS:
        means, errors, df = _effects(values[stopped == look][:, :look])
        for level in missed:
            missed[level] += int(np.sum(np.abs(means - math.log1p(truth)) > _half(df, level) * errors))
    assert missed[1 - LOOK_ALPHA] / len(values) <= 0.06
    assert missed[0.95] > missed[1 - LOOK_ALPHA]


def test_at_a_look_the_margin_is_seldom_called_equivalent_either() -> None:
    """Whoever stops at the first look that says equivalent is wrong at the margin no more often than without looks."""
    values = _blocks(normal, 20_000, 20, mean=MARGIN, sd=0.015)
    ever = np.zeros(len(values), dtype=bool)
    for look in LOOKS:
        ever |= _words(values[:, :look], MARGIN, LOOK_ALPHA) == "equivalent"
    assert np.mean(ever) <= 0.06


@pytest.mark.parametrize(("ours", "theirs", "ratio"), [(6, 6, 1.0), (10, 10, 1.0), (6, 20, 1.0), (8, 10, 3.0)])
def test_between_two_runs_no_difference_is_called_one_about_one_time_in_twenty(
    ours: int, theirs: int, ratio: float
) -> None:
    one, other = (_blocks(normal, 4_000, n, sd=sd, seed=s) for n, sd, s in ((ours, SD, 1), (theirs, SD * ratio, 2)))
    effects = [welch_effect(a, b) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert 0.035 <= np.mean([(effect.p or 1) <= ALPHA for effect in effects]) <= 0.065


def test_between_two_runs_the_interval_is_about_a_third_wider_than_in_common_blocks() -> None:
    one, other = (_blocks(normal, 2_000, 10, seed=s) for s in (1, 2))
    apart = [welch_effect(a, b).interval() for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    common = [trimmed_effect(row).interval() for row in one.tolist()]
    widths = [np.mean([i.high - i.low for i in found if i is not None]) for found in (apart, common)]
    assert 1.2 <= widths[0] / widths[1] <= 1.45


# The world of 3.6: reports of 120 cells, 24 groups of 5 that share noise; in 20 % of the groups all are +5 %.
CELLS, GROUPS = 120, 24
TRUE_SIZE = math.log1p(0.05)


def _report(generator: np.random.Generator, sds: Values, truth: Values, n: int) -> Values:
    """Return the block differences of one report, shape (CELLS, n), correlated .6 within a group."""
    shared = np.repeat(generator.normal(0, 1, (GROUPS, n)), CELLS // GROUPS, axis=0)
    noise = math.sqrt(0.6) * shared + math.sqrt(0.4) * generator.normal(0, 1, (CELLS, n))
    return truth[:, None] + sds[:, None] * noise


class Rule:
    """What a rule for many cells found over all reports."""

    def __init__(self) -> None:
        self.false = self.true = self.real = self.picked = 0
        self.false_shares: list[float] = []

    def add(self, found: npt.NDArray[np.bool_], truth: Values) -> None:
        real = truth != 0
        self.false += int(np.sum(found & ~real))
        self.true += int(np.sum(found & real))
        self.real += int(real.sum())
        self.picked += int(found.sum())
        self.false_shares.append(float(np.sum(found & ~real)) / max(1, int(found.sum())))

    @property
    def power(self) -> float:
        return self.true / self.real

    @property
    def false_discovery_rate(self) -> float:
        return float(np.mean(self.false_shares))


def _many_cells(reports: int, screen_blocks: int, screen_p: float) -> tuple[Rule, Rule, dict[str, list[float]]]:
    """Return what Benjamini-Hochberg alone finds, what screening and confirming finds, and sizes of what was found."""
    generator = np.random.default_rng(17)
    alone, confirmed = Rule(), Rule()
    sizes: dict[str, list[float]] = {"screen": [], "fresh": [], "plain": [], "wide": [], "blocks": []}
    for _ in range(reports):
        truth = np.repeat(np.where(generator.random(GROUPS) < 0.2, TRUE_SIZE, 0.0), CELLS // GROUPS)
        sds = 0.04 * np.exp(generator.normal(0, 0.35, CELLS))
        screen = _report(generator, sds, truth, screen_blocks)
        fresh = _report(generator, sds, truth, 10)
        means, errors, df = _effects(screen)
        found = np.array(adjusted_p(_p(screen).tolist())) <= ALPHA
        alone.add(found, truth)
        for at in np.flatnonzero(found):
            effect = Effect(float(means[at]), float(errors[at]), df, screen_blocks)
            wide, plain = selected_interval(effect, int(found.sum()), CELLS), effect.interval()
            assert wide is not None
            assert plain is not None
            sizes["wide"].append(float(wide.low <= truth[at] <= wide.high))
            sizes["plain"].append(float(plain.low <= truth[at] <= plain.high))
        survivors = np.flatnonzero(_p(screen) < screen_p)
        fresh_means = _effects(fresh[survivors])[0]
        agree = (np.array(adjusted_p(_p(fresh[survivors]).tolist())) <= ALPHA) & (fresh_means * means[survivors] > 0)
        again = np.zeros(CELLS, dtype=bool)
        again[survivors[agree]] = True
        confirmed.add(again, truth)
        real = truth[survivors] != 0
        sizes["screen"] += (means[survivors][real] / TRUE_SIZE).tolist()
        sizes["fresh"] += (fresh_means[real] / TRUE_SIZE).tolist()
        sizes["blocks"].append(screen_blocks + 10 * len(survivors) / CELLS)
    return alone, confirmed, sizes


def _assert_screening_pays(reports: int) -> None:
    alone, confirmed, sizes = _many_cells(reports, FULL_SCREEN_BLOCKS, ALPHA)
    assert alone.false_discovery_rate <= 0.06
    assert confirmed.false_discovery_rate <= 0.012
    assert confirmed.false < 0.4 * alone.false
    assert confirmed.power > alone.power
    assert 11.0 <= np.mean(sizes["blocks"]) <= 13.0
    assert np.mean(sizes["plain"]) < np.mean(sizes["wide"])
    assert 0.93 <= np.mean(sizes["wide"]) <= 0.97
    assert np.mean(sizes["screen"]) > 1.05, "what was picked is inflated"
    assert np.mean(sizes["fresh"]) == pytest.approx(1.0, abs=0.03)


def test_screening_and_confirming_finds_more_and_errs_less_than_one_adjusted_run() -> None:
    _assert_screening_pays(150)


def test_a_short_screen_keeps_its_false_discoveries_rare_too() -> None:
    _, confirmed, sizes = _many_cells(150, 6, SHORT_SCREEN_P)
    assert confirmed.false_discovery_rate <= 0.015
    assert 7.0 <= np.mean(sizes["blocks"]) <= 9.5


@pytest.mark.slow
def test_screening_and_confirming_in_the_long_form() -> None:
    _assert_screening_pays(2000)
