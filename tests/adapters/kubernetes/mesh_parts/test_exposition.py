"""Counters out of Prometheus text: exact names, labels with anything in them, absence told from zero."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.kubernetes.mesh_parts.exposition import Sample, count, samples, total

PAGE = r"""
# HELP requests_total All requests.
# TYPE requests_total counter
requests_total 7
requests_total{code="200",path="/a b{c}\"d\\e\nf"} 3.5 1700000000000
requests_total{code="500",} 2
requests_total_per_second 99
requests 98
# requests_total 97
latency_bucket{le="+Inf"} 4
up	1
"""


def test_samples_are_those_of_the_exact_name() -> None:
    assert [sample.value for sample in samples(PAGE, "requests_total")] == [7, 3.5, 2]
    assert [sample.value for sample in samples(PAGE, "requests")] == [98]
    assert [sample.value for sample in samples(PAGE, "up")] == [1]


def test_labels_are_read_as_the_client_library_reads_them() -> None:
    own = next(sample.labels for sample in samples(PAGE, "requests_total") if "path" in sample.labels)
    line = r'requests_total{code="200",path="/a b{c}\"d\\e\nf"} 3.5' + "\n"
    theirs = next(iter(text_string_to_metric_families(line))).samples[0].labels
    assert own == theirs


def test_infinite_and_scientific_values_are_numbers() -> None:
    assert next(samples("bytes_total 1.5e+09\n", "bytes_total")) == Sample({}, 1.5e9)
    assert next(samples('x{le="+Inf"} +Inf\n', "x")).value == float("inf")


def test_a_sum_without_samples_is_unknown_and_a_count_is_nothing() -> None:
    assert total(PAGE, "requests_total") == 12.5
    assert total(PAGE, "requests_total", lambda labels: labels.get("code") == "500") == 2
    assert total(PAGE, "requests_total", lambda labels: labels.get("code") == "404") is None
    assert count(PAGE, "requests_total", lambda labels: labels.get("code") == "404") == 0


def test_a_line_that_is_no_sample_is_an_error_not_a_number() -> None:
    with pytest.raises(ValueError, match="many"):
        list(samples('requests_total{code="200"} many\n', "requests_total"))
