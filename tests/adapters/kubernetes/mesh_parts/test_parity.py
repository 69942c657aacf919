"""Settings that are the same for every mesh in a cluster."""

from __future__ import annotations

import re

import pytest

from adapters.contract import FEATURES
from adapters.kubernetes.mesh_parts import parity
from meshgauge.plan import BUILT_IN_PROFILES, Profile

# Gateway API, GEP-2257.
_DURATION = re.compile(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(15, "15s"), (0.25, "250ms"), (1.25, "1s250ms"), (600, "600s"), (0.0001, "1ms"), (59.9996, "60s")],
)
def test_durations_are_written_as_the_gateway_api_reads_them(seconds: float, text: str) -> None:
    assert parity.duration(seconds) == text
    assert _DURATION.match(text)


def test_limits_are_requests_and_without_limits_all_ask_for_the_same() -> None:
    free = parity.proxy_resources(BUILT_IN_PROFILES["plain"])
    assert free == {"requests": {"cpu": "100m", "memory": "128Mi"}}
    half = parity.proxy_resources(Profile(name="p", proxy_cpu_cores=0.5))
    assert half == {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"cpu": "500m"}}


def test_every_feature_of_the_report_has_words() -> None:
    for profile in BUILT_IN_PROFILES.values():
        assert sorted(parity.equal_features(profile)) == sorted(FEATURES)


def test_reasons_come_in_the_order_a_user_can_act_on_them() -> None:
    traced = Profile(name="traced", mtls=True, tracing_ratio=0.5)
    assert "stands as node" in (parity.why_unsupported("M", traced, "pair", ("node",)) or "")
    assert "placement pair" in (parity.why_unsupported("M", traced, "client", ("pair", "client")) or "")
    assert "does not set up traces" in (parity.why_unsupported("M", traced, "pair", ("pair",)) or "")
    assert parity.why_unsupported("M", traced, "pair", ("pair",), no_traces="no: why") == "no: why"
    assert parity.why_unsupported("M", traced, "pair", ("pair",), no_traces=None) is None
    assert parity.why_unsupported("M", BUILT_IN_PROFILES["plain"], "pair", ("pair",)) is None
