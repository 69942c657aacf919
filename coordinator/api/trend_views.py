"""The shapes in which the API shows nights and steps. Differences are in per cent, or in the unit that is named."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from meshgauge.trend import Point, Step, Trend


@dataclass(frozen=True, slots=True)
class StepView:
    """A step. ``size``: after against before, in ``unit``; ``sentence`` says it in words."""

    id: int
    schedule: str
    series: str
    metric: str
    state: str
    size: float
    unit: str
    sentence: str
    onset_at: dt.datetime
    onset_run: str
    detected_at: dt.datetime
    detected_run: str
    cause: str
    change: str
    confirming_run: str | None
    finding: str | None
    reason: str | None
    acknowledged_by: str | None


@dataclass(frozen=True, slots=True)
class NightView:
    """One night of a series. ``difference`` to the control with its 95 % interval; None: a gap, see ``reason``."""

    at: dt.datetime
    run: str
    difference: float | None
    low_95: float | None
    high_95: float | None
    blocks: int
    version: str
    environment: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class SeriesView:
    """One series and metric. ``smallest_visible``: step that would show within 14 nights; None: too few nights yet."""

    series: str
    title: str
    metric: str
    unit: str
    smallest_visible: float | None
    nights: tuple[NightView, ...]


@dataclass(frozen=True, slots=True)
class AnnotationView:
    """Somebody's remark on a night."""

    id: int
    at: dt.datetime
    text: str
    made_by: str


@dataclass(frozen=True, slots=True)
class MissedView:
    """A due time that gave no run, or a run without points, and why."""

    at: dt.datetime
    reason: str


@dataclass(frozen=True, slots=True)
class BaselineView:
    """The run that nights are held against."""

    run: str
    reason: str
    pinned_by: str
    pinned_at: dt.datetime


@dataclass(frozen=True, slots=True)
class TrendLine:
    """A schedule in one line."""

    schedule: str
    answer: str
    nights: int
    open_steps: int


@dataclass(frozen=True, slots=True)
class TrendView:
    """All that is known of a schedule's nights, times in UTC."""

    schedule: str
    cron: str
    time_zone: str
    answer: str
    series: tuple[SeriesView, ...]
    steps: tuple[StepView, ...]
    annotations: tuple[AnnotationView, ...]
    missed: tuple[MissedView, ...]
    baseline: BaselineView | None


def step_view(step: Step) -> StepView:
    """Return a step as the API shows it."""
    from reports.figures.trend import percent  # noqa: PLC0415 - drawing takes a second to import
    from reports.nightly.step_findings import step_sentence  # noqa: PLC0415
    from reports.readings.metrics import METRIC_OF  # noqa: PLC0415
    from reports.wording import difference_unit  # noqa: PLC0415

    metric = METRIC_OF[step.metric]
    return StepView(
        id=step.id,
        schedule=step.schedule,
        series=step.series.key,
        metric=step.metric,
        state=step.state,
        size=percent(metric, step.size),
        unit=difference_unit(metric),
        sentence=step_sentence(step),
        onset_at=step.onset_at,
        onset_run=step.onset_run_id,
        detected_at=step.detected_at,
        detected_run=step.detected_run_id,
        cause=step.cause.kind,
        change=step.cause.text,
        confirming_run=step.confirming_run_id,
        finding=step.finding,
        reason=step.reason,
        acknowledged_by=step.changed_by,
    )


def trend_line(trend: Trend) -> TrendLine:
    """Return a schedule in one line."""
    from reports.chapters.trend import trend_answer  # noqa: PLC0415

    return TrendLine(
        trend.schedule,
        trend_answer(trend),
        len({point.run_id for point in trend.points if point.value is not None}),
        sum(step.state in ("suspected", "confirmed") for step in trend.steps),
    )


def trend_view(trend: Trend) -> TrendView:
    """Return a schedule's nights as the API shows them."""
    from reports.chapters.trend import lines_of, trend_answer  # noqa: PLC0415
    from reports.figures.trend import percent  # noqa: PLC0415
    from reports.wording import difference_unit  # noqa: PLC0415

    baseline = trend.baseline
    return TrendView(
        schedule=trend.schedule,
        cron=trend.cron,
        time_zone=trend.time_zone,
        answer=trend_answer(trend),
        series=tuple(
            SeriesView(
                name.key,
                name.title,
                line.metric.name,
                difference_unit(line.metric),
                None if line.visible is None else percent(line.metric, line.visible),
                tuple(map(_night_view, line.points)),
            )
            for name, line in lines_of(trend)
        ),
        steps=tuple(map(step_view, trend.steps)),
        annotations=tuple(AnnotationView(a.id, a.at, a.text, a.made_by) for a in trend.annotations),
        missed=tuple(MissedView(night.at, night.reason) for night in trend.missed),
        baseline=None
        if baseline is None
        else BaselineView(baseline.run_id, baseline.reason, baseline.pinned_by, baseline.pinned_at),
    )


def _night_view(point: Point) -> NightView:
    from reports.figures.trend import interval_of, percent  # noqa: PLC0415
    from reports.readings.metrics import METRIC_OF  # noqa: PLC0415

    metric, ends = METRIC_OF[point.metric], interval_of(point)
    low, high = (None, None) if ends is None else (percent(metric, ends[0]), percent(metric, ends[1]))
    return NightView(
        at=point.at,
        run=point.run_id,
        difference=None if point.value is None else percent(metric, point.value),
        low_95=low,
        high_95=high,
        blocks=point.blocks,
        version=str(point.arm["version"]),
        environment=point.environment,
        reason=point.reason,
    )
