"""A schedule of 42 nights with one of everything: a release that steps, an upgrade of the kernel, gaps, remarks."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshgauge.trend import Annotation, Cause, MissedNight, PinnedBaseline, Point, SeriesName, Step, Trend

FIRST = dt.datetime(2026, 9, 1, 1, tzinfo=dt.UTC)
SERIES = SeriesName("envoy latest", "mtls", "web", "local", "1000rps-16c", "none")
NIGHTS, STEPPED, UPGRADED, FAILED, MISSED = 42, 24, 12, 8, 30


def arm(version: str) -> dict[str, Any]:
    """Return an arm as points carry it."""
    return {"label": f"envoy-{version}", "version": version, "hops": [], "configuration": {}}


def night(at: int, metric: str, value: float | None, version: str, kernel: str) -> Point:
    """Return one night."""
    return Point(
        run_id=f"run-{at:04d}-0000", at=FIRST + dt.timedelta(days=at), series=SERIES, metric=metric, value=value,
        sd=0.02, blocks=3 if value is not None else 1, arm_level=0.6, control_level=0.4,
        reason=None if value is not None else "1 of 3 blocks are valid, 2 are needed", arm=arm(version),
        environment=kernel, facts={"hosts": {"bench-1": {"kernel": kernel}}},
    )  # fmt: skip


def step_of(points: list[Point], metric: str = "p50", **changes: Any) -> Step:
    """Return a step of the release, as it was found three nights later."""
    onset, detected = points[STEPPED], points[STEPPED + 3]
    plain = Step(
        id=7, schedule="nightly", series=SERIES, metric=metric, onset_run_id=onset.run_id, onset_at=onset.at,
        detected_run_id=detected.run_id, detected_at=detected.at, size=math.log(1.1), before=0.4,
        cause=Cause("version", "1.40.0 to 1.41.0", arm("1.40.0"), arm("1.41.0")), state="confirmed",
        confirming_run_id="c0ffee00-0000-4000-8000-000000000001",
        finding="1.41.0 against 1.40.0 on 10 fresh blocks: p50 +9.80 % [+8.9, +10.7], p = 2e-07",
        reason=None, changed_by=None, created_at=detected.at, changed_at=detected.at,
    )  # fmt: skip
    return replace(plain, **changes)


def make_trend(*, steps: bool = True, nights: int = NIGHTS, ratio: float = 1.10) -> Trend:
    """Return the nights; without ``steps`` nothing ever moves."""
    generator = np.random.default_rng(4)
    points: list[Point] = []
    for metric, level, sd in (("p50", 0.42, 0.012), ("p99", 0.5, 0.03), ("cpu", 1.1, 0.006)):
        for at in range(nights):
            if at == MISSED:
                continue
            after = steps and at >= STEPPED and metric != "cpu"
            value = level + generator.normal(0, sd) + (math.log(ratio) if after else 0)
            known = None if at == FAILED else float(value)
            version = "1.41.0" if at >= STEPPED else "1.40.0" if at >= 5 else "1.39.3"
            points.append(night(at, metric, known, version, "6.9.1" if at >= UPGRADED else "6.8.0"))
    own = [point for point in points if point.metric == "p50"]
    return Trend(
        schedule="nightly", cron="0 1 * * *", time_zone="UTC",
        points=tuple(sorted(points, key=lambda point: point.at)),
        steps=(step_of(own), step_of(own, "p99", id=8, state="suspected", finding=None)) if steps else (),
        annotations=(Annotation(1, FIRST + dt.timedelta(days=18), "rack moved to the other hall", "ada"),),
        baseline=PinnedBaseline(
            points[0].run_id, "last stable release", "ada", FIRST,
            tuple(replace(point, blocks=3) for point in points if point.run_id == "run-0003-0000")
        ),
        missed=(MissedNight(FIRST + dt.timedelta(days=MISSED), "nothing was there to start it in time"),),
    )  # fmt: skip


@pytest.fixture
def trend_of() -> Callable[..., Trend]:
    """Return ``make_trend(steps=, nights=, ratio=)``."""
    return make_trend
