"""Figures of the chapters: units, n and interval in words, all data inside the axes, text that can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from meshgauge.matrix import Hop, MeshArm
from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.chapters.book import chapters_of
from reports.figures.canvas import FigurePage
from reports.figures.matrix import _luminance
from reports.pages.chapter import Picture

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
RATES = [{"rate_rps": r, "connections": 16, "warm_up_s": 3, "window_s": 20} for r in (200, 1000, 5000)]


def _figures(run: RunRecord) -> dict[str, FigurePage]:
    return {
        part.figure.name: part.figure
        for chapter in chapters_of(analyse(run))
        for part in chapter.parts
        if isinstance(part, Picture)
    }


@pytest.fixture
def pages(make_run: MakeRun, make_arm: MakeArm) -> dict[str, FigurePage]:
    """Return the figures of a run with releases, twins and a mixed pair, and of one over several rates."""
    releases = [make_arm(f"envoy-1.{minor}.0", "envoy", f"1.{minor}.0") for minor in (36, 37, 38)]
    mixed = MeshArm("mixed", "pair", (Hop("client", "envoy", "1.38.0"), Hop("server", "nginx", "1.31.0")))
    arms = (make_arm("none"), make_arm("none-again"), *releases, make_arm("nginx-1.31.0", "nginx", "1.31.0"), mixed)
    truth = {"envoy-1.36.0": 1.5, "envoy-1.37.0": 1.52, "envoy-1.38.0": 1.7, "nginx-1.31.0": 1.2, "mixed": 1.4}
    rates = _figures(make_run(ratio={"envoy-1.40.0": 1.6}, loads=RATES, blocks=6))
    return {**_figures(make_run(arms, ratio=truth)), "rate-latency": rates["rate-latency"]}


NAMES = (
    "releases-1",
    "shift-1",
    "rate-latency",
    "memory",
    "overhead",
    "interoperability-mtls",
    "aa-panel",
    "blockwise",
)


def _drawn_texts(figure: Figure) -> Sequence[Text]:
    found = list(figure.texts)
    for axes in figure.axes:
        found += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]  # type: ignore[attr-defined]
        found += [label for label in (*axes.get_xticklabels(), *axes.get_yticklabels()) if _tick_shows(axes, label)]
    for legend in figure.legends:
        found += legend.get_texts()
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def _tick_shows(axes: Axes, label: Text) -> bool:
    along = label in axes.get_xticklabels()
    low, high = axes.get_xlim() if along else axes.get_ylim()
    at = float(label.get_position()[0 if along else 1])
    return bool(min(low, high) <= at <= max(low, high))


@pytest.mark.parametrize("name", NAMES)
def test_the_lines_beneath_the_title_give_unit_n_and_interval(pages: dict[str, FigurePage], name: str) -> None:
    head = " ".join(text.get_text() for text in pages[name].draw().texts[1:3])
    assert any(unit in head for unit in (" %", " ms", "MiB", "cores"))
    assert "n = " in head
    assert "…" not in head, head
    if name not in {"interoperability-mtls", "blockwise"}:  # numbers with intervals in its table; single blocks
        assert "interval" in head or "band" in head


@pytest.mark.parametrize("name", NAMES)
def test_no_text_runs_out_of_the_picture_or_over_another(pages: dict[str, FigurePage], name: str) -> None:
    figure = pages[name].draw()
    canvas: Any = FigureCanvasAgg(figure)  # its drawing methods carry no types
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = canvas.get_width_height()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in _drawn_texts(figure)]
    for said, box in boxes:
        assert box.x0 >= -1, said
        assert box.y0 >= -1, said
        assert box.x1 <= width + 1, said
        assert box.y1 <= height + 1, said
    for at, (one, box) in enumerate(boxes):
        for other, second in boxes[at + 1 :]:
            across = min(box.x1, second.x1) - max(box.x0, second.x0)
            down = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert across < 2 or down < 3, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_large_enough_for_a_page(pages: dict[str, FigurePage], name: str) -> None:
    assert all(float(text.get_fontsize()) >= 7.5 for text in _drawn_texts(pages[name].draw()))


def test_the_ladder_holds_every_interval(pages: dict[str, FigurePage]) -> None:
    page = pages["releases-1"]
    for axes, metric in zip(page.draw().axes, ("p50", "p99", "cpu"), strict=True):
        low, high = axes.get_ylim()
        rows = [row for row in page.rows if row["metric"] == metric]
        assert len(rows) == 2
        assert all(low <= float(row[key] or 0) <= high for row in rows for key in ("low_percent", "high_percent"))


def test_the_rates_figure_holds_every_point_and_bar(pages: dict[str, FigurePage]) -> None:
    page = pages["rate-latency"]
    share, tail, median = page.draw().axes
    for axes, metric in ((median, "p50"), (tail, "p99")):
        low, high = axes.get_ylim()
        left, right = axes.get_xlim()
        for row in (row for row in page.rows if row["metric"] == metric):
            assert low <= float(row["low_95_ms"] or 0) <= float(row["high_95_ms"] or 0) <= high
            assert left < float(row["offered_rps"] or 0) < right
    assert share.get_xlabel() == "offered requests a second (rps)"


def test_the_shift_holds_its_band(pages: dict[str, FigurePage]) -> None:
    page = pages["shift-1"]
    low, high = page.draw().axes[0].get_ylim()
    assert all(low <= float(row["low_simultaneous_percent"] or 0) for row in page.rows)
    assert all(float(row["high_simultaneous_percent"] or 0) <= high for row in page.rows)
    assert all(row["blocks"] == 10 for row in page.rows)


def test_numbers_in_the_heatmap_stand_out_from_their_field(pages: dict[str, FigurePage]) -> None:
    axes = pages["interoperability-mtls"].draw().axes[0]
    fields = [patch for patch in axes.patches if patch.get_hatch() is None]
    assert len(fields) == 5  # three releases and nginx with themselves, and the mixed pair
    for field in fields:
        box = field.get_extents().transformed(axes.transData.inverted())
        ground = _luminance(field.get_facecolor())  # type: ignore[arg-type]
        low, high = sorted((box.y0, box.y1))  # rows count downwards
        places = [(text, *text.get_position()) for text in axes.texts]
        inside = [text for text, x, y in places if box.x0 < x < box.x1 and low < y < high]
        assert len(inside) == 4
        for text in inside:
            ink = _luminance(to_rgb(text.get_color()))
            contrast = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
            assert contrast >= 3.5, (text.get_text(), contrast)


def test_the_memory_bars_reach_their_totals(pages: dict[str, FigurePage]) -> None:
    page = pages["memory"]
    axes = page.draw().axes[0]
    ends = sorted({round(patch.get_x() + patch.get_width(), 6) for patch in axes.patches})  # type: ignore[attr-defined]
    totals = {round(float(row["memory_mib"] or 0), 6) for row in page.rows if row["component"] == "total"}
    assert totals <= set(ends)
    assert max(totals) <= axes.get_xlim()[1]


def test_each_block_has_a_line(pages: dict[str, FigurePage]) -> None:
    page = pages["blockwise"]
    figure = page.draw()
    assert sum(len(axes.lines) for axes in figure.axes) == len(page.rows) == 50
    values = [float(row[key] or 0) for row in page.rows for key in ("control_p50_ms", "arm_p50_ms")]
    low, high = figure.axes[0].get_ylim()
    assert low < min(values) <= max(values) < high
    assert all(math.isfinite(value) for value in values)
