"""The chapter beside published results: labelled on every line, all of it told, nothing of it judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from meshgauge.run import RunRecord
from reports.analysis import Analysis, analyse
from reports.chapters.published import MOST_ROWS, published_chapter
from reports.exchange.formats import export
from reports.exchange.published import LABEL, PublishedSeries, import_series
from reports.pages.chapter import Chapter, Grid, Listing, Picture, Text

MakeRun = Callable[..., RunRecord]
PROXIES = ("istio_proxy_fortioclient", "istio_proxy_fortioserver")
HEADER = "Labels,NumThreads,ActualQPS,p50,p90,p99," + ",".join(f"cpu_mili_avg_{name}" for name in PROXIES)
VERDICTS = ("slower", "faster", "equivalent", "inconclusive")


def series(name: str = "istio-2020", *rows: str) -> PublishedSeries:
    lines = rows or (
        "aa_qps_1000_c_16_1024_none_mtls_both,16,1000,1214,1696,2186,197,213",
        "bb_qps_1000_c_16_1024_none_mtls_both,16,1000,1444,2070,2730,178,225",
        "cc_qps_1000_c_64_1024_none_mtls_both,64,1000,2444,3070,4730,178,225",
    )
    return import_series("\n".join((HEADER, *lines)) + "\n", name, f"source of {name}", "istio-csv")


@pytest.fixture
def analysis(make_run: MakeRun) -> Analysis:
    return analyse(make_run(blocks=6, ratio={"envoy-1.40.0": 1.5}))


def chapter_of(analysis: Analysis, *found: PublishedSeries) -> Chapter:
    made = published_chapter(analysis, found)
    assert made is not None
    return made


def parts_of(chapter: Chapter, kind: type[Any]) -> Sequence[Any]:
    return [part for part in chapter.parts if isinstance(part, kind)]


def test_without_published_series_there_is_no_chapter(analysis: Analysis) -> None:
    assert published_chapter(analysis, ()) is None


def test_every_place_says_that_it_was_not_measured_here(analysis: Analysis) -> None:
    chapter = chapter_of(analysis, series())
    assert LABEL in chapter.answer
    warning = parts_of(chapter, Text)[0]
    assert warning.tone == "warning"
    assert "no comparison, no verdict and no threshold" in warning.paragraphs[0]
    (grid,) = parts_of(chapter, Grid)
    assert LABEL in grid.title
    assert LABEL in grid.columns[0]
    (picture,) = parts_of(chapter, Picture)
    assert LABEL.capitalize() in picture.figure.alt
    origins = {row["origin"] for row in picture.figure.rows}
    assert origins == {"measured here", LABEL}
    said = [text.get_text() for axes in picture.figure.draw().axes for text in axes.texts]
    assert f"{LABEL.capitalize()}: istio-2020" in said
    assert "Measured here" in said


def test_only_equal_rate_and_connections_are_drawn_and_all_are_listed(analysis: Analysis) -> None:
    chapter = chapter_of(analysis, series())
    (picture,) = parts_of(chapter, Picture)
    theirs = [row["value"] for row in picture.figure.rows if row["origin"] == LABEL and row["metric"] == "p50"]
    assert theirs == [1.214, 1.444]  # 64 connections are another load
    (grid,) = parts_of(chapter, Grid)
    assert len(grid.rows) == 3
    assert "1000 rps over 16 connections" in picture.figure.title


def test_our_levels_are_means_with_intervals_in_the_unit_of_the_panel(analysis: Analysis) -> None:
    (picture,) = parts_of(chapter_of(analysis, series()), Picture)
    rows = {(row["arm"], row["metric"]): row for row in picture.figure.rows if row["origin"] == "measured here"}
    envoy = rows["envoy-1.40.0 · mtls", "p50"]
    assert envoy["value"] == pytest.approx(0.35 * 1.5, rel=0.1)
    assert envoy["low_95"] < envoy["value"] < envoy["high_95"]
    assert (envoy["unit"], envoy["runs"]) == ("ms", 6)
    cpu = rows["envoy-1.40.0 · mtls", "cpu_data_plane"]
    assert cpu["value"] == pytest.approx(0.4, rel=0.1)
    assert rows["none", "cpu_data_plane"]["value"] == 0


def test_all_that_is_drawn_lies_inside_the_panels(analysis: Analysis) -> None:
    far = series("slow", "aa_qps_1000_c_16_1024_slow,16,1000,900000,1696,9000000,197,213")
    (picture,) = parts_of(chapter_of(analysis, series(), far), Picture)
    figure = picture.figure.draw()
    values = {
        title: [row["value"] for row in picture.figure.rows if row["metric"] == metric]
        for metric, title in (("p50", "median latency"), ("p99", "p99 latency"), ("cpu_data_plane", "CPU of proxies"))
    }
    assert len(figure.axes) == 3
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert all(low <= value <= high for value in values[axes.get_xlabel().split("\n")[0]])


def test_a_publishers_series_is_named_where_there_are_several(analysis: Analysis) -> None:
    (picture,) = parts_of(chapter_of(analysis, series(), series("again")), Picture)
    said = [text.get_text() for axes in picture.figure.draw().axes for text in axes.texts]
    assert any(text.startswith("again: none mtls both") for text in said)


def test_no_word_of_a_verdict_and_every_caveat(analysis: Analysis) -> None:
    found = series()
    chapter = chapter_of(analysis, found)
    listed = [text for listing in parts_of(chapter, Listing) for _, text in listing.points]
    assert all(caveat in listed for caveat in found.caveats)
    assert any("source of istio-2020" in text for text in listed)
    (picture,) = parts_of(chapter, Picture)
    said = " ".join((chapter.answer, picture.figure.alt, picture.figure.title))
    assert not any(word in said for word in VERDICTS)


def test_a_verdict_is_the_same_whatever_was_imported(analysis: Analysis) -> None:
    before = export(analysis, "json")
    chapter_of(analysis, series())
    assert export(analysis, "json") == before


def test_no_match_is_said(analysis: Analysis) -> None:
    chapter = chapter_of(analysis, series("other", "aa_qps_77_c_3_1024_x,3,77,1,2,3,4,5"))
    assert parts_of(chapter, Picture) == []
    assert "none of them has the rate and connections" in chapter.answer
    assert any("1000rps-16c" in text.paragraphs[0] for text in parts_of(chapter, Text))


def test_more_arms_than_fit_are_counted(analysis: Analysis) -> None:
    rows = [f"aa_qps_1000_c_16_1024_arm{at},16,1000,1214,1696,2186,197,213" for at in range(MOST_ROWS + 3)]
    chapter = chapter_of(analysis, series("many", *rows))
    (picture,) = parts_of(chapter, Picture)
    assert len({row["arm"] for row in picture.figure.rows if row["origin"] == LABEL}) == MOST_ROWS
    assert any(f"{MOST_ROWS} of {MOST_ROWS + 3}" in text.paragraphs[0] for text in parts_of(chapter, Text))


def test_fortios_results_have_no_cpu_and_are_drawn_without(analysis: Analysis) -> None:
    result = {
        "Labels": "sidecar", "RequestedQPS": "1000", "ActualQPS": 1000.0, "ActualDuration": 10**10, "NumThreads": 16,
        "DurationHistogram": {"Count": 10_000, "Avg": 0.001, "Percentiles": [{"Percentile": 50, "Value": 0.0011}]},
    }  # fmt: skip
    found = import_series(json.dumps(result), "fortio", "by hand")
    (picture,) = parts_of(chapter_of(analysis, found), Picture)
    theirs = {row["metric"]: row["value"] for row in picture.figure.rows if row["origin"] == LABEL}
    assert theirs == {"p50": pytest.approx(1.1)}
    assert picture.figure.png().startswith(b"\x89PNG")
