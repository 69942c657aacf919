"""The run diary: every trial over wall-clock time, so that a drift or a bad hour shows at a glance."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from meshgauge.run import RunRecord
from reports.comparing.questions import arm_name, scope_of
from reports.figures.canvas import (
    FAINT,
    GRID,
    HEAD_IN,
    INK,
    WIDTH_IN,
    ArmStyle,
    FigurePage,
    Row,
    axes_at,
    new_figure,
    put_title,
    shortened,
)
from reports.readings.metrics import METRIC_OF
from reports.readings.trials import MeasuredTrial, Readings

TITLE = "Run diary: every trial in the order it was made"
PLOT_HEIGHT_IN = 3.0
LEGEND_COLUMNS = 3
LEGEND_ROW_IN = 0.24
MOST_NOTES = 8
NOTE_IN = 0.17
LEVELS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)
INVALID = "#b3261e"


def diary_figure(run: RunRecord, readings: Readings, styles: Mapping[str, ArmStyle], name: str) -> FigurePage | None:
    """Return the diary: trials, and environments that never got as far; None when nothing was ever started."""
    started_at = run.started_at or run.created_at
    turns = [turn for turn in readings.trials if turn.trial.started_at is not None]
    rows = sorted((*_rows(turns, started_at), *_failed(run, started_at)), key=lambda row: float(row["minute"] or 0))
    if not rows:
        return None
    invalid = sum(bool(row["reason"]) for row in rows)
    return FigurePage(
        name=name,
        title=TITLE,
        alt=f"{len(turns)} trials over {rows[-1]['minute']:.1f} minutes; {invalid} trials or environments invalid.",
        rows=tuple(rows),
        draw=partial(_draw, rows, len(turns), started_at, styles),
    )


def _start(turn: MeasuredTrial) -> dt.datetime:
    return turn.trial.started_at or dt.datetime.max.replace(tzinfo=dt.UTC)


def _rows(turns: Sequence[MeasuredTrial], started_at: dt.datetime) -> list[Row]:
    """Return a row a trial; its p50 over the median p50 of its own cell puts all cells on one axis."""
    levels: dict[str, list[float]] = defaultdict(list)
    for turn in turns:
        value = turn.reading[METRIC_OF["p50"].name]
        if value is not None:
            levels[turn.cell.key].append(value)
    rows: list[Row] = []
    for turn in turns:
        value, own = turn.reading["p50"], levels[turn.cell.key]
        rows.append(
            {
                "minute": (_start(turn) - started_at).total_seconds() / 60,
                "started_at": _start(turn).isoformat(),
                "block": turn.trial.block + 1,
                "arm": arm_name(turn.cell),
                "scope": str(scope_of(turn.cell)),
                "p50_ms": value,
                "p50_to_own_median": None if value is None else value / statistics.median(own),
                "reason": why_invalid(turn),
            }
        )
    return rows


def _failed(run: RunRecord, started_at: dt.datetime) -> list[Row]:
    """Return a row for each attempt at an environment that came to a bad end."""
    names = {cell.environment.key: arm_name(cell) for cell in run.cells}
    return [
        {
            "minute": (environment.started_at - started_at).total_seconds() / 60,
            "started_at": environment.started_at.isoformat(),
            "block": environment.block + 1,
            "arm": names[environment.key],
            "scope": environment.key,
            "p50_ms": None,
            "p50_to_own_median": None,
            "reason": environment.reason or f"environment {environment.outcome}",
        }
        for environment in run.environments
        if environment.outcome not in {"done", None}
    ]


def why_invalid(turn: MeasuredTrial) -> str | None:
    """Return why a trial is left out of some or all verdicts; None for a valid one."""
    gates = [gate.message for gate in turn.trial.gates if gate.status == "invalid"]
    if gates:
        return "; ".join(dict.fromkeys(gates))
    return (turn.trial.reason or f"trial {turn.trial.state}") if turn.spoiled else None


def _draw(rows: Sequence[Row], trials: int, started_at: dt.datetime, styles: Mapping[str, ArmStyle]) -> Figure:
    seen = {row["arm"] for row in rows}
    arms = [arm for arm in styles if arm in seen]
    notes = _notes(rows)
    legend_rows = math.ceil(len(arms) / LEGEND_COLUMNS)
    bottom = 0.72 + LEGEND_ROW_IN * legend_rows + NOTE_IN * len(notes)
    figure = new_figure(HEAD_IN + PLOT_HEIGHT_IN + bottom)
    what = f"p50 of each trial as a multiple of the median of its own cell; n = {trials} trials."
    put_title(figure, TITLE, what, "Crossed out: left out of verdicts; the reason of each number stands below.")
    axes = axes_at(figure, 0.72, bottom, WIDTH_IN - 0.95, PLOT_HEIGHT_IN)
    for arm in arms:
        _dots(axes, [row for row in rows if row["arm"] == arm], styles[arm], shortened(arm, 30))
    _crosses(axes, rows, notes)
    _scales(axes, rows, started_at)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.5 / PLOT_HEIGHT_IN),
        ncols=LEGEND_COLUMNS,
        fontsize=8.5,
        labelcolor=INK,
        frameon=False,
        borderaxespad=0,
        handletextpad=0.3,
    )
    for at, (reason, number) in enumerate(notes.items()):
        y = (0.08 + NOTE_IN * (len(notes) - at - 1)) / float(figure.get_size_inches()[1])
        text = f"{number}: {shortened(reason, 105)}"
        figure.text(0.02, y, text, size=7.5, color=INVALID, va="bottom", parse_math=False)
    return figure


def _notes(rows: Sequence[Row]) -> dict[str, int]:
    """Return the commonest reasons with the number that stands beside their crosses."""
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["reason"]:
            counts[str(row["reason"])] += 1
    commonest = sorted(counts, key=lambda reason: -counts[reason])[:MOST_NOTES]
    return {reason: at + 1 for at, reason in enumerate(commonest)}


def _dots(axes: Axes, rows: Sequence[Row], style: ArmStyle, label: str) -> None:
    seen = [(float(r["minute"] or 0), float(r["p50_to_own_median"])) for r in rows if r["p50_to_own_median"]]
    x, y = [at for at, _ in seen], [value for _, value in seen]
    axes.plot(
        x, y, ls="none", marker=style.marker, ms=5, color=style.colour, alpha=0.85, label=label.replace("$", r"\$")
    )


def _crosses(axes: Axes, rows: Sequence[Row], notes: Mapping[str, int]) -> None:
    """Cross out invalid trials where they lie; those without any value stand at the bottom."""
    for row in rows:
        if not row["reason"]:
            continue
        x, y = float(row["minute"] or 0), row["p50_to_own_median"]
        transform = axes.transData if y else axes.get_xaxis_transform()
        height = float(y) if y else 0.03
        axes.plot([x], [height], "x", ms=9, mew=1.8, color=INVALID, transform=transform, clip_on=False, zorder=5)
        number = notes.get(str(row["reason"]))
        if number:
            place: dict[str, Any] = {"xytext": (5, 4), "textcoords": "offset points", "xycoords": transform}
            axes.annotate(str(number), (x, height), size=7.5, color=INVALID, **place)


def _scales(axes: Axes, rows: Sequence[Row], started_at: dt.datetime) -> None:
    values = [float(r["p50_to_own_median"]) for r in rows if r["p50_to_own_median"]] or [1.0]
    low, high = min(*values, 0.93) * 0.97, max(*values, 1.07) * 1.03
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    inside = [t for t in LEVELS if low <= t <= high]
    room = math.log(high / low) / 9
    ticks: list[float] = []
    for tick in sorted(inside, key=lambda t: abs(math.log(t))):
        if all(abs(math.log(tick / kept)) >= room for kept in ticks):
            ticks.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{t:g} x" for t in sorted(ticks)])
    axes.axhline(1, color=FAINT, lw=1, zorder=0)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.set_xlabel(f"minutes since {started_at:%Y-%m-%d %H:%M} UTC", size=8.5, color=FAINT)
