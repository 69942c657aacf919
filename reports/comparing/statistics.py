"""The statistics of paired block differences: effect, interval, significance, and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Values = npt.NDArray[np.float64]

LN_SD_FLOOR = 0.0005  # half a histogram bucket: identical quantised values must not give an interval of width 0
ALPHA = 0.05
POWER = 0.80
MODERATION_CELLS = 20  # statistics.md 3.6: fewer cells do not tell enough about the spread of variances
FEWEST_BLOCKS = 3
MOST_BLOCKS = 2000
MOST_TABLED_BLOCKS = 100  # beyond, scipy counts anew each time


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval on the scale of its effect (ln ratio, or the metric's unit)."""

    low: float
    high: float

    def inside(self, margin: float) -> bool:
        """Return whether the whole interval lies within +-``margin``."""
        return -margin <= self.low and self.high <= margin

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Effect:
    """A trimmed mean of block differences with its standard error.

    Attributes:
        standard_error, df: of Yuen's t; None with a single block, which has no spread to judge by.
        n: blocks.
    """

    estimate: float
    standard_error: float | None
    df: float | None
    n: int

    @property
    def p(self) -> float | None:
        """Two-sided p of Yuen's t against zero."""
        if self.standard_error is None or self.df is None:
            return None
        return _two_sided_p(self.estimate / self.standard_error, self.df)

    @property
    def sd(self) -> float | None:
        """Standard deviation of one block difference that this standard error amounts to."""
        return None if self.standard_error is None else self.standard_error * math.sqrt(self.n)

    def interval(self, level: float = 1 - ALPHA) -> Interval | None:
        """Return the two-sided interval at ``level``; None with a single block."""
        if self.standard_error is None or self.df is None:
            return None
        half = _t_quantile(level, self.df) * self.standard_error
        return Interval(self.estimate - half, self.estimate + half)


def _two_sided_p(t: float, df: float) -> float:
    return float(2 * special.stdtr(df, -abs(t)))  # the same as stats.t.sf, sixty times as fast


@lru_cache(maxsize=4096)
def _t_quantile(level: float, df: float) -> float:
    """Return how many standard errors reach from the middle to the end of a two-sided interval."""
    return float(special.stdtrit(df, 0.5 + level / 2))


def yuen(values: Values) -> tuple[Values, Values, int]:
    """Return 10 % trimmed means, their standard errors and the degrees of freedom they share.

    k = floor(n / 10) values are cut at each end. ``se = winsorised sd / ((1 - 2k/n) sqrt n)``, df = n - 2k - 1.
    Below 10 blocks nothing is cut and this is the paired t test. scipy's ``trimmed_mean_ci`` gives the same
    numbers where n is a multiple of 10; elsewhere it divides by 0.8 instead of 1 - 2k/n and is too wide.

    Args:
        values: shape (..., n), n > 1, block differences of any number of comparisons.

    Returns:
        Two arrays of shape (...), on the scale of ``values``, and df.

    Source: Yuen 1974, Biometrika 61, 165; constants simulated in reference/statistics.md 3.2 and 4.6.
    """
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    cut = n // 10
    means = ordered[..., cut : n - cut].mean(axis=-1)
    winsorised = np.clip(ordered, ordered[..., cut, None], ordered[..., n - cut - 1, None])
    errors = winsorised.std(axis=-1, ddof=1) / ((1 - 2 * cut / n) * math.sqrt(n))
    return means, errors, n - 2 * cut - 1


def trimmed_effect(differences: Sequence[float], sd_floor: float = LN_SD_FLOOR) -> Effect:
    """Return the 10 % trimmed mean of block differences with Yuen's standard error (see ``yuen``).

    Args:
        differences: shape (blocks,), arm minus control, in blocks where both are valid.
        sd_floor: the resolution of the instrument, on the scale of ``differences``.

    Raises:
        ValueError: no differences, or one that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = values.size
    if n == 0 or not np.isfinite(values).all():
        raise ValueError("an effect needs at least one difference, all of them finite")
    if n == 1:
        return Effect(float(values[0]), None, None, n)
    mean, error, df = yuen(values)
    least = sd_floor / ((1 - 2 * (n // 10) / n) * math.sqrt(n))
    return Effect(float(mean), max(float(error), least), df, n)


def welch_effect(ours: Sequence[float], theirs: Sequence[float], sd_floor: float = LN_SD_FLOOR) -> Effect:
    """Return the difference of two independent means, ``ours`` - ``theirs``, with Welch's standard error.

    For blocks that were not measured together: each value is already divided by the control of its own block.

    Args:
        ours, theirs: shape (blocks,) each, block differences to the control of the same run.
        sd_floor: the resolution of the instrument, on the same scale.

    Raises:
        ValueError: no differences on a side, or one that is not finite.

    Source: Welch 1947, Biometrika 34, 28; reference/statistics.md 3.4 (false differences 5 %, 1.35 x wider than
    blocks in common).
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (ours, theirs)]
    if any(side.size == 0 or not np.isfinite(side).all() for side in sides):
        raise ValueError("an effect needs at least one difference a side, all of them finite")
    estimate, n = float(sides[0].mean() - sides[1].mean()), sum(side.size for side in sides)
    if min(side.size for side in sides) == 1:
        return Effect(estimate, None, None, n)
    squares = [max(float(side.std(ddof=1)), sd_floor) ** 2 / side.size for side in sides]
    df = sum(squares) ** 2 / sum(square**2 / (side.size - 1) for square, side in zip(squares, sides, strict=True))
    return Effect(estimate, math.sqrt(sum(squares)), df, n)


def signed_rank_p(differences: Sequence[float]) -> float:
    """Return the exact two-sided p of Wilcoxon's signed-rank test, zeros dropped; 1 when nothing is left.

    Source: reference/statistics.md 4.6; its smallest p with 10 blocks is 0.002.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    n = values.size
    if n == 0:
        return 1.0
    sizes = np.abs(values)
    order = np.argsort(sizes)
    if n > MOST_TABLED_BLOCKS or (np.diff(sizes[order]) == 0).any():
        return float(stats.wilcoxon(values, method="exact").pvalue)
    positive = int((np.flatnonzero(values[order] > 0) + 1).sum())
    smaller = min(positive, n * (n + 1) // 2 - positive)
    return min(1.0, 2 * float(_signed_rank_cdf(n)[smaller]))


@lru_cache(maxsize=MOST_TABLED_BLOCKS)
def _signed_rank_cdf(n: int) -> Values:
    """Return the distribution function of the sum of positive ranks when each sign is a toss, no two sizes alike."""
    mass = np.ones(1)
    for rank in range(1, n + 1):
        mass = (np.pad(mass, (0, rank)) + np.pad(mass, (rank, 0))) / 2
    return np.cumsum(mass)


def rank_sum_p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the two-sided p of the Mann-Whitney test of two independent groups; the cross-check of Welch's t.

    Source: scipy.stats.mannwhitneyu, exact where no two values are alike.
    """
    return float(stats.mannwhitneyu(ours, theirs, method="auto").pvalue)


def adjusted_p(ps: Sequence[float]) -> list[float]:
    """Return Benjamini-Hochberg adjusted p values of one family, in the order given.

    Source: Benjamini and Hochberg 1995; measurement.md 4.
    """
    return [float(p) for p in stats.false_discovery_control(ps, method="bh")] if ps else []


def moderated(effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects with variances shrunk towards their common level, which also adds degrees of freedom.

    The prior is fitted to the log variances (moments of a scaled F). Interval and p then come from one t,
    so that a significant effect never has an interval that contains zero.

    Args:
        effects: of one metric, all with the same n > 1; at least MODERATION_CELLS of them.

    Raises:
        ValueError: too few effects, or different n.

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3(1) (limma); reference/statistics.md 3.6.
    """
    if len(effects) < MODERATION_CELLS or len({effect.n for effect in effects}) > 1:
        raise ValueError(f"moderation needs at least {MODERATION_CELLS} effects that share n")
    df = effects[0].df
    if df is None:
        raise ValueError("a single block has no variance to moderate")
    variances = np.array([effect.standard_error or math.nan for effect in effects]) ** 2
    prior_df, prior_variance = _variance_prior(variances, df)
    weight = 1.0 if math.isinf(prior_df) else prior_df / (prior_df + df)
    shrunk = np.sqrt(weight * prior_variance + (1 - weight) * variances)
    total_df = min(prior_df + df, df * len(effects))  # never more than pooling all cells would give
    return [
        Effect(effect.estimate, float(error), total_df, effect.n) for effect, error in zip(effects, shrunk, strict=True)
    ]


def _variance_prior(variances: Values, df: float) -> tuple[float, float]:
    """Return degrees of freedom (perhaps infinite) and variance of the scaled-F prior."""
    logs = np.log(variances) - special.digamma(df / 2) + math.log(df / 2)
    excess = float(logs.var(ddof=1)) - float(special.polygamma(1, df / 2))
    if excess <= 0:
        return math.inf, math.exp(float(logs.mean()))
    half = _inverse_trigamma(excess)
    return 2 * half, math.exp(float(logs.mean()) + float(special.digamma(half)) - math.log(half))


def _inverse_trigamma(value: float) -> float:
    # trigamma falls from infinity to 0, and lies between 1/x and 1/x + 1/x**2.
    low, high = 0.5 / max(value, 1.0), 2 / value + 2
    return float(optimize.brentq(lambda x: float(special.polygamma(1, x)) - value, low, high))


@lru_cache(maxsize=4096)
def detectable_in_errors(df: float, alpha: float = ALPHA) -> float:
    """Return the smallest true difference, in standard errors, that a t test sees with power 0.8 at p < ``alpha``.

    Only the upper tail of the noncentral t is used: its cdf returns NaN in the far lower tail.

    Source: power of the t test; reference/statistics.md 3.3 and 5.
    """
    critical = _t_quantile(1 - alpha, df)

    def shortfall(distance: float) -> float:
        return float(stats.nct.sf(critical, df, distance)) - POWER

    return float(optimize.brentq(shortfall, 1e-6, 2 * (critical + 2), xtol=1e-6))


def detectable_in_sd(n: int, alpha: float = ALPHA) -> float:
    """Return the smallest mean difference, in sd of a block difference, that ``n`` blocks show with power 0.8."""
    return math.inf if n < 2 else detectable_in_errors(n - 1, alpha) / math.sqrt(n)


def smallest_detectable(sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the smallest difference that ``n`` blocks show with power 0.8, on the scale of ``sd``."""
    return sd * detectable_in_sd(n, alpha)


def blocks_needed(sd: float, difference: float, alpha: float = ALPHA) -> int | None:
    """Return the fewest blocks that show ``difference`` with power 0.8; None when even MOST_BLOCKS do not.

    Args:
        sd, difference: on one scale; ``difference`` > 0, such as ln(1 + margin).
    """
    return _fewest(lambda n: smallest_detectable(sd, n, alpha) <= difference)


def blocks_needed_apart(sd: float, difference: float, alpha: float = ALPHA) -> int | None:
    """Return the fewest blocks of either run that show ``difference`` between two runs, with power 0.8; or None.

    Args:
        sd: root of the sum of both runs' variances of a block difference.
        difference: > 0, on the same scale.
    """
    return _fewest(lambda n: sd * detectable_in_errors(2 * n - 2, alpha) / math.sqrt(n) <= difference)


def _fewest(suffice: Callable[[int], bool]) -> int | None:
    if not suffice(MOST_BLOCKS):
        return None
    low, high = FEWEST_BLOCKS, MOST_BLOCKS
    while low < high:
        middle = (low + high) // 2
        if suffice(middle):
            high = middle
        else:
            low = middle + 1
    return low
