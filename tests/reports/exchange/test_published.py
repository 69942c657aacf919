"""Published numbers: units brought to ours, what is missing stays missing, what is wrong is told with its place."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshgauge.errors import InvalidRequestError
from reports.exchange.published import IMPORTERS, PublishedSeries, for_store, from_store, import_series

# Of the shape of Istio's file: made by hand.
ISTIO = """\
StartTime,ActualDuration,Labels,NumThreads,ActualQPS,p50,p90,p99,cpu_mili_avg_istio_proxy_fortioclient,\
cpu_mili_avg_istio_proxy_fortioserver,mem_Mi_avg_istio_proxy_fortioclient,mem_Mi_avg_istio_proxy_fortioserver
2020-08-12T08:44:44.4Z,240,ecbc1c65_qps_1000_c_8_1024_v2-stats-nullvm_both,8,1000,2241,2839,3363,277,236,70.5,103.5
2020-08-12T04:04:47.7Z,240,ff93ac4f_qps_500_c_16_1024_none_mtls_baseline,16,500,517,634,698,3,-,64,70
"""


def fortio(**changes: Any) -> dict[str, Any]:
    """Return a result of the shape Fortio writes."""
    return {
        "RunType": "HTTP",
        "Labels": "my mesh",
        "StartTime": "2026-07-01T22:00:00Z",
        "RequestedQPS": "1000",
        "RequestedDuration": "30s",
        "ActualQPS": 998.5,
        "ActualDuration": 30_045_000_000,
        "NumThreads": 16,
        "DurationHistogram": {
            "Count": 30_000,
            "Min": 0.0003,
            "Max": 0.021,
            "Avg": 0.0012,
            "Percentiles": [
                {"Percentile": 50, "Value": 0.0011},
                {"Percentile": 75, "Value": 0.0013},
                {"Percentile": 99, "Value": 0.0042},
            ],
        },
        "RetCodes": {"200": 29_970, "503": 20, "-1": 10},
        **changes,
    }


def read(text: str, importer: str | None = None) -> PublishedSeries:
    return import_series(text, "series", "a test", importer)


def test_istios_microseconds_millicores_and_mebibytes_become_ours() -> None:
    first, second = read(ISTIO).points
    assert (first.p50_ms, first.p90_ms, first.p99_ms) == (2.241, 2.839, 3.363)
    assert first.cpu_data_plane == pytest.approx(0.277 + 0.236)  # cores per 1000 rps, at 1000 rps
    assert first.memory_data_plane_mib == 174
    assert (first.rate_rps, first.connections, first.window_s) == (1000, 8, 240)
    assert first.arm == "v2-stats-nullvm both, 1024 B"
    assert second.rate_rps == 500
    assert second.cpu_data_plane is None  # one of two proxies has no reading
    assert second.p999_ms is None


def test_half_the_rate_doubles_the_cores_per_1000_rps() -> None:
    text = ISTIO.replace(",3,-,", ",100,100,")
    assert read(text).points[1].cpu_data_plane == pytest.approx(0.4)


def test_fortios_seconds_and_nanoseconds_become_ours() -> None:
    (point,) = read(json.dumps(fortio())).points
    assert [point.p50_ms, point.p99_ms, point.mean_ms, point.max_ms] == pytest.approx([1.1, 4.2, 1.2, 21])
    assert point.window_s == pytest.approx(30.045)
    assert (point.rate_rps, point.achieved_rps, point.connections, point.requests) == (1000, 998.5, 16, 30_000)
    assert point.errors_percent == pytest.approx(0.1)
    assert point.p90_ms is None  # was not asked of Fortio: never made up from its neighbours
    assert point.cpu_data_plane is None


@pytest.mark.parametrize("rate", ["max", "0", 0, -1, None])
def test_fortios_words_for_as_fast_as_it_goes(rate: object) -> None:
    assert read(json.dumps(fortio(RequestedQPS=rate))).points[0].rate_rps is None


def test_lists_and_mesherys_wrapping_are_read() -> None:
    wrapped = [{"name": "x", "runner_results": [fortio(), fortio(Labels="other")]}, fortio(Labels="third")]
    assert [point.arm for point in read(json.dumps(wrapped)).points] == ["my mesh", "other", "third"]


def test_errors_without_counts_are_not_known() -> None:
    assert read(json.dumps(fortio(RetCodes={}))).points[0].errors_percent is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("{}", "no Fortio result"),
        (json.dumps(fortio(ActualQPS="fast")), "$.ActualQPS: 'fast' is no number"),
        (json.dumps(fortio(RequestedQPS="fast")), "$.RequestedQPS: 'fast' is neither a number nor max"),
        (json.dumps(fortio(DurationHistogram={"Count": 0})), "no requests were measured"),
        (json.dumps(fortio(DurationHistogram=3)), "is no object"),
        (json.dumps(fortio(ActualQPS=-5)), "0 or more"),
        (json.dumps(fortio(ActualQPS=10**400)), "is no number"),
        ('{"ActualQPS": 1' + "0" * 5000 + "}", "not JSON"),
        ("a,b\n1,2\n", "no column Labels, NumThreads"),
        (ISTIO.replace(",2241,", ",quick,"), "line 2, p50: 'quick' is no number"),
        (ISTIO.replace("qps_1000_c_8_1024_", ""), "line 2: the label"),
        (ISTIO.replace(",2241,", ",inf,"), "is not finite"),
        (ISTIO.splitlines()[0] + "\n", "no rows"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        read(text)
    assert told in str(refused.value)


def test_an_unknown_importer_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="fortio, istio-csv"):
        read(ISTIO, "wrk")


def test_a_series_survives_the_store() -> None:
    for text in (ISTIO, json.dumps(fortio())):
        series = read(text)
        assert series.importer in IMPORTERS
        assert series.caveats
        assert from_store("series", "a test", series.importer, for_store(series)) == series


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(fortio())), JSON)
def test_whatever_stands_in_a_result_is_read_or_refused_with_a_sentence(field: str, value: Any) -> None:
    with contextlib.suppress(InvalidRequestError):
        read(json.dumps(fortio(**{field: value})))


@given(st.text())
@example("\r0")
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    for importer in IMPORTERS:
        with pytest.raises(InvalidRequestError):
            read(text, importer)
