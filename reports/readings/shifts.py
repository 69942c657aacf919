"""How a difference in latency changes over the percentiles, with a band that holds for all of them at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.comparing.comparison import Comparison
from reports.comparing.statistics import LN_SD_FLOOR
from reports.readings.metrics import VERDICT_CLOCK, VERDICT_OUTCOME
from reports.readings.quantiles import quantiles_ms, reportable
from reports.readings.trials import MeasuredTrial, Readings

Values = npt.NDArray[np.float64]

PERCENTILES = (0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
FEWEST_BLOCKS = 6  # fewer have too few sign patterns for a band at 5 %
MOST_BLOCKS_ENUMERATED = 12
DRAWN_PATTERNS = 4096


@dataclass(frozen=True, slots=True)
class Shift:
    """Differences of one pair by percentile, on the ln scale, arm - control, mean over blocks.

    Attributes:
        p: shape (percentiles,).
        middle: shape (percentiles,).
        pointwise: half width of each percentile's own t interval; None with one block.
        band: half width of the band that holds for all percentiles at once; None with too few blocks.
        arm_ms, control_ms: geometric means of the quantiles over blocks.
    """

    comparison: Comparison
    p: Values
    middle: Values
    pointwise: Values | None
    band: Values | None
    arm_ms: Values
    control_ms: Values

    @property
    def blocks(self) -> int:
        """Blocks the differences are made of."""
        return self.comparison.n


def shift_of(median: Comparison, readings: Readings) -> Shift | None:
    """Return the shift of a pair over the blocks of its comparison of p50; None without a block or a percentile."""
    arms, controls = readings.blocks_of(median.pair.cell), readings.blocks_of(median.pair.control)
    sides = [(_turns(arms[block]), _turns(controls[block])) for block in median.blocks]
    fewest = min((_total(turn) for arm, control in sides for turn in (*arm, *control)), default=0)
    ps = tuple(p for p in PERCENTILES if reportable(fewest, p))
    if not sides or not ps:
        return None
    arm = np.array([_ln_quantiles(turns, ps) for turns, _ in sides])
    control = np.array([_ln_quantiles(turns, ps) for _, turns in sides])
    known = np.isfinite(arm).all(axis=0) & np.isfinite(control).all(axis=0)
    if not known.any():
        return None
    arm, control, kept = arm[:, known], control[:, known], np.array(ps)[known]
    differences = arm - control
    pointwise, band = half_widths(differences, 1 - median.alpha)
    middle = differences.mean(axis=0)
    return Shift(median, kept, middle, pointwise, band, np.exp(arm.mean(axis=0)), np.exp(control.mean(axis=0)))


def half_widths(differences: Values, level: float) -> tuple[Values | None, Values | None]:
    """Return half widths of pointwise t intervals and of the simultaneous band, both of ``level``.

    The band is c times the standard errors, c being the quantile of max |t| over all percentiles when the signs of
    whole blocks are flipped. Residuals are flipped, not differences: those of a large true effect would make the
    spread of the flipped means, and with it the band, a matter of the effect. Simulated error of the band (any
    percentile outside, 17 correlated ones, n = 6, 8, 10, 16, normal and t3): .03 to .05; pointwise .30 to .38.

    Args:
        differences: shape (blocks, percentiles).

    Returns:
        Each of shape (percentiles,); None for the pointwise one with one block, for the band with fewer than six.

    Source: reference/statistics.md 6.3 (sign-flip max-t).
    """
    n = differences.shape[0]
    if n < 2:
        return None, None
    errors = np.maximum(differences.std(axis=0, ddof=1), LN_SD_FLOOR) / math.sqrt(n)
    single = float(stats.t.ppf(0.5 + level / 2, n - 1))
    pointwise = single * errors
    if n < FEWEST_BLOCKS:
        return pointwise, None
    residuals = differences - differences.mean(axis=0)
    means = _sign_patterns(n) @ residuals / n
    squares = (residuals**2).sum(axis=0)
    spread = np.sqrt(np.maximum((squares - n * means**2) / (n - 1), (LN_SD_FLOOR / 10) ** 2) / n)
    highest = np.abs(means / spread).max(axis=1)
    # Where all percentiles move as one, the two agree but for the coarseness of few patterns: never be narrower.
    return pointwise, max(single, float(np.quantile(highest, level, method="higher"))) * errors


@lru_cache(maxsize=8)
def _sign_patterns(n: int) -> Values:
    """Return sign patterns of blocks, shape (patterns, n): all up to reflection for few blocks, else seeded ones."""
    if n <= MOST_BLOCKS_ENUMERATED:
        return np.array([(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=n - 1)])
    return np.random.default_rng(n).choice([-1.0, 1.0], (DRAWN_PATTERNS, n))


def _turns(turns: Sequence[MeasuredTrial]) -> list[MeasuredTrial]:
    return [turn for turn in turns if turn.trial.load is not None and "latency" not in turn.spoiled]


def _total(turn: MeasuredTrial) -> int:
    return 0 if turn.trial.load is None else turn.trial.load.clock(VERDICT_CLOCK, VERDICT_OUTCOME).total


def _ln_quantiles(turns: Sequence[MeasuredTrial], ps: tuple[float, ...]) -> Values:
    """Return ln quantiles of a block's turns, averaged as the control's two turns are everywhere."""
    found = [
        np.log(quantiles_ms(turn.trial.load.clock(VERDICT_CLOCK, VERDICT_OUTCOME), ps))
        for turn in turns
        if turn.trial.load is not None
    ]
    mean: Values = np.mean(found, axis=0) if found else np.full(len(ps), np.nan)
    return mean
