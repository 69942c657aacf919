"""The statistics of paired block differences: effect, interval, significance, and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Values = npt.NDArray[np.float64]

TRIM_RATIO = 0.10
LN_SD_FLOOR = 0.0005  # half a histogram bucket: identical quantised values must not give an interval of width 0
ALPHA = 0.05
POWER = 0.80
MODERATION_CELLS = 20  # statistics.md 3.6: fewer cells do not tell enough about the spread of variances
FEWEST_BLOCKS = 3
MOST_BLOCKS = 2000


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
        return float(2 * stats.t.sf(abs(self.estimate) / self.standard_error, self.df))

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


@lru_cache(maxsize=4096)
def _t_quantile(level: float, df: float) -> float:
    """Return how many standard errors reach from the middle to the end of a two-sided interval."""
    return float(stats.t.ppf(0.5 + level / 2, df))


def trimmed_effect(differences: Sequence[float], sd_floor: float = LN_SD_FLOOR) -> Effect:
    """Return the 10 % trimmed mean of block differences with Yuen's standard error.

    k = floor(n / 10) values are cut at each end. ``se = winsorised sd / ((1 - 2k/n) sqrt n)``, df = n - 2k - 1.
    Below 10 blocks nothing is cut and this is the paired t test. scipy's ``trimmed_mean_ci`` gives the same
    numbers where n is a multiple of 10; elsewhere it divides by 0.8 instead of 1 - 2k/n and is too wide.

    Args:
        differences: shape (blocks,), arm minus control, in blocks where both are valid.
        sd_floor: the resolution of the instrument, on the scale of ``differences``.

    Raises:
        ValueError: no differences, or one that is not finite.

    Source: Yuen 1974, Biometrika 61, 165; constants simulated in reference/statistics.md 3.2 and 4.6.
    """
    values = np.sort(np.asarray(differences, dtype=np.float64))
    n = values.size
    if n == 0 or not np.isfinite(values).all():
        raise ValueError("an effect needs at least one difference, all of them finite")
    cut = n // 10
    estimate = float(values[cut : n - cut].mean())
    if n == 1:
        return Effect(estimate, None, None, n)
    winsorised = np.clip(values, values[cut], values[n - cut - 1])
    sd = max(float(winsorised.std(ddof=1)), sd_floor)
    return Effect(estimate, sd / ((1 - 2 * cut / n) * math.sqrt(n)), n - 2 * cut - 1, n)


def signed_rank_p(differences: Sequence[float]) -> float:
    """Return the exact two-sided p of Wilcoxon's signed-rank test, zeros dropped; 1 when nothing is left.

    Source: reference/statistics.md 4.6; its smallest p with 10 blocks is 0.002.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    return float(stats.wilcoxon(values, method="exact").pvalue) if values.size else 1.0


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
def detectable_in_sd(n: int) -> float:
    """Return the smallest mean difference, in sd of a block difference, seen with power 0.8 at p < 0.05.

    Only the upper tail of the noncentral t is used: its cdf returns NaN in the far lower tail.

    Source: power of the one-sample t test; reference/statistics.md 3.3 and 5.
    """
    if n < 2:
        return math.inf
    df = n - 1
    critical = float(stats.t.ppf(1 - ALPHA / 2, df))

    def shortfall(d: float) -> float:
        return float(stats.nct.sf(critical, df, d * math.sqrt(n))) - POWER

    return float(optimize.brentq(shortfall, 1e-6, 2 * (critical + 2) / math.sqrt(n), xtol=1e-6))


def smallest_detectable(sd: float, n: int) -> float:
    """Return the smallest difference that ``n`` blocks show with power 0.8, on the scale of ``sd``."""
    return sd * detectable_in_sd(n)


def blocks_needed(sd: float, difference: float) -> int | None:
    """Return the fewest blocks that show ``difference`` with power 0.8; None when even MOST_BLOCKS do not.

    Args:
        sd, difference: on one scale; ``difference`` > 0, such as ln(1 + margin).
    """
    if smallest_detectable(sd, MOST_BLOCKS) > difference:
        return None
    low, high = FEWEST_BLOCKS, MOST_BLOCKS
    while low < high:
        middle = (low + high) // 2
        if smallest_detectable(sd, middle) <= difference:
            high = middle
        else:
            low = middle + 1
    return low
