"""The page of a schedule's nights: whether anything stepped, figure by figure, and what else happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshgauge.trend import Point, SeriesName, Step, StepState, Trend
from reports.chapters.grids import texts
from reports.figures.trend import Line, interval_of, trend_figure
from reports.nightly.nights import primary_metrics
from reports.nightly.step_findings import STATE_WORDS, shown, step_sentence
from reports.nightly.trends import StepDetector, against_pinned, environment_changes, smallest_visible
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.readings.metrics import METRIC_OF
from reports.wording import ABSENT, level

_TONES: dict[StepState, str] = {"suspected": "warning", "confirmed": "bad", "not_reproduced": "", "acknowledged": ""}
_URGENCY: dict[StepState, int] = {"confirmed": 0, "suspected": 1, "not_reproduced": 2, "acknowledged": 3}
_NEEDED = StepDetector().nights_before + StepDetector().nights_after
_SHORT_ID = 8
NIGHTS_SHOWN = 10
MOST_GAPS = 200


@dataclass(frozen=True, slots=True)
class _Seen:
    """One series and metric with what follows from it."""

    series: SeriesName
    line: Line


def trend_chapter(trend: Trend) -> Chapter:
    """Return the page of one schedule; its first line is the answer in words."""
    seen = tuple(_seen(trend))
    return Chapter("trend", f"Nightly trend of {trend.schedule}", _answer(trend, seen), tuple(_parts(trend, seen)))


def trend_answer(trend: Trend) -> str:
    """Return the answer of a schedule's page alone."""
    return _answer(trend, tuple(_seen(trend)))


def lines_of(trend: Trend) -> Iterator[tuple[SeriesName, Line]]:
    """Yield every series and metric of a schedule with what is drawn of it."""
    for one in _seen(trend):
        yield one.series, one.line


def _seen(trend: Trend) -> Iterator[_Seen]:
    groups: dict[tuple[SeriesName, str], list[Point]] = {}
    for point in trend.points:
        groups.setdefault((point.series, point.metric), []).append(point)
    for name in dict.fromkeys(series for series, _ in groups):
        for metric in primary_metrics():
            points = groups.get((name, metric.name))
            if points is None:
                continue
            steps = tuple(s for s in trend.steps if (s.series, s.metric) == (name, metric.name))
            valued = [point for point in points if point.value is not None]
            place = {point.run_id: at for at, point in enumerate(valued)}
            onsets = [place[step.onset_run_id] for step in steps if step.onset_run_id in place]
            values = [point.value for point in valued if point.value is not None]
            pinned = _pinned_point(trend, name, metric.name)
            line = Line(
                metric=metric,
                title=name.title,
                against=name.control,
                points=tuple(points),
                steps=tuple(step for step in steps if step.onset_run_id in place),
                annotations=trend.annotations,
                missed=trend.missed,
                visible=smallest_visible(values, onsets, metric.resolution),
                pinned=None if pinned is None else pinned.value,
            )
            yield _Seen(name, line)


def _pinned_point(trend: Trend, name: SeriesName, metric: str) -> Point | None:
    """Return the pinned run's point of a series: the same name, else the only one of that mesh in the same place.

    A run of another plan names the same mesh by another selector.
    """
    if trend.baseline is None:
        return None
    own = [point for point in trend.baseline.points if point.metric == metric]
    exact = next((point for point in own if point.series == name), None)
    if exact is not None:
        return exact
    mesh = name.arm.split(" ")[0]
    like = [p for p in own if p.series.cell[1:] == name.cell[1:] and p.series.against == name.against]
    alike = [point for point in like if point.series.arm.split(" ")[0] == mesh]
    return alike[0] if len(alike) == 1 else None


def _answer(trend: Trend, seen: Sequence[_Seen]) -> str:
    nights = {point.run_id for point in trend.points if point.value is not None}
    if not nights:
        return f"No night of {trend.schedule} has given a value yet."
    count = f"{len(nights)} night{'s' if len(nights) > 1 else ''}"
    shown_now = _visible_now(seen)
    news = sorted((s for s in trend.steps if s.state in ("confirmed", "suspected")), key=_urgency)
    closed = len(trend.steps) - len(news)
    aside = f" {closed} earlier {'steps were' if closed > 1 else 'step was'} settled." if closed else ""
    if news:
        first = f"{_capital(STATE_WORDS[news[0].state])}: {step_sentence(news[0])}."
        more = f" {len(news) - 1} more {'steps are' if len(news) > 2 else 'step is'} open." if len(news) > 1 else ""
        return f"{first}{more}{aside} {count} were looked at; {shown_now}."
    if shown_now == _TOO_FEW:
        return f"No step can show yet: {count} of the {_NEEDED} that are needed."
    return f"No {'open ' if closed else ''}step in {count}; {shown_now}.{aside}"


_TOO_FEW = "too few of them to say what would show"


def _visible_now(seen: Sequence[_Seen]) -> str:
    """Return the range of smallest visible steps over everything that is a ratio."""
    sizes: dict[str, list[float]] = {}
    for one in seen:
        if one.line.visible is not None and one.line.metric.scale == "ratio":
            sizes.setdefault(one.line.metric.name, []).append(one.line.visible)
    if not sizes:
        return _TOO_FEW
    words = []
    for name, values in sizes.items():
        low, high = (shown(METRIC_OF[name], value).lstrip("+") for value in (min(values), max(values)))
        words.append(f"{low} in {name}" if low == high else f"{low} to {high} in {name}")
    return f"the smallest one that would show within 14 nights is {', '.join(words)}"


def _urgency(step: Step) -> tuple[int, float]:
    return _URGENCY[step.state], -step.detected_at.timestamp()


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _parts(trend: Trend, seen: Sequence[_Seen]) -> Iterator[Part]:
    if trend.steps:
        yield _step_grid(trend.steps)
    if trend.baseline is not None:
        yield from _pinned_parts(trend, seen)
    names = dict.fromkeys(one.series for one in seen)
    for at, name in enumerate(names):
        yield Heading(name.title, f"series-{at + 1}")
        for one in seen:
            if one.series == name:
                yield Picture(trend_figure(one.line, f"trend-{at + 1}-{one.line.metric.name}"))
    yield from _happenings(trend)
    yield Text(_HOW_TO_READ)


_HOW_TO_READ = (
    "A point is the mean difference to the control of the same night over that night's blocks, its bar the 95 % "
    "interval of that night alone. Levels are medians between steps. A coloured line is where a step began, the "
    "triangle the night on which it was noticed. Crosses at the bottom are nights without a value.",
    "A step is suspected when nights before and after differ by far more than nights usually do (robust t above 4, "
    "more where one night resembles the next). It is then measured again on 10 fresh blocks, both versions side by "
    "side, and is confirmed when they differ at p < .01 in the same direction, else not reproduced. Where no version "
    "changed, the same thing is measured again and held against the nights before. A step that came with a change of "
    "the environment and none of the mesh is noted and not announced. What was said of a night is never taken back.",
)


def _step_grid(steps: Sequence[Step]) -> Grid:
    columns = (
        "step",
        "state",
        "what",
        "size",
        "began",
        "noticed",
        "what changed",
        "confirming run",
        "finding",
        "acknowledged",
    )
    rows = tuple(
        (
            Cell(str(step.id)),
            Cell(STATE_WORDS[step.state], _TONES[step.state]),
            Cell(f"{METRIC_OF[step.metric].title} of {step.series.title}"),
            Cell(shown(METRIC_OF[step.metric], step.size)),
            Cell(f"{step.onset_at:%Y-%m-%d}", link=_run_page(step.onset_run_id)),
            Cell(f"{step.detected_at:%Y-%m-%d}", link=_run_page(step.detected_run_id)),
            Cell(f"{step.cause.kind}: {step.cause.text}" if step.cause.kind != "nothing" else "nothing on record"),
            Cell(
                step.confirming_run_id[:_SHORT_ID] if step.confirming_run_id else "none",
                link=_run_page(step.confirming_run_id) if step.confirming_run_id else None,
            ),
            Cell(step.finding or ("under way" if step.confirming_run_id else "not yet")),
            Cell(f"{step.changed_by}: {step.reason}" if step.reason else ""),
        )
        for step in sorted(steps, key=_urgency)
    )
    return Grid("steps", "Steps", columns, rows, frozenset({0, 3}))


def _run_page(run_id: str) -> str:
    return f"runs/{run_id}/index.html"


def _pinned_parts(trend: Trend, seen: Sequence[_Seen]) -> Iterator[Part]:
    baseline = trend.baseline
    if baseline is None:
        return
    said = (
        f"Pinned as baseline: run {baseline.run_id[:_SHORT_ID]}, by {baseline.pinned_by} on "
        f"{baseline.pinned_at:%Y-%m-%d}: {baseline.reason}. The last night is compared with it, each divided by its "
        "own control; nights and runs differ by more than their blocks do, so small differences mean little."
    )
    rows = []
    for one in seen:
        last = next((point for point in reversed(one.line.points) if point.value is not None), None)
        pinned = _pinned_point(trend, one.series, one.line.metric.name)
        if last is None or pinned is None or (shift := against_pinned(last, pinned)) is None:
            continue
        metric, ends = one.line.metric, shift.interval
        rows.append(
            texts(
                one.series.title,
                metric.title,
                f"{pinned.arm['version']}: {shown(metric, pinned.value or 0.0)} ({pinned.blocks} blocks)",
                f"{last.arm['version']}: {shown(metric, last.value or 0.0)} ({last.blocks} blocks)",
                shown(metric, shift.estimate),
                ABSENT if ends is None else f"[{shown(metric, ends.low)}, {shown(metric, ends.high)}]",
            )
        )
    columns = (
        "series",
        "measured",
        "pinned run, to its control",
        "last night, to its control",
        "difference",
        "95 % interval",
    )
    yield Text(
        (said,) if rows else (said, "No series of this schedule can be compared with it: it measured other cells.")
    )
    if rows:
        yield Grid("pinned", "Against the pinned run", columns, tuple(rows), frozenset({4, 5}))


def _happenings(trend: Trend) -> Iterator[Part]:
    """Yield tables of what changed around the mesh, what people noted, and nights without a value."""
    changes = {
        (change.point.at, change.text): change
        for name in dict.fromkeys(point.series for point in trend.points)
        for change in environment_changes(_of_first_metric(trend, name))
    }
    rows = [texts(f"{at:%Y-%m-%d %H:%M}", "environment", text, "recognised") for at, text in changes]
    rows += [texts(f"{a.at:%Y-%m-%d %H:%M}", "remark", a.text, a.made_by) for a in trend.annotations]
    if rows:
        ordered = tuple(sorted(rows, key=lambda row: row[0].text))
        yield Grid("happenings", "Changes and remarks", ("night (UTC)", "kind", "what", "by"), ordered)
    lost: dict[tuple[str, str], list[Point]] = {}
    for point in trend.points:
        if point.value is None:
            lost.setdefault((f"{point.at:%Y-%m-%d %H:%M}", point.reason or "no value"), []).append(point)
    gaps = [texts(at, _of_what(points, trend), reason) for (at, reason), points in lost.items()]
    gaps += [texts(f"{night.at:%Y-%m-%d %H:%M}", "the whole night", night.reason) for night in trend.missed]
    if gaps:
        newest = tuple(sorted(gaps, key=lambda row: row[0].text, reverse=True)[:MOST_GAPS])
        yield Grid(
            "gaps", "Nights without a value, the newest first", ("night (UTC)", "what", "why"), newest, folded=True
        )
    if trend.points:
        yield _night_grid(trend)


def _of_first_metric(trend: Trend, name: SeriesName) -> list[Point]:
    own = [point for point in trend.points if point.series == name and point.value is not None]
    return [point for point in own if point.metric == own[0].metric]


def _of_what(points: Sequence[Point], trend: Trend) -> str:
    """Return which results of a night are lost for one reason."""
    night = sum(point.run_id == points[0].run_id for point in trend.points)
    if len(points) == night:
        return "all results of the night"
    first = f"{points[0].series.title}, {points[0].metric}"
    return first if len(points) == 1 else f"{first}, and {len(points) - 1} more results"


def _night_grid(trend: Trend) -> Grid:
    columns = (
        "night (UTC)", "run", "series", "measured", "version", "control", "arm", "unit", "difference", "95 % interval",
        "blocks"
    )  # fmt: skip
    rows = []
    shown_nights = sorted({point.at for point in trend.points})[-NIGHTS_SHOWN:]
    for point in reversed(trend.points):
        if point.at < shown_nights[0]:
            break
        metric, ends = METRIC_OF[point.metric], interval_of(point)
        rows.append(
            (
                Cell(f"{point.at:%Y-%m-%d %H:%M}"),
                Cell(point.run_id[:_SHORT_ID], link=_run_page(point.run_id)),
                Cell(point.series.title),
                Cell(metric.title),
                Cell(str(point.arm["version"])),
                Cell(level(point.control_level)),
                Cell(level(point.arm_level)),
                Cell(metric.unit),
                Cell(ABSENT if point.value is None else shown(metric, point.value)),
                Cell(ABSENT if ends is None else f"[{shown(metric, ends[0])}, {shown(metric, ends[1])}]"),
                Cell(str(point.blocks)),
            )
        )
    title = f"The last {len(shown_nights)} nights; the tables behind the figures have all of them"
    return Grid("nights", title, columns, tuple(rows), frozenset({5, 6, 8, 9, 10}), folded=True)
