"""Heatmap of client mesh by server mesh: what each combination adds, in numbers and in lightness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.comparing.comparison import Comparison
from reports.figures.canvas import (
    FAINT,
    HEAD_IN,
    INK,
    WIDTH_IN,
    FigurePage,
    Row,
    axes_at,
    new_figure,
    put_title,
    shortened,
)
from reports.figures.names import fitted
from reports.readings.interoperability import Combination, InteroperabilityMatrix
from reports.wording import count_range, difference, difference_bounds, interval, verdict_text

TITLE = "Which meshes work together, and at what price?"
LABEL_IN = 1.35
MOST_SIDES = 6  # more columns leave no room for the numbers: the table has them
# One hue from pale to dark: order shows without colour vision, and in print.
_MAP = LinearSegmentedColormap.from_list("cost", ["#eaf2f8", "#7fb8dc", "#0072b2", "#003a5c"])


def interoperability_figure(matrix: InteroperabilityMatrix, name: str) -> FigurePage | None:
    """Return the heatmap of one matrix; None where it has more than MOST_SIDES columns."""
    if len(matrix.servers) > MOST_SIDES:
        return None
    return FigurePage(
        name=name,
        title=f"{TITLE} ({matrix.profile}, {matrix.scope})",
        alt="Client mesh to server mesh, against the run's baseline. "
        + "; ".join(map(_said, matrix.fields.values()))
        + ".",
        rows=tuple(map(_row, matrix.fields.values())),
        draw=partial(_draw, matrix),
    )


def field_lines(field: Combination) -> tuple[str, ...]:
    """Return what stands in a field: the state, or p50, p99 and proxies' CPU with the verdict on p50."""
    median = field.against_none.get("p50")
    if field.state != "works":
        return (field.state,)
    if median is None:
        return ("works", "no baseline here")
    numbers = [f"{label} {difference(c)}" for label, c in _shown(field) if c.effect is not None]
    cpu = field.against_none.get("cpu_data_plane")
    if cpu is not None and cpu.effect is not None:
        numbers.append(f"CPU {difference(cpu).split()[0]} cores")
    word = "no verdict" if median.verdict is None or median.verdict.word == "invalid" else verdict_text(median.verdict)
    return (word, *numbers)


def _shown(field: Combination) -> list[tuple[str, Comparison]]:
    return [(name, field.against_none[name]) for name in ("p50", "p99") if name in field.against_none]


def _said(field: Combination) -> str:
    return f"{field.client} to {field.server}: {', '.join(field_lines(field))}"


def _row(field: Combination) -> Row:
    row: dict[str, str | int | float | None] = {
        "client": field.client,
        "server": field.server,
        "state": field.state,
        "reason": field.reason or None,
    }
    for name in ("p50", "p99", "cpu", "cpu_data_plane"):
        c = field.against_none.get(name)
        bounds = (difference_bounds(c) if c else None) or (None, None, None)
        unit = "percent" if c is None or c.metric.scale == "ratio" else "cores_per_1000_rps"
        if name == "cpu_data_plane":
            unit = "cores_per_1000_rps"
        row |= {f"{name}_{unit}": bounds[0], f"{name}_low": bounds[1], f"{name}_high": bounds[2]}
        row[f"{name}_verdict"] = c.verdict.word if c and c.verdict else None
        row[f"{name}_blocks"] = c.n if c else None
    return row


def _draw(matrix: InteroperabilityMatrix) -> Figure:
    width = WIDTH_IN - LABEL_IN - 0.15
    tall = 0.92 if len(matrix.servers) > 4 else 1.0
    plot = tall * len(matrix.clients)
    total = HEAD_IN + 0.42 + plot + 0.42
    figure = new_figure(total)
    counts = {c.n for f in matrix.fields.values() if f.state == "works" for _, c in _shown(f)}
    n = f"n = {count_range(counts)}"
    against = matrix.against or "no baseline"
    what = f"Difference to {against}: p50, p99 in %; CPU of the proxies in cores per 1000 rps; {n} blocks."
    put_title(figure, TITLE, what, f"{matrix.profile}, {matrix.scope}")
    axes = axes_at(figure, LABEL_IN, 0.42, width, plot)
    axes.set_xlim(0, len(matrix.servers))
    axes.set_ylim(len(matrix.clients), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)
    known = [e for f in matrix.fields.values() if (e := _estimate(f)) is not None]
    low, high = (min(*known, 0.0), max(*known, 1e-9)) if len(known) > 1 else (0.0, max([*known, 1e-9]))
    for row, client in enumerate(matrix.clients):
        for column, server in enumerate(matrix.servers):
            field = matrix.fields[client, server]
            estimate = _estimate(field)
            share = None if estimate is None else (estimate - low) / (high - low)
            _field(axes, column, row, field, share, small=len(matrix.servers) > 4)
    _sides(axes, matrix.clients, matrix.servers)
    legend = "lightness: p50, darker adds more   word: verdict on p50   hatched: no number to show"
    figure.text(0.02, 0.12 / total, legend, size=8, color=FAINT, va="bottom")
    return figure


def _estimate(field: Combination) -> float | None:
    c = field.against_none.get("p50")
    return None if c is None or c.effect is None or field.state != "works" else c.effect.estimate


def _field(axes: Axes, column: int, row: int, field: Combination, share: float | None, *, small: bool) -> None:
    face = _MAP(min(max(share, 0.0), 1.0)) if share is not None else (1.0, 1.0, 1.0, 1.0)
    hatch = None if share is not None else "////"
    axes.add_patch(
        Rectangle((column + 0.02, row + 0.02), 0.96, 0.96, facecolor=face, edgecolor="#c3cad2", hatch=hatch, lw=0.5)
    )
    ink = INK if _luminance(face) > 0.21 else "white"  # whichever contrasts more
    lines = field_lines(field)
    step = 0.21
    top = row + 0.5 - step * (len(lines) - 1) / 2
    place: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False}
    if share is None:
        place["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for at, line in enumerate(lines):
        weight = "bold" if at == 0 else "normal"
        size = 7.5 if small else 8.5
        text = shortened(line, 20 if small else 26)
        axes.text(column + 0.5, top + step * at, text, size=size, weight=weight, color=ink, **place)


def _luminance(colour: Sequence[float]) -> float:
    """Return the relative luminance of sRGB as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else math.pow((c + 0.055) / 1.055, 2.4) for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _sides(axes: Axes, clients: Sequence[str], servers: Sequence[str]) -> None:
    place: dict[str, Any] = {"size": 8.5, "color": INK, "parse_math": False}
    for column, server in enumerate(servers):
        axes.text(column + 0.5, -0.06, fitted(server, 18), ha="center", va="bottom", **place)
    for row, client in enumerate(clients):
        axes.text(-0.04, row + 0.5, fitted(client, 18), ha="right", va="center", **place)
    faint: dict[str, Any] = {"size": 8, "color": FAINT}
    axes.text(-0.04, -0.06, "client ↓   server →", ha="right", va="bottom", **faint)


def field_intervals(field: Combination) -> str:
    """Return the intervals of a field in one line, for its table."""
    return "; ".join(f"{name} {difference(c)} {interval(c)}" for name, c in _shown(field) if c.effect is not None)
