"""The step detector: what it finds, what it must not find, and that it never takes anything back."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from meshgauge.trend import Point, SeriesName
from reports.nightly.trends import (
    StepDetector,
    against_pinned,
    cause_of,
    environment_changes,
    night_sd,
    smallest_visible,
    version_changes,
)

Values = npt.NDArray[np.float64]

DETECTOR = StepDetector()
SERIES = SeriesName("envoy latest", "mtls", "web", "local", "1000rps-8c", "none")


def noise(generator: np.random.Generator, nights: int, sd: float, correlation: float = 0.0) -> Values:
    """Return autoregressive noise of that sd from night to night."""
    values = np.empty(nights)
    values[0] = generator.normal()
    for night in range(1, nights):
        values[night] = correlation * values[night - 1] + math.sqrt(1 - correlation**2) * generator.normal()
    return values * sd


def point(night: int, value: float | None, **changes: Any) -> Point:
    """Return a night of one version on one host."""
    hop = {"role": "client", "adapter": "envoy", "version": "1.40.0", "sha256": "aa"}
    plain = Point(
        run_id=f"run-{night}",
        at=dt.datetime(2026, 9, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=night),
        series=SERIES,
        metric="p50",
        value=value,
        sd=0.02,
        blocks=3,
        arm_level=1.2,
        control_level=1.0,
        reason=None,
        arm={"label": "envoy-1.40.0", "version": "1.40.0", "hops": [hop], "configuration": {"client": {"tls": "1.3"}}},
        environment="one",
        facts={"hosts": {"bench-1": {"kernel": "6.8.0"}}},
    )
    return replace(plain, **changes)


def other_version(version: str, sha256: str = "bb") -> dict[str, Any]:
    hop = {"role": "client", "adapter": "envoy", "version": version, "sha256": sha256}
    return {"label": f"envoy-{version}", "version": version, "hops": [hop], "configuration": {"client": {"tls": "1.3"}}}


def test_a_constant_series_gives_no_alert() -> None:
    assert list(DETECTOR.replay([0.3] * 120)) == []


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(8))
def test_a_step_of_ten_per_cent_is_found_within_six_nights(seed: int, sign: int) -> None:
    values = noise(np.random.default_rng(seed), 60, 0.015)
    values[40:] += sign * math.log(1.1)
    found = list(DETECTOR.replay(values.tolist()))
    assert len(found) == 1
    night, alert = found[0]
    assert 40 <= night <= 46
    assert abs(alert.onset - 40) <= 2
    assert 100 * math.expm1(abs(alert.size)) == pytest.approx(10, abs=3)
    assert (alert.size > 0) == (sign > 0)


@pytest.mark.parametrize("outliers", [(30,), (30, 37)])
def test_single_nights_off_are_no_step(outliers: tuple[int, ...]) -> None:
    """At the outlier: an alert needs two unusual nights besides, which noise makes in less than one series of 30."""
    alerts = 0
    for seed in range(60):
        values = noise(np.random.default_rng(100 + seed), 45, 0.015)
        for night in outliers:
            values[night] += 0.3
        alerts += sum(alert.onset in outliers for _, alert in DETECTOR.replay(values.tolist()))
    assert alerts <= 2


def test_an_outlier_among_even_nights_is_never_a_step() -> None:
    values = [0.001 * (night % 3) for night in range(60)]
    values[30] = values[37] = 0.5
    assert list(DETECTOR.replay(values)) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_constant_added_changes_nothing(seed: int) -> None:
    values = noise(np.random.default_rng(seed), 80, 0.02)
    values[50:] += 0.08
    plain = list(DETECTOR.replay(values.tolist()))
    moved = list(DETECTOR.replay((values + 1.5).tolist()))
    assert [(night, alert.onset) for night, alert in plain] == [(night, alert.onset) for night, alert in moved]
    assert plain
    for (_, one), (_, other) in zip(plain, moved, strict=True):
        assert other.size == pytest.approx(one.size, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_later_nights_never_take_an_alert_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = noise(generator, 150, 0.03, 0.4)
    values[50:] += 0.15
    values[100:] -= 0.2
    whole = list(DETECTOR.replay(values.tolist()))
    assert len(whole) >= 2
    for nights in range(40, 150, 7):
        assert list(DETECTOR.replay(values[:nights].tolist())) == [found for found in whole if found[0] < nights]


def test_a_known_onset_begins_the_series_anew() -> None:
    generator = np.random.default_rng(3)
    values = noise(generator, 60, 0.015)
    values[30:] += 0.1
    assert DETECTOR.look(values[:36].tolist()) is not None
    assert DETECTOR.look(values[:36].tolist(), [30]) is None
    assert DETECTOR.look(values.tolist(), [30]) is None


def test_no_second_alert_follows_within_a_week_of_an_onset() -> None:
    values = noise(np.random.default_rng(1), 60, 0.01)
    values[30:] += 0.1
    values[34:] += 0.1
    found = list(DETECTOR.replay(values.tolist()))
    assert len(found) >= 1
    onsets = [alert.onset for _, alert in found]
    assert all(b - a > DETECTOR.quiet for a, b in itertools.pairwise(onsets))


def test_less_than_seventeen_nights_say_nothing() -> None:
    values = [0.0] * 13 + [1.0] * 3
    assert DETECTOR.look(values) is None


def test_a_night_without_a_value_has_to_be_left_out() -> None:
    with pytest.raises(ValueError, match="left out"):
        DETECTOR.look([0.0] * 20 + [math.nan])


def test_quiet_series_give_less_than_one_false_alarm_in_a_hundred_nights() -> None:
    """Calibration, seeded: 40 series of 130 watched nights, correlated as nights are (statistics.md 3.9, noise C)."""
    generator = np.random.default_rng(20_261_123)
    series, nights, burn_in = 40, 150, 20
    alarms = sum(len(list(DETECTOR.replay(noise(generator, nights, 0.02, 0.4).tolist()))) for _ in range(series))
    assert 100 * alarms / (series * (nights - burn_in)) < 1.0


def test_what_would_show_is_what_shows() -> None:
    """A step of the size stated in the caption is found within 14 nights in most series (statistics.md 4.12)."""
    generator = np.random.default_rng(7)
    seen = 0
    for _ in range(30):
        values = noise(generator, 54, 0.02)
        visible = smallest_visible(values[:40].tolist(), ())
        assert visible is not None
        values[40:] += visible
        seen += any(night <= 53 and abs(alert.onset - 40) <= 3 for night, alert in DETECTOR.replay(values.tolist()))
    assert seen >= 22


def test_the_spread_of_nights_is_told_round_each_segment() -> None:
    values = noise(np.random.default_rng(5), 60, 0.02)
    stepped = values.copy()
    stepped[30:] += 0.5
    assert night_sd(stepped.tolist(), [30]) == pytest.approx(night_sd(values.tolist(), []), rel=0.25)
    assert night_sd([0.0] * 7, ()) is None


def test_the_version_is_the_first_suspect() -> None:
    points = [point(night, 0.0) for night in range(20)]
    later = [
        point(
            night, 0.1, arm=other_version("1.41.0"), environment="two", facts={"hosts": {"bench-1": {"kernel": "6.9"}}}
        )
        for night in range(20, 24)
    ]
    cause = cause_of([*points, *later], 19)  # an onset may be off by a night
    assert (cause.kind, cause.text) == ("version", "1.40.0 to 1.41.0")
    assert (cause.before["version"], cause.after["version"]) == ("1.40.0", "1.41.0")


def test_another_binary_of_the_same_version_is_another_version() -> None:
    points = [point(n, 0.0) for n in range(20)] + [point(n, 0.1, arm=other_version("1.40.0")) for n in range(20, 24)]
    assert cause_of(points, 20).kind == "version"
    assert [change.point.run_id for change in version_changes(points)] == ["run-20"]


def test_a_hash_nobody_recorded_is_no_change() -> None:
    unknown = other_version("1.40.0")
    unknown["hops"] = [{**unknown["hops"][0], "sha256": None}]
    points = [point(n, 0.0) for n in range(20)] + [point(n, 0.1, arm=unknown) for n in range(20, 24)]
    assert cause_of(points, 20).kind == "nothing"


def test_an_environment_that_changed_is_named() -> None:
    new = {"environment": "two", "facts": {"hosts": {"bench-1": {"kernel": "6.9.1"}}}}
    points = [point(n, 0.0) for n in range(20)] + [point(n, 0.1, **new) for n in range(20, 24)]
    cause = cause_of(points, 21)
    assert (cause.kind, cause.text) == ("environment", "hosts bench-1 kernel 6.8.0 to 6.9.1")
    assert [change.text for change in environment_changes(points)] == [cause.text]


def test_a_failed_night_is_no_change_of_the_environment() -> None:
    points = [point(0, 0.0), point(1, None, environment="nothing known", facts={}), point(2, 0.0)]
    assert environment_changes(points) == ()


def test_a_change_of_configuration_is_told_apart() -> None:
    arm = {**other_version("1.40.0", "aa"), "configuration": {"client": {"tls": "1.2"}}}
    points = [point(n, 0.0) for n in range(20)] + [point(n, 0.1, arm=arm) for n in range(20, 24)]
    assert (cause_of(points, 20).kind, cause_of(points, 20).text) == ("configuration", "client tls 1.3 to 1.2")


def test_a_night_is_held_against_the_pinned_run_with_an_interval() -> None:
    shift = against_pinned(point(9, 0.30, sd=0.02), point(0, 0.25, sd=0.02, blocks=10))
    assert shift is not None
    assert shift.interval is not None
    assert shift.estimate == pytest.approx(0.05)
    assert shift.interval.low < 0.05 < shift.interval.high
    wider = against_pinned(point(9, 0.30, sd=0.02), point(0, 0.25, sd=0.02, blocks=3))
    assert wider is not None
    assert wider.interval is not None
    assert wider.interval.low < shift.interval.low
    assert against_pinned(point(9, None), point(0, 0.25)) is None


def test_differences_to_the_pinned_run_are_wrong_one_time_in_twenty() -> None:
    """Coverage of Welch's interval, seeded: both runs of 6 blocks, each against its own control."""
    generator = np.random.default_rng(11)
    hits = 0
    for _ in range(600):
        a, b = generator.normal(0, 0.02, 6), generator.normal(0, 0.03, 6)
        shift = against_pinned(*(point(0, float(v.mean()), sd=float(v.std(ddof=1)), blocks=6) for v in (a, b)))
        assert shift is not None
        assert shift.interval is not None
        hits += shift.interval.low <= 0 <= shift.interval.high
    assert 0.92 <= hits / 600 <= 0.98


def test_a_series_name_is_read_back_from_its_key() -> None:
    assert SeriesName.of(SERIES.key) == SERIES
