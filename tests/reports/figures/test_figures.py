"""Figures: their labels, units and data; all data drawn; nothing about pixels."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.figures.canvas import CONTROL, FigurePage, arm_styles
from reports.figures.gallery import Gallery, gallery_of

MakeRun = Callable[..., RunRecord]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2}


def _gallery(run: RunRecord) -> Gallery:
    return gallery_of(analyse(run))


def _texts(figure: Figure) -> str:
    words = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        words += [text.get_text() for text in axes.texts]
        words += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        words += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        legend = axes.get_legend()
        words += [text.get_text() for text in legend.get_texts()] if legend else []
    for legend in figure.legends:
        words += [text.get_text() for text in legend.get_texts()]
    return "\n".join(words)


def _forest(gallery: Gallery) -> FigurePage:
    return next(iter(gallery.forests.values()))


def test_the_forest_names_question_unit_n_and_every_verdict(make_run: MakeRun) -> None:
    page = _forest(_gallery(make_run(ratio=TRUTH)))
    said = _texts(page.draw())
    assert "Each mesh against no mesh" in said
    assert "Difference to no mesh in %, with 95 % interval; n = 10 blocks." in said
    for title in ("median latency (p50)", "tail latency (p99)", "CPU of app and data plane"):
        assert title in said
    assert said.count("slower") == 6
    assert "envoy-1.40.0 · mtls" in said


def test_the_forests_rows_are_its_data_and_lie_inside_the_chart(make_run: MakeRun) -> None:
    page = _forest(_gallery(make_run(ratio={**TRUTH, "haproxy-2.8.9": 9.0})))
    figure = page.draw()
    assert len(page.rows) == 12
    for axes, metric in zip(figure.axes, ("p50", "p99", "cpu"), strict=True):
        low, high = axes.get_xlim()
        for row in (row for row in page.rows if row["metric"] == metric):
            for key in ("difference_percent", "low_percent", "high_percent", "high_selected_percent"):
                value = row[key]
                assert isinstance(value, float)
                assert low <= math.log1p(value / 100) <= high
        (points,) = (found for found in axes.collections if isinstance(found, PathCollection))
        markers = np.asarray(points.get_offsets())[:, 0].tolist()
        estimates = [row["difference_percent"] for row in page.rows if row["metric"] == metric]
        assert [100 * math.expm1(x) for x in markers] == pytest.approx(estimates)


def test_invalid_rows_are_listed_not_hidden(make_run: MakeRun) -> None:
    page = _forest(_gallery(make_run(edit=lambda t: None if t.cell.startswith("nginx") and t.block > 2 else t)))
    said = _texts(page.draw())
    assert "nginx-1.31.0 · mtls" in said
    assert said.count("invalid") == 3
    assert any("3 of 10 planned blocks" in str(row["reason"]) for row in page.rows)


def test_percentile_curves_end_where_requests_run_out(make_run: MakeRun) -> None:
    gallery = _gallery(make_run(ratio=TRUTH))
    page = next(iter(gallery.percentiles.values()))
    highest = max(float(row["percentile"] or 0) for row in page.rows)
    assert 99 <= highest <= 99.5  # 20 000 requests: 100 lie above p99.5
    figure = page.draw()
    said = _texts(figure)
    assert "Net response time in ms" in said
    assert "n = 10 blocks" in said
    for label in ("p50", "p90", "p99"):
        assert label in said
    assert "p99.9" not in said
    assert all(text.endswith("ms") for text in _tick_labels(figure.axes[0]))


def _tick_labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_curve_is_the_geometric_mean_of_runs_with_their_t_interval(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    page = next(iter(_gallery(run).percentiles.values()))
    logs = [
        math.log((t.load.clock("net").quantile_ns(0.9) or math.nan) / 1e6)
        for t in run.trials
        if t.load and t.cell.startswith("none/")
    ]
    row = next(row for row in page.rows if row["arm"] == "none" and row["percentile"] == 90.0)
    half = 2.5705818366 * float(np.std(logs, ddof=1)) / math.sqrt(6)  # t table: 0.975, 5 degrees of freedom
    assert row["latency_ms"] == pytest.approx(math.exp(np.mean(logs)))
    assert row["low_95_ms"] == pytest.approx(math.exp(np.mean(logs) - half))
    assert row["high_95_ms"] == pytest.approx(math.exp(np.mean(logs) + half))


def test_the_parts_of_a_cost_add_up_to_its_total(make_run: MakeRun) -> None:
    page = next(iter(_gallery(make_run()).costs.values()))
    for arm in {row["arm"] for row in page.rows}:
        parts = {row["component"]: float(row["cores_per_1000_rps"] or 0) for row in page.rows if row["arm"] == arm}
        total = parts.pop("total")
        assert sum(parts.values()) == pytest.approx(total)
        assert "load_generator" not in parts
    said = _texts(page.draw())
    assert "cores per 1000 rps" in said
    assert "client proxy" in said
    assert "95 % interval on the total" in said


def _sometimes_dead(trial: TrialRecord) -> TrialRecord:
    if trial.trial_id == "trial-3":
        return replace(trial, state="failed", reason="proxy $died$ at 7 %", load=None, gates=())
    return trial


def test_the_diary_has_every_trial_the_control_included_and_crosses_invalid_ones(make_run: MakeRun) -> None:
    run = make_run(blocks=6, edit=_sometimes_dead)
    diary = _gallery(run).diary
    assert diary is not None
    assert len(diary.rows) == len(run.trials)
    assert {row["arm"] for row in diary.rows} == {"none"} | {f"{arm.label} · mtls" for arm in run.arms[1:]}
    figure = diary.draw()
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    dots = sum(len(np.atleast_1d(line.get_xdata())) for line in figure.axes[0].lines if line.get_marker() == "o")
    assert (len(crosses), dots) == (1, len(run.trials) - 1)
    assert "1: proxy $died$ at 7 %" in _texts(figure)
    assert "minutes since 2026-07-01 22:00 UTC" in _texts(figure)


def test_the_diary_crosses_environments_that_never_came_up(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    failed = replace(run.environments[3], outcome="failed", reason="port 15001 is taken")
    diary = _gallery(replace(run, environments=(*run.environments, failed))).diary
    assert diary is not None
    assert [row["reason"] for row in diary.rows if row["reason"]] == ["port 15001 is taken"]
    assert "1: port 15001 is taken" in _texts(diary.draw())


def test_a_run_without_trials_has_no_figures(make_run: MakeRun) -> None:
    assert _gallery(make_run(edit=lambda _: None)).all == ()


def test_one_block_is_drawn_without_bands(make_run: MakeRun) -> None:
    gallery = _gallery(make_run(blocks=1))
    assert all(row["low_95_ms"] is None for page in gallery.percentiles.values() for row in page.rows)
    assert all(page.png().startswith(b"\x89PNG") for page in gallery.all)


def test_control_is_grey_and_every_other_arm_has_a_look_of_its_own(
    make_run: MakeRun, make_arm: Callable[..., MeshArm]
) -> None:
    arms = (make_arm("none"), *(make_arm(f"mesh-{i}", "envoy", f"1.{i}.0") for i in range(20)))
    styles = arm_styles(make_run(arms, blocks=1))
    assert styles["none"].colour == CONTROL
    assert len(set(styles.values())) == 21


def test_hostile_names_are_drawn_as_they_are(make_run: MakeRun) -> None:
    def failing(trial: TrialRecord) -> TrialRecord:
        return replace(trial, state="failed", reason=r"$\frac{1}{$ </svg>", load=None, gates=())

    run = make_run(blocks=6, edit=lambda t: failing(t) if t.block == 2 else t)
    for page in _gallery(run).all:
        assert page.png().startswith(b"\x89PNG")
        assert b"<script" not in page.svg()


def test_file_names_are_unique_and_safe(make_run: MakeRun) -> None:
    loads = [{"name": name, "rate_rps": 1000, "window_s": 20} for name in ("a.b", "a+b", "a-b")]
    names = [page.name for page in _gallery(make_run(blocks=6, loads=loads)).all]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in names)


def test_figures_are_drawn_in_several_threads_at_once(make_run: MakeRun) -> None:
    pages = _gallery(make_run(blocks=6)).all
    drawn: list[bytes] = []
    threads = [threading.Thread(target=lambda p=page: drawn.append(p.png())) for page in pages for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 2 * len(pages)
    assert len(set(drawn)) == len(pages)
