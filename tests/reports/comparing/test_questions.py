"""Which cells are compared with which."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from reports.comparing.questions import questions_of, version_key, without_control

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]


def _pairs(run: RunRecord, key: str) -> list[str]:
    return [pair.label for question in questions_of(run) if question.key == key for pair in question.pairs]


def test_each_mesh_meets_the_baseline_under_its_only_profile(make_run: MakeRun) -> None:
    run = make_run(blocks=1, profiles=["plain", "mtls"])
    (baseline, *_) = questions_of(run)
    assert baseline.key == "baseline"
    assert len(baseline.pairs) == 8
    assert {pair.control.environment.profile.name for pair in baseline.pairs} == {"plain"}


def test_a_pair_shares_workload_infrastructure_and_load(make_run: MakeRun) -> None:
    loads = [{"rate_rps": rate, "window_s": 20} for rate in (500, 1000)]
    for question in questions_of(make_run(blocks=1, loads=loads)):
        for pair in question.pairs:
            assert pair.cell.load == pair.control.load
            assert pair.cell.environment.infrastructure == pair.control.environment.infrastructure


def test_the_newest_release_meets_each_older_one(make_run: MakeRun, make_arm: MakeArm) -> None:
    versions = ("1.9.0", "1.40.0", "1.36.4")
    arms = (make_arm("none"), *(make_arm(f"envoy-{v}", "envoy", v) for v in versions))
    run = make_run(arms, blocks=1)
    assert _pairs(run, "release") == ["envoy-1.40.0 vs envoy-1.36.4 · mtls", "envoy-1.40.0 vs envoy-1.9.0 · mtls"]


def test_different_placements_and_adapters_are_not_releases_of_each_other(make_run: MakeRun, make_arm: MakeArm) -> None:
    arms = (
        make_arm("none"),
        make_arm("envoy-a", "envoy", "1.0.0"),
        make_arm("envoy-b", "envoy", "2.0.0", "client"),
        make_arm("nginx", "nginx", "3.0.0"),
    )
    assert _pairs(make_run(arms, blocks=1, profiles=["plain"]), "release") == []


def test_later_profiles_meet_the_first_one_on_the_same_mesh(make_run: MakeRun, make_arm: MakeArm) -> None:
    run = make_run((make_arm("none"), make_arm("envoy", "envoy")), blocks=1, profiles=["plain", "mtls", "observed"])
    assert _pairs(run, "profile") == ["envoy · mtls vs plain", "envoy · observed vs plain"]


def test_a_twin_of_the_baseline_is_an_aa_pair_and_no_mesh(make_run: MakeRun, make_arm: MakeArm) -> None:
    run = make_run((make_arm("again"), make_arm("none"), make_arm("envoy", "envoy")), blocks=1)
    assert _pairs(run, "aa") == ["again vs none"]
    assert _pairs(run, "baseline") == ["envoy · mtls"]


def test_the_same_mesh_under_two_labels_is_an_aa_pair(make_run: MakeRun, make_arm: MakeArm) -> None:
    run = make_run((make_arm("none"), make_arm("one", "envoy"), make_arm("two", "envoy")), blocks=1)
    assert _pairs(run, "aa") == ["two · mtls vs one"]
    assert _pairs(run, "release") == []


def test_the_newest_version_of_an_application_meets_the_older_ones(make_run: MakeRun, make_arm: MakeArm) -> None:
    commands = [{"version": v, "command": ["serve"]} for v in ("v1", "v2", "v3")]
    run = make_run((make_arm("none"),), blocks=1, workloads=[{"name": "shop", "commands": commands}])
    assert _pairs(run, "application") == ["shop-v3 vs shop-v2 · none", "shop-v3 vs shop-v1 · none"]


def test_cells_without_a_baseline_are_named(make_run: MakeRun) -> None:
    run = make_run(blocks=1, baseline="linkerd")
    assert len(without_control(run)) == len(run.cells)
    assert "baseline" not in {question.key for question in questions_of(run)}


@pytest.mark.parametrize(
    ("older", "newer"), [("1.9.0", "1.10.0"), ("1.40.0-rc1", "1.40.0"), ("2.8", "2.8.1"), ("v1.2", "v1.3")]
)
def test_versions_are_ordered_by_age(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)
