"""Quantities, durations and moments as Kubernetes writes them."""

from __future__ import annotations

import pytest

from adapters.kubernetes.server.quantities import duration_s, moment, quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("4", 4.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("12345678n", 0.012345678),
        ("7u", 7e-6),
        ("64Mi", 64 * 2**20),
        ("16085924Ki", 16085924 * 1024),
        ("1e3", 1000.0),
        ("2E", 2e18),
        ("129M", 129e6),
        (3, 3.0),
    ],
)
def test_quantities_have_their_value(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "m", "4 cores", "1e", "64mi", "--1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity(text)


def test_durations_are_seconds() -> None:
    assert duration_s("15.193s") == pytest.approx(15.193)
    assert duration_s("1m30s") == 90.0
    assert duration_s("500ms") == 0.5
    for text in ("", "15", "s", "15 s"):
        with pytest.raises(ValueError, match="no duration"):
            duration_s(text)


def test_moments_are_seconds_since_the_epoch() -> None:
    assert moment("1970-01-01T00:01:00Z") == 60.0
    assert moment("1970-01-01T00:00:01.250000Z") == 1.25
    assert moment("1970-01-01T01:00:01.123456789+01:00") == pytest.approx(1.123456)
    with pytest.raises(ValueError, match="time zone"):
        moment("1970-01-01T00:01:00")
