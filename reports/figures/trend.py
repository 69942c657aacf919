"""The nightly trend of one series and metric: nights, their intervals, segments, steps, changes and gaps."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from meshgauge.trend import Annotation, MissedNight, Point, Step, StepState
from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    PALETTE,
    WIDTH_IN,
    FigurePage,
    Row,
    axes_at,
    new_figure,
    put_title,
    shortened,
)
from reports.nightly.step_findings import STATE_WORDS, shown
from reports.nightly.trends import Change, environment_changes, version_changes
from reports.readings.metrics import Metric
from reports.wording import difference_unit, percent_of_ln, signed

PLOT_HEIGHT_IN = 2.7
LEFT_IN = 0.75
RIGHT_IN = 0.25
FOOT_IN = 0.55
TOP_IN = 0.34  # room for versions above the axes
NOTE_IN = 0.17
MOST_NOTES = 8
MOST_VERSIONS = 8
POINTS = PALETTE[0]
GAP = "#b3261e"
STATE_COLOURS: dict[StepState, str] = {
    "suspected": "#9a6700",
    "confirmed": "#b34700",
    "not_reproduced": FAINT,
    "acknowledged": FAINT,
}


@dataclass(frozen=True, slots=True)
class Line:
    """Everything one figure shows. Points, steps and missed nights are those of one series and metric, oldest first.

    Attributes:
        visible: the smallest step that would show within 14 nights, on the metric's scale; None: not known yet.
        pinned: the value of the pinned run, on the metric's scale; None: none is pinned, or it has no such value.
    """

    metric: Metric
    title: str
    against: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    annotations: tuple[Annotation, ...]
    missed: tuple[MissedNight, ...]
    visible: float | None
    pinned: float | None


def trend_figure(line: Line, name: str) -> FigurePage:
    """Return the figure; its rows are nights, missed ones included, and what was said of each."""
    return FigurePage(
        name=name,
        title=f"{line.metric.title}: {line.title}",
        alt=_alt(line),
        rows=tuple(_rows(line)),
        draw=partial(_draw, line),
    )


def percent(metric: Metric, value: float) -> float:
    """Return a value on the metric's scale as drawn: per cent for ratios, else the metric's unit."""
    return percent_of_ln(value) if metric.scale == "ratio" else value


def interval_of(point: Point) -> tuple[float, float] | None:
    """Return the 95 % t interval over the night's blocks, on the metric's scale; None with fewer than two blocks."""
    if point.value is None or point.sd is None or point.blocks < 2:
        return None
    half = float(stats.t.ppf(0.975, point.blocks - 1)) * point.sd / math.sqrt(point.blocks)
    return point.value - half, point.value + half


def visible_sentence(line: Line) -> str:
    """Return the caption's statement of what would show."""
    if line.visible is None:
        return "too few nights to say which step would show"
    return f"smallest step that would show within 14 nights: {shown(line.metric, line.visible).lstrip('+')}"


def _alt(line: Line) -> str:
    known = [point for point in line.points if point.value is not None]
    parts = [f"{len(known)} nights with a value, {len(line.points) - len(known) + len(line.missed)} without"]
    if known and known[-1].value is not None:
        parts.append(f"the last one {shown(line.metric, known[-1].value)} against {line.against}")
    parts += [f"{_said(step, line.metric)} on {step.onset_at:%Y-%m-%d}" for step in line.steps] or ["no step"]
    parts.append(visible_sentence(line))
    return "; ".join(parts) + "."


def _said(step: Step, metric: Metric) -> str:
    return f"step of {shown(metric, step.size)}, {STATE_WORDS[step.state]}"


def _rows(line: Line) -> Iterator[Row]:
    onsets = {step.onset_run_id: step for step in line.steps}
    for point in line.points:
        ends = interval_of(point)
        step = onsets.get(point.run_id)
        yield {
            "night": point.at.isoformat(),
            "run": point.run_id,
            "value": None if point.value is None else percent(line.metric, point.value),
            "low_95": None if ends is None else percent(line.metric, ends[0]),
            "high_95": None if ends is None else percent(line.metric, ends[1]),
            "unit": difference_unit(line.metric),
            "blocks": point.blocks,
            "version": str(point.arm["version"]),
            "environment": point.environment,
            "step": None if step is None else _said(step, line.metric),
            "reason": point.reason,
        }
    for night in line.missed:
        yield {"night": night.at.isoformat(), "unit": difference_unit(line.metric), "blocks": 0, "reason": night.reason}


def _draw(line: Line) -> Figure:
    notes = _notes(line)
    height = HEAD_IN + TOP_IN + PLOT_HEIGHT_IN + FOOT_IN + NOTE_IN * len(notes)
    figure = new_figure(height)
    known = [point for point in line.points if point.value is not None]
    what = f"Difference to {line.against} of the same night in {difference_unit(line.metric)}; n = {len(known)} nights."
    caption = visible_sentence(line)
    put_title(figure, line.metric.title, line.title, what, f"{caption[:1].upper()}{caption[1:]}.")
    bottom = FOOT_IN + NOTE_IN * len(notes)
    axes = axes_at(figure, LEFT_IN, bottom, WIDTH_IN - LEFT_IN - RIGHT_IN, PLOT_HEIGHT_IN)
    _scales(axes, line, known)
    _segments(axes, line, known)
    _nights(axes, line, known)
    _steps(axes, line)
    _versions(axes, known, _half_gap(line))
    _gaps(axes, line)
    for at, (when, _, is_change) in enumerate(notes):
        _marked(axes, _x(when) - (_half_gap(line) if is_change else 0.0), at + 1)
    for at, (when, text, _) in enumerate(notes):
        y = (NOTE_IN * (len(notes) - at) - 0.02) / height
        said = shortened(f"{at + 1}  {when:%Y-%m-%d}: {text}", 120)
        figure.text(LEFT_IN / WIDTH_IN, y, said, size=7.5, color=FAINT, va="top", parse_math=False)
    return figure


def _notes(line: Line) -> list[tuple[dt.datetime, str, bool]]:
    """Return what is numbered in the figure: environment changes (True) and people's remarks, by time."""
    changes = [(change.point.at, f"environment: {change.text}", True) for change in environment_changes(line.points)]
    first = line.points[0].at if line.points else dt.datetime.max.replace(tzinfo=dt.UTC)
    remarks = [(a.at, f"{a.text} ({a.made_by})", False) for a in line.annotations if a.at >= first]
    return sorted((*changes, *remarks), key=lambda note: note[0])[-MOST_NOTES:]


def _x(when: dt.datetime) -> float:
    return float(dates.date2num(when))  # type: ignore[no-untyped-call]  # matplotlib has no types here


def _scales(axes: Axes, line: Line, known: Sequence[Point]) -> None:
    values = [percent(line.metric, point.value) for point in known if point.value is not None]
    if line.pinned is not None:
        values.append(percent(line.metric, line.pinned))
    spans = [high - low for point in known if (ends := interval_of(point)) for low, high in [ends]]
    typical = float(np.median(spans)) if spans else 0.0
    half = abs(percent(line.metric, typical)) / 2
    low, high = (min(values) - half, max(values) + half) if values else (-1.0, 1.0)
    air = max(0.12 * (high - low), 0.5 if line.metric.scale == "ratio" else 1e-6)
    axes.set_ylim(low - air, high + 2 * air)  # the size of a step stands above
    nights, half_gap = _moments(line) or [0.0, 1.0], _half_gap(line)
    axes.set_xlim(min(nights) - 1.6 * half_gap, max(nights) + 1.6 * half_gap)
    locator = dates.AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%Y-%m-%d" if half_gap > 0.2 else "%m-%d %H:%M"))  # type: ignore[no-untyped-call]
    axes.grid(axis="y", color=GRID, lw=0.8)
    unit = difference_unit(line.metric)
    ticks = [tick for tick in axes.get_yticks() if low - air <= tick <= high + 2 * air]
    places = max((_places(b - a) for a, b in itertools.pairwise(ticks)), default=0)
    suffix = f" {unit}" if len(unit) < 4 else ""
    axes.set_yticks(ticks, [f"{signed(tick, places)}{suffix}" for tick in ticks])
    if not suffix:
        axes.set_ylabel(unit, size=8.5, color=FAINT)


def _places(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0


def _segments(axes: Axes, line: Line, known: Sequence[Point]) -> None:
    """Draw the median of each segment as a level from its first night to its last."""
    place = {point.run_id: at for at, point in enumerate(known)}
    onsets = sorted(place[step.onset_run_id] for step in line.steps if step.onset_run_id in place)
    edges = [0, *onsets, len(known)]
    for start, end in itertools.pairwise(edges):
        own = [point.value for point in known[start:end] if point.value is not None]
        if own:
            level = percent(line.metric, float(np.median(own)))
            axes.hlines(level, _x(known[start].at) - 0.4, _x(known[end - 1].at) + 0.4, colors=INK, lw=1.6, zorder=2)
    if line.pinned is not None:
        y = percent(line.metric, line.pinned)
        axes.axhline(y, color=FAINT, lw=1, ls=(0, (1, 1.5)), zorder=1)
        axes.text(
            0.995, y, "pinned run", transform=axes.get_yaxis_transform(), ha="right", va="bottom", size=7.5, color=FAINT
        )


def _nights(axes: Axes, line: Line, known: Sequence[Point]) -> None:
    spans = [(_x(point.at), interval_of(point)) for point in known]
    whiskers = [(x, percent(line.metric, ends[0]), percent(line.metric, ends[1])) for x, ends in spans if ends]
    if whiskers:
        x, low, high = zip(*whiskers, strict=True)
        axes.vlines(x, low, high, colors=POINTS, lw=1, alpha=0.35, zorder=1)
    y = [percent(line.metric, point.value) for point in known if point.value is not None]
    axes.plot([_x(point.at) for point in known], y, "o", ms=3.6, color=POINTS, zorder=3)


def _moments(line: Line) -> list[float]:
    """Return when the nights were due, measured or missed, on the axis' scale (days)."""
    return sorted(_x(moment) for moment in (*(p.at for p in line.points), *(m.at for m in line.missed)))


def _half_gap(line: Line) -> float:
    """Return half the usual distance of two nights, in days: what changed did so between them."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(_moments(line)) if later > earlier]
    return float(np.median(gaps)) / 2 if gaps else 0.5


def _steps(axes: Axes, line: Line) -> None:
    """Draw each onset with its size and state, and a triangle on the night it was noticed."""
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "parse_math": False, "size": 8}
    left, right = axes.get_xlim()
    for at, step in enumerate(line.steps):
        x, colour = _x(step.onset_at) - _half_gap(line), STATE_COLOURS[step.state]
        axes.axvline(x, color=colour, lw=1.3, zorder=2)
        side = "right" if x > left + 0.7 * (right - left) else "left"
        said = f" {shown(line.metric, step.size)}, {STATE_WORDS[step.state]} "
        axes.text(x, 0.97 - 0.07 * (at % 2), said, ha=side, va="top", weight="bold", color=colour, **place)
        axes.plot(
            [_x(step.detected_at)],
            [0.0],
            "^",
            ms=6,
            color=colour,
            transform=place["transform"],
            clip_on=False,
            zorder=5,
        )


def _versions(axes: Axes, known: Sequence[Point], half_gap: float) -> None:
    """Write above the axes which version the nights measured, where it changes."""
    if not known:
        return
    changes = [*version_changes(known)][-MOST_VERSIONS:]
    first = [] if len(changes) == MOST_VERSIONS else [Change(known[0], "")]
    left, right = axes.get_xlim()
    written = left - (right - left)
    for change in [*first, *changes]:
        x = _x(change.point.at) - half_gap
        top = axes.get_xaxis_transform()
        axes.plot([x, x], [1.0, 1.03], color=FAINT, lw=1, transform=top, clip_on=False)
        if x - written >= 0.09 * (right - left):
            text = shortened(str(change.point.arm["version"]), 22)
            axes.text(x, 1.035, text, transform=top, size=7.5, color=FAINT, ha="left", va="bottom", parse_math=False)
            written = x


def _gaps(axes: Axes, line: Line) -> None:
    nights = [point.at for point in line.points if point.value is None] + [night.at for night in line.missed]
    x = [_x(night) for night in nights]
    axes.plot(x, [0.025] * len(x), "x", ms=5, mew=1.3, color=GAP, transform=axes.get_xaxis_transform(), zorder=4)


def _marked(axes: Axes, x: float, number: int) -> None:
    axes.axvline(x, color=FAINT, lw=0.9, ls=(0, (4, 3)), zorder=1)
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "size": 7.5, "color": FAINT, "va": "bottom"}
    axes.text(x, 0.06, f" {number}", ha="left", **place)
