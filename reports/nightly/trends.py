"""Steps in nightly series: the detector, what changed around an onset, the smallest step that would show.

Everything here looks at one night after the other and never back: what was said of a night stands, whatever comes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from meshgauge.trend import Cause, CauseKind, Point
from reports.comparing.statistics import LN_SD_FLOOR, Interval

Values = npt.NDArray[np.float64]

_MAD_TO_SD = 1.4826  # of a normal distribution
VISIBLE_IN_SD = 2.5  # statistics.md 4.12: what the detector finds within 14 nights, in sd of a night
FEWEST_NIGHTS_FOR_SD = 8
CONFIRM_P = 0.01  # statistics.md 4.12
AROUND_ONSET = 2  # nights by which an onset may be off (statistics.md 7, property 27)


@dataclass(frozen=True, slots=True)
class Alert:
    """A step that the last night of a series gave away.

    Attributes:
        onset: index of the first night after the step.
        size, before: on the scale of the values; difference of the medians, and the median before.
    """

    onset: int
    size: float
    before: float


@dataclass(frozen=True, slots=True)
class StepDetector:
    """Robust max-t scan over the possible onsets of one step. Nights without a value are left out beforehand.

    For every split with at least ``nights_before`` and ``nights_after`` nights: values of either side are clipped at
    ``clip_sd`` robust standard deviations (1.4826 MAD of both sides) round their own median, and t compares the two
    means with a pooled variance. The largest t alerts above ``critical * sqrt((1 + rho) / (1 - rho))``; rho is the
    lag-1 correlation of the residuals of that split, between 0 and ``most_rho``: nights in a row are alike.

    Source: reference/statistics.md 4.12, simulated in 3.9. Beyond it, t is taken of the difference of the medians
    where that is smaller. On the noise of 3.9 (B, C, D; 40 series of 180 nights each) this leaves .15, .38 and .38
    false alarms in 100 nights instead of .32, .62 and .62, with the same power (+5 %: .93, .88, .23).

    Attributes:
        window: nights looked at, from the last one back.
        onset_back: how many nights before the last one an onset may lie.
        quiet: no second alert within so many nights of a known onset.
        resolution: floor of the standard deviation, on the scale of the values.
    """

    window: int = 60
    nights_before: int = 14
    nights_after: int = 3
    onset_back: int = 21
    clip_sd: float = 3.0
    critical: float = 4.0
    most_rho: float = 0.6
    quiet: int = 7
    resolution: float = LN_SD_FLOOR

    def look(self, values: Sequence[float], onsets: Sequence[int] = ()) -> Alert | None:
        """Return the step that shows with the last of ``values``; None when none does.

        Args:
            values: one a night, oldest first, finite.
            onsets: indices of known onsets; the series begins anew at the latest of them.

        Raises:
            ValueError: a value is not finite.
        """
        nights = np.asarray(values, dtype=np.float64)
        if not np.isfinite(nights).all():
            raise ValueError("nights without a value are left out before looking for steps")
        start = max(max(onsets, default=0), nights.size - self.window)
        best: _Split | None = None
        first = max(start + self.nights_before, nights.size - 1 - self.onset_back)
        for onset in range(first, nights.size - self.nights_after + 1):
            split = self._split(nights[start:onset], nights[onset:], onset)
            if best is None or split.t > best.t:
                best = split
        if best is None or best.t <= self.critical * math.sqrt((1 + best.rho) / (1 - best.rho)):
            return None
        if any(abs(best.onset - known) <= self.quiet for known in onsets):
            return None
        return Alert(best.onset, best.size, best.before)

    def replay(self, values: Sequence[float]) -> Iterator[tuple[int, Alert]]:
        """Yield (index of the night, alert) as they would have been given night by night."""
        onsets: list[int] = []
        for night in range(len(values)):
            alert = self.look(values[: night + 1], onsets)
            if alert is not None:
                onsets.append(alert.onset)
                yield night, alert

    def _split(self, before: Values, after: Values, onset: int) -> _Split:
        # One spread for both sides: three nights alone would take a single outlier among them for their spread.
        middles = float(np.median(before)), float(np.median(after))
        distances = np.abs(np.concatenate([before - middles[0], after - middles[1]]))
        reach = self.clip_sd * _MAD_TO_SD * float(np.median(distances))
        early, late = (np.clip(side, m - reach, m + reach) for side, m in zip((before, after), middles, strict=True))
        residuals = np.concatenate([early - early.mean(), late - late.mean()])
        squares = float((residuals**2).sum())
        sd = max(math.sqrt(squares / (residuals.size - 2)), self.resolution)
        size, between_means = middles[1] - middles[0], float(late.mean() - early.mean())
        # Medians have to differ as much as means: three nights of which one is an outlier then give no alert.
        smaller = min(abs(size), abs(between_means)) if size * between_means > 0 else 0.0
        t = smaller / (sd * math.sqrt(1 / early.size + 1 / late.size))
        rho = float((residuals[1:] * residuals[:-1]).sum()) / squares if squares > 0 else 0.0
        return _Split(onset, t, size, middles[0], min(max(rho, 0.0), self.most_rho))


@dataclass(frozen=True, slots=True)
class _Split:
    onset: int
    t: float
    size: float
    before: float
    rho: float


def night_sd(values: Sequence[float], onsets: Sequence[int], resolution: float = LN_SD_FLOOR) -> float | None:
    """Return the robust sd of a night round the median of its segment; None with fewer than 8 nights.

    Args:
        values: one a night, oldest first.
        onsets: indices of the nights at which segments begin.
    """
    if len(values) < FEWEST_NIGHTS_FOR_SD:
        return None
    residuals = np.concatenate(
        [np.asarray(segment) - np.median(segment) for segment in segments(values, onsets) if len(segment)]
    )
    return max(_MAD_TO_SD * float(np.median(np.abs(residuals))), resolution)


def smallest_visible(values: Sequence[float], onsets: Sequence[int], resolution: float = LN_SD_FLOOR) -> float | None:
    """Return the smallest step this series would show within 14 nights, on its scale; None when not known yet.

    Source: reference/statistics.md 4.12: about 2.5 sd of a night.
    """
    sd = night_sd(values, onsets, resolution)
    return None if sd is None else VISIBLE_IN_SD * sd


def segments(values: Sequence[float], onsets: Sequence[int]) -> list[Sequence[float]]:
    """Return the values between one onset and the next."""
    edges = [0, *sorted({onset for onset in onsets if 0 < onset < len(values)}), len(values)]
    return [values[start:end] for start, end in itertools.pairwise(edges)]


def cause_of(points: Sequence[Point], onset: int) -> Cause:
    """Return what changed nearest to an onset: the mesh's version, else its configuration, else the environment.

    An onset may be off by two nights, so nights around it are looked at as well. The version comes first: an A/B of
    both versions on one host tells whether it was that, whatever else changed in the same night.

    Args:
        points: nights with a value, oldest first.
        onset: index of the first night after the step.
    """
    nights = range(max(1, onset - AROUND_ONSET), min(len(points) - 1, onset + AROUND_ONSET) + 1)
    near = sorted(nights, key=lambda night: (abs(night - onset), night))
    looks: tuple[tuple[CauseKind, Callable[[Point, Point], str]], ...] = (
        ("version", _version_differs),
        ("configuration", _configuration_differs),
        ("environment", _environment_differs),
    )
    for kind, differs in looks:
        for night in near:
            before, after = points[night - 1], points[night]
            if text := differs(before, after):
                return Cause(kind, text, before.arm, after.arm)
    before, after = points[max(onset - 1, 0)], points[-1]
    return Cause("nothing", f"{after.arm['version']} all the time", before.arm, after.arm)


def _version_differs(before: Point, after: Point) -> str:
    if before.arm["version"] != after.arm["version"]:
        return f"{before.arm['version']} to {after.arm['version']}"
    old, new = ({hop["role"]: hop.get("sha256") for hop in point.arm["hops"]} for point in (before, after))
    # A hash that was not recorded says nothing about a change.
    changed = any(old[role] and new.get(role) and old[role] != new[role] for role in old)
    return f"another binary that also calls itself {after.arm['version']}" if changed else ""


def _configuration_differs(before: Point, after: Point) -> str:
    return changed_facts(before.arm.get("configuration", {}), after.arm.get("configuration", {}))


def _environment_differs(before: Point, after: Point) -> str:
    return "" if before.environment == after.environment else changed_facts(before.facts, after.facts)


MOST_CHANGES_NAMED = 3


def changed_facts(before: object, after: object) -> str:
    """Return in words how two nested records differ; empty where they do not."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    said = [f"{name.replace('_', ' ')} {old.get(name, 'absent')} to {new.get(name, 'absent')}" for name in names]
    more = f" and {len(said) - MOST_CHANGES_NAMED} more" if len(said) > MOST_CHANGES_NAMED else ""
    return "; ".join(said[:MOST_CHANGES_NAMED]) + more


def _leaves(facts: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(facts, dict):
        for name, value in facts.items():
            yield from _leaves(value, f"{path} {name}".strip())
    else:
        yield path, "not known" if facts is None else str(facts)


@dataclass(frozen=True, slots=True)
class Change:
    """A night from which on something was different, and what."""

    point: Point
    text: str


def environment_changes(points: Sequence[Point]) -> tuple[Change, ...]:
    """Return the nights whose environment differs from the night before; points of one series, oldest first."""
    return _changes(points, _environment_differs)


def version_changes(points: Sequence[Point]) -> tuple[Change, ...]:
    """Return the nights whose mesh differs from the night before; points of one series, oldest first."""
    return _changes(points, _version_differs)


def _changes(points: Sequence[Point], differs: Callable[[Point, Point], str]) -> tuple[Change, ...]:
    # A night without a value may not have got as far as to say where it ran.
    known = [point for point in points if point.value is not None]
    return tuple(Change(new, text) for old, new in itertools.pairwise(known) if (text := differs(old, new)))


@dataclass(frozen=True, slots=True)
class Shift:
    """The latest night minus the pinned run, each against its own control, on the metric's scale."""

    estimate: float
    interval: Interval | None
    pinned: Point = field(repr=False)
    latest: Point = field(repr=False)


def against_pinned(latest: Point, pinned: Point) -> Shift | None:
    """Return how far a night is from the pinned run; None where either has no value.

    Welch's interval over the blocks of both; it is about a third wider than one from common blocks would be.

    Source: reference/statistics.md 3.4: each divided by its own session's control, false positives 5 %.
    """
    if latest.value is None or pinned.value is None:
        return None
    estimate = latest.value - pinned.value
    if latest.sd is None or pinned.sd is None:
        return Shift(estimate, None, pinned, latest)
    a, b = (max(point.sd or 0.0, LN_SD_FLOOR) ** 2 / point.blocks for point in (latest, pinned))
    df = (a + b) ** 2 / (a**2 / (latest.blocks - 1) + b**2 / (pinned.blocks - 1))
    half = float(stats.t.ppf(0.975, df)) * math.sqrt(a + b)
    return Shift(estimate, Interval(estimate - half, estimate + half), pinned, latest)
