"""Envoy's rendering says everything out loud: threads, limits, time-outs, identities, and which counters are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.contract import Endpoint
from adapters.local import envoy, parity
from adapters.local.authority import Authority
from adapters.local.proxy import HopOrder
from meshgauge.errors import ConfigurationError, MeasurementError
from meshgauge.matrix import Role
from meshgauge.plan import BUILT_IN_PROFILES, Profile


@pytest.fixture
def order(tmp_path: Path) -> Any:
    """Make the order of one hop."""
    authority = Authority(tmp_path, "e1")

    def make(role: Role = "node", profile: str | Profile = "plain", connections: int = 64) -> HopOrder:
        chosen = BUILT_IN_PROFILES[profile] if isinstance(profile, str) else profile
        own = authority.issue(role) if chosen.mtls else None
        return HopOrder(
            role=role,
            listen=Endpoint("127.0.0.1", 15001),
            upstream=Endpoint("127.0.0.1", 15002),
            admin=Endpoint("127.0.0.1", 15003),
            terminate_tls=own if role == "server" else None,
            originate_tls=own if role == "client" else None,
            peer_spiffe_id="spiffe://meshgauge.local/env/e1/peer" if own else None,
            profile=chosen,
            connections=connections,
            directory=tmp_path,
        )

    return make


def _manager(document: dict[str, Any]) -> dict[str, Any]:
    (chain,) = document["static_resources"]["listeners"][0]["filter_chains"]
    found: dict[str, Any] = chain["filters"][0]["typed_config"]
    return found


def _cluster(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["static_resources"]["clusters"][0]
    return found


def test_the_command_orders_threads_and_stays_in_the_foreground(order: Any) -> None:
    profile = BUILT_IN_PROFILES["plain"].model_copy(update={"proxy_threads": 3})
    launch = envoy.PROXY.launch(Path("/opt/envoy"), order(profile=profile))
    assert launch.argv[launch.argv.index("--concurrency") + 1] == "3"
    assert "--disable-hot-restart" in launch.argv
    assert set(launch.files) == {"envoy.json"}
    assert json.loads(launch.files["envoy.json"]) == envoy.bootstrap(order(profile=profile))


def test_limits_are_out_of_reach_for_both_priorities(order: Any) -> None:
    thresholds = _cluster(envoy.bootstrap(order()))["circuit_breakers"]["thresholds"]
    assert {threshold.pop("priority") for threshold in thresholds} == {"DEFAULT", "HIGH"}
    for threshold in thresholds:
        assert set(threshold) == {"max_connections", "max_pending_requests", "max_requests", "max_retries"}
        assert set(threshold.values()) == {1_000_000_000}


def test_time_outs_follow_the_profile_and_nothing_is_retried(order: Any) -> None:
    profile = BUILT_IN_PROFILES["plain"].model_copy(update={"request_timeout_s": 2.5})
    document = envoy.bootstrap(order(profile=profile))
    (route,) = _manager(document)["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"]["timeout"] == "2.5s"
    assert "retry_policy" not in route["route"]
    assert _cluster(document)["connect_timeout"] == "2.5s"


def test_headers_are_left_alone(order: Any) -> None:
    manager = _manager(envoy.bootstrap(order()))
    assert manager["server_header_transformation"] == "PASS_THROUGH"
    assert manager["skip_xff_append"] is True
    assert manager["generate_request_id"] is False
    assert manager["http_filters"][0]["typed_config"]["suppress_envoy_headers"] is True
    with_id = BUILT_IN_PROFILES["plain"].model_copy(update={"request_id": True})
    assert _manager(envoy.bootstrap(order(profile=with_id)))["generate_request_id"] is True


def test_without_metrics_only_the_counters_of_the_check_are_kept(order: Any) -> None:
    patterns = envoy.bootstrap(order())["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert {pattern["exact"] for pattern in patterns} >= {
        "http.measured.downstream_rq_total",
        "cluster.upstream.upstream_cx_total",
        "cluster.upstream.upstream_rq_retry",
    }
    assert "stats_config" not in envoy.bootstrap(order(profile="observed"))


def test_the_access_log_is_a_file_of_the_hop(order: Any, tmp_path: Path) -> None:
    assert "access_log" not in _manager(envoy.bootstrap(order()))
    (log,) = _manager(envoy.bootstrap(order(profile="observed")))["access_log"]
    assert Path(log["typed_config"]["path"]).parent == tmp_path


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_mutual_tls_names_version_identity_and_peer_on_both_sides(order: Any, version: str) -> None:
    profile = BUILT_IN_PROFILES["mtls"].model_copy(update={"tls_version": version})
    server = envoy.bootstrap(order("server", profile))["static_resources"]["listeners"][0]["filter_chains"][0]
    client = _cluster(envoy.bootstrap(order("client", profile)))
    for socket in (server["transport_socket"], client["transport_socket"]):
        common = socket["typed_config"]["common_tls_context"]
        parameters = common["tls_params"]
        expected = f"TLSv1_{version[-1]}"
        assert (parameters["tls_minimum_protocol_version"], parameters["tls_maximum_protocol_version"]) == (
            expected,
            expected,
        )
        (san,) = common["validation_context"]["match_typed_subject_alt_names"]
        assert san == {"san_type": "URI", "matcher": {"exact": "spiffe://meshgauge.local/env/e1/peer"}}
    assert server["transport_socket"]["typed_config"]["require_client_certificate"] is True
    assert client["transport_socket"]["typed_config"]["sni"] == parity.SERVER_NAME
    assert client["transport_socket"]["typed_config"]["max_session_keys"] == 0


def test_no_tls_without_identities(order: Any) -> None:
    document = envoy.bootstrap(order())
    assert "transport_socket" not in _cluster(document)
    assert "transport_socket" not in document["static_resources"]["listeners"][0]["filter_chains"][0]


def test_counters_of_an_absent_proxy_are_an_error_that_names_the_endpoint(order: Any) -> None:
    with pytest.raises(MeasurementError, match=r"envoy.*127\.0\.0\.1:9\b"):
        envoy.PROXY.counters(replace(order(), admin=Endpoint("127.0.0.1", 9)))


def test_a_program_that_is_no_envoy_is_told(tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho something else\n")
    program.chmod(0o755)
    with pytest.raises(ConfigurationError, match="something else"):
        envoy.PROXY.version(program)
