"""Reading Prometheus text and looking at ports."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters.contract import Endpoint
from adapters.local import admin
from meshgauge.errors import MeasurementError

TEXT = """# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{code="200",path="a b, c=\\"d\\""} 3
requests_total{code="404",path="x"} 1e+06
requests_total_created{code="200"} 99
other 7 1700000000000
"""


def test_samples_are_summed_over_the_labels_asked_for() -> None:
    assert admin.sum_samples(TEXT, "requests_total") == 1_000_003
    assert admin.sum_samples(TEXT, "requests_total", {"code": "200"}) == 3
    assert admin.sum_samples(TEXT, "requests_total", {"path": "x"}) == 1_000_000
    assert admin.sum_samples(TEXT, "other") == 7
    assert admin.sum_samples(TEXT, "requests_total", {"code": "500"}) == 0


def test_a_closed_port_is_seen_and_named(free_endpoint: Callable[[], Endpoint]) -> None:
    endpoint = free_endpoint()
    assert not admin.accepts_connections(endpoint)
    assert not admin.answers_ok(endpoint, "/")
    with pytest.raises(MeasurementError, match=rf"some-proxy.*{endpoint}"):
        admin.fetch_text("some-proxy", endpoint, "/metrics")
