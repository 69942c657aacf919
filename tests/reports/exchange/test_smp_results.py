"""SMP results: milliseconds, real ids, every reference met, and nothing said that was not measured."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from meshgauge.document import validate_plan
from meshgauge.histogram import Histogram
from meshgauge.run import RunRecord
from meshgauge.smp.translation import translate
from meshgauge.trial import GateResult, TrialRecord
from reports.analysis import analyse
from reports.exchange.formats import export
from reports.exchange.smp_results import smp_document

MakeRun = Callable[..., RunRecord]

# What each field is in the spec's protos: kind, and int32 where it is one.
TEST_RESULT = {
    "smp_version": str, "id": str, "labels": dict, "start_time": str, "end_time": str, "latencies_ms": dict,
    "actual_qps": float, "details_uri": str, "test_id": str, "mesh_config_id": str, "env_id": str,
}  # fmt: skip
MESH_CONFIG = {
    "smp_version": str, "id": str, "labels": dict, "ingress_gateway": dict, "sidecar": dict, "mesh_telemetry": dict,
    "mesh_policy": dict, "mesh_control_plane": dict, "mesh_policy_enabled": bool, "mesh_telemetry_enabled": bool,
    "mtls_enabled": bool, "proxy_concurrency": int, "mesh_build": str, "proxy_build": str, "exp_group_uuid": str,
    "exp_uuid": str, "profile": str, "mesh_type": dict, "application_metadata": dict,
}  # fmt: skip
TEST_CONFIG = {"smp_version": str, "id": str, "name": str, "labels": dict, "clients": list, "duration": str}
ENVIRONMENT = {
    "smp_version": str, "id": str, "labels": dict, "kubernetes_version": str, "nodes": list,
    "individual_workloads": list, "traffic_metadata": dict,
}  # fmt: skip
MESSAGES: Mapping[str, Mapping[str, type]] = {
    "PerformanceTestResult": TEST_RESULT,
    "ServiceMeshConfig": MESH_CONFIG,
    "PerformanceTestConfig": TEST_CONFIG,
    "EnvironmentConfig": ENVIRONMENT,
}


def _document(run: RunRecord) -> Any:
    return json.loads(export(analyse(run), "smp"))


@pytest.mark.parametrize("message", MESSAGES)
def test_every_entry_is_a_message_of_the_spec(make_run: MakeRun, message: str) -> None:
    entries = _document(make_run(blocks=2))[message]
    assert entries
    for entry in entries:
        for name, value in entry.items():
            assert isinstance(value, MESSAGES[message][name]), (message, name)
        assert all(isinstance(text, str) for text in entry["labels"].values())


def test_latencies_are_milliseconds_of_the_net_clock(make_run: MakeRun) -> None:
    run = make_run(blocks=1)
    by_id = {f"{trial.trial_id}/{trial.attempt}": trial for trial in run.trials}
    for result in _document(run)["PerformanceTestResult"]:
        load = by_id[result["id"]].load
        assert load is not None
        latency = result["latencies_ms"]
        assert list(latency) == ["min", "average", "p50", "p90", "p99", "max"]
        p50_ns = load.clock("net").quantile_ns(0.5)
        assert p50_ns is not None
        assert latency["p50"] == pytest.approx(p50_ns / 1e6)
        assert 0.1 < latency["p50"] < 2  # the synthetic world's median is 0.35 ms: seconds or microseconds would show
        ordered = [latency[name] for name in ("min", "p50", "p90", "p99", "max")]
        assert ordered == sorted(ordered)
        assert latency["min"] < latency["average"] < latency["max"]
        assert result["actual_qps"] == pytest.approx(load.achieved_rps)


def test_times_are_utc_and_span_the_window(make_run: MakeRun) -> None:
    for result in _document(make_run(blocks=1))["PerformanceTestResult"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", result["start_time"])
        assert result["start_time"] < result["end_time"]


def test_every_id_a_result_names_is_there(make_run: MakeRun) -> None:
    document = _document(make_run(blocks=2))
    ids = {message: {entry["id"] for entry in document[message]} for message in MESSAGES}
    assert len(ids["PerformanceTestResult"]) == len(document["PerformanceTestResult"]) == 10
    for result in document["PerformanceTestResult"]:
        assert result["test_id"] in ids["PerformanceTestConfig"]
        assert result["mesh_config_id"] in ids["ServiceMeshConfig"]
        assert result["env_id"] in ids["EnvironmentConfig"]


def test_sidecars_are_counted_together_in_millicores_and_megabytes(make_run: MakeRun) -> None:
    configs = {
        entry["labels"]["meshgauge.arm"]: entry
        for entry in _document(make_run(blocks=4, cores={"envoy-1.40.0": 0.25}, world={"run_sd": 0.0}))[
            "ServiceMeshConfig"
        ]
    }
    envoy = configs["envoy-1.40.0"]
    assert envoy["sidecar"] == {"count": 2, "cpu_mcores": 500, "mem_mb": round(2 * 48 * 2**20 / 1e6), "rps": 2000}
    assert envoy["mtls_enabled"] is True
    assert envoy["proxy_build"] == "envoy 1.40.0"
    assert envoy["mesh_type"]["type"] == 0  # a bare Envoy is not Istio
    assert "sidecar" not in configs["none"]
    assert configs["none"]["mtls_enabled"] is False
    assert configs["none"]["mesh_type"]["labels"]["meshgauge.what"] == "no mesh"


def test_sidecars_that_were_not_measured_are_absent_not_zero(make_run: MakeRun) -> None:
    run = make_run(blocks=1, edit=lambda trial: dataclasses.replace(trial, usage=()))
    assert all("sidecar" not in entry for entry in _document(run)["ServiceMeshConfig"])


def test_a_spoiled_or_failed_trial_is_left_out_with_its_reason(make_run: MakeRun) -> None:
    gate = GateResult("errors", "invalid", frozenset({"latency"}), 3.0, 0.1, "%", "3 % of requests failed")

    def edit(trial: TrialRecord) -> TrialRecord:
        if trial.trial_id == "trial-0":
            return dataclasses.replace(trial, state="invalid", gates=(gate,))
        if trial.trial_id == "trial-1":
            return dataclasses.replace(trial, state="failed", reason="the proxy died", load=None)
        return trial

    document = _document(make_run(blocks=1, edit=edit))
    assert {entry["trial_id"]: entry["reason"] for entry in document["left_out"]} == {
        "trial-0": "3 % of requests failed",
        "trial-1": "the proxy died",
    }
    told = {result["id"] for result in document["PerformanceTestResult"]}
    assert not told & {"trial-0/1", "trial-1/1"}


def test_a_thin_tail_is_said_beside_its_p99(make_run: MakeRun) -> None:
    document = _document(make_run(blocks=1, world={"requests": 4000}))
    for result in document["PerformanceTestResult"]:
        assert result["labels"]["meshgauge.p99_remark"].startswith("40 requests lie above p99")


def test_the_test_says_what_was_offered(make_run: MakeRun) -> None:
    (config,) = _document(make_run(blocks=1))["PerformanceTestConfig"]
    (client,) = config["clients"]
    assert (client["rps"], client["connections"], client["protocol"]) == (1000, 16, 1)
    assert config["duration"] == "20s"
    assert config["labels"]["meshgauge.loop"] == "open"


def test_no_placeholder_of_mesherys_kind_is_left(make_run: MakeRun) -> None:
    document: Mapping[str, Any] = smp_document(analyse(make_run(blocks=1)))
    assert "test_" not in json.dumps([document["PerformanceTestResult"], document["ServiceMeshConfig"]]).replace(
        '"test_id"', ""
    )


def test_latencies_beyond_the_range_are_left_out_not_capped(make_run: MakeRun) -> None:
    def slow(trial: TrialRecord) -> TrialRecord:
        assert trial.load is not None
        late = {**trial.load.histograms, ("ok", "net"): Histogram(trial.load.clock("net").counts, overflow=7)}
        return dataclasses.replace(trial, load=dataclasses.replace(trial.load, histograms=late))

    document = _document(make_run(blocks=1, edit=slow))
    assert document["PerformanceTestResult"] == []
    assert all("68.7 s" in entry["reason"] for entry in document["left_out"])


def test_a_test_we_wrote_reads_back_as_the_same_load(make_run: MakeRun) -> None:
    (config,) = _document(make_run(blocks=1))["PerformanceTestConfig"]
    plan = validate_plan(translate({"test": config}).document)
    (load,) = plan.loads
    assert (load.rate_rps, load.connections, load.window_s) == (1000, 16, 20)
