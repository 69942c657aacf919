"""Mesh against mesh: direct pairs, ranks only as far as verdicts carry them, families of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.chapters import meshes
from reports.chapters.ranking import standings

MakeRun = Callable[..., RunRecord]
Read = Callable[[RunRecord], Any]
APART = {"envoy-1.40.0": 1.6, "envoy-1.36.4": 1.9, "nginx-1.31.0": 1.2, "haproxy-2.8.9": 1.4}


def test_meshes_that_differ_are_ranked_and_the_fastest_named(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=APART))
    assert book["mesh-against-mesh"].answer.startswith("nginx-1.31.0 answers the median request fastest, under mtls")
    ranks = {row["mesh"]: row["rank"] for row in book.grid("mesh-against-mesh", "ranks-1")}
    assert ranks == {"nginx-1.31.0": "1", "haproxy-2.8.9": "2", "envoy-1.40.0": "3"}


def test_only_the_newest_release_of_a_mesh_stands_against_the_others(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=APART))
    assert "envoy-1.36.4" not in book.words("mesh-against-mesh")


def test_equal_meshes_are_not_ranked_apart(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=dict.fromkeys(APART, 1.4)))
    assert "are equivalent on the median request, within ±3.0" in book["mesh-against-mesh"].answer
    assert {row["rank"] for row in book.grid("mesh-against-mesh", "ranks-1")} == {"1 to 3"}


def test_meshes_that_noise_hides_are_called_not_separable(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=dict.fromkeys(APART, 1.4), world={"run_sd": 0.2}))
    assert book["mesh-against-mesh"].answer.startswith("Not separable: ")
    assert not any(word in book["mesh-against-mesh"].answer for word in ("fastest,", "equivalent"))


def test_a_field_and_its_mirror_image_agree(make_run: MakeRun, read: Read) -> None:
    rows = {row["this mesh, against"]: row for row in read(make_run(ratio=APART)).grid("mesh-against-mesh", "pairs-1")}
    one, other = rows["nginx-1.31.0"]["haproxy-2.8.9"], rows["haproxy-2.8.9"]["nginx-1.31.0"]
    assert one.endswith("faster")
    assert other.endswith("slower")
    down, up = (float(text.split("\N{NO-BREAK SPACE}")[0].replace("\N{MINUS SIGN}", "-")) for text in (one, other))
    assert (1 + down / 100) * (1 + up / 100) == pytest.approx(1, abs=2e-3)


def test_standings_count_what_is_shown_and_leave_the_rest_open(make_run: MakeRun, read: Read) -> None:
    run = make_run(ratio={**APART, "haproxy-2.8.9": 1.2}, world={"run_sd": 0.04})
    duels = meshes.duels_of(read(run).analysis)
    assert duels is not None
    found = {
        s.cell.environment.mesh.label: s for s in standings([c for c in duels.comparisons if c.metric.name == "p50"])
    }
    assert found["envoy-1.40.0"].rank == "3"
    assert {found[name].rank for name in ("nginx-1.31.0", "haproxy-2.8.9")} == {"1 to 2"}
    assert all(standing.others == 2 for standing in found.values())


def test_no_verdict_no_rank(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=APART, blocks=4))
    assert book["mesh-against-mesh"].answer.startswith("No ranking: 4 of 4 planned blocks are valid")
    assert {row["rank"] for row in book.grid("mesh-against-mesh", "ranks-1")} == {"not ranked"}


def test_a_mesh_that_never_came_up_does_not_keep_the_others_from_their_ranks(make_run: MakeRun, read: Read) -> None:
    def edit(trial: TrialRecord) -> TrialRecord:
        failed = replace(trial, load=None, usage=(), gates=(), state="failed", reason="port taken")
        return failed if trial.cell.startswith("haproxy") else trial

    book = read(make_run(ratio=APART, edit=edit))
    ranks = {row["mesh"]: row["rank"] for row in book.grid("mesh-against-mesh", "ranks-1")}
    assert ranks == {"nginx-1.31.0": "1", "envoy-1.40.0": "2", "haproxy-2.8.9": "not ranked"}
    answer = book["mesh-against-mesh"].answer
    assert answer.startswith("nginx-1.31.0 answers the median request fastest")
    assert answer.endswith("No verdict on haproxy-2.8.9.")


def test_several_profiles_are_counted_and_each_has_its_own_answer(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=APART, profiles=["plain", "mtls"]))
    assert "in 2 of 2 combinations of profile, workload and load: nginx-1.31.0 in 2" in book["mesh-against-mesh"].answer
    assert book.words("mesh-against-mesh").count("answers the median request fastest, under") == 2


def test_what_there_is_no_room_for_is_named(make_run: MakeRun, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshes, "MOST_PAIRS", 3)
    book = read(make_run(ratio=APART, profiles=["plain", "mtls"]))
    assert "pairs of 1 more combinations are not compared here: mtls in reply-1k" in book.words("mesh-against-mesh")
    assert "plain" in book["mesh-against-mesh"].answer
    assert book["mesh-against-mesh"].answer.endswith("Of 2 combinations, 1 are compared here.")


def test_the_same_mesh_twice_is_not_a_pair(make_run: MakeRun, make_arm: Callable[..., MeshArm], read: Read) -> None:
    arms = (make_arm("none"), make_arm("envoy", "envoy", "1.0"), make_arm("envoy-again", "envoy", "1.0"))
    assert "mesh-against-mesh" not in read(make_run(arms))


def test_the_csv_holds_every_comparison_with_its_family(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=APART))
    lines = book["mesh-against-mesh"].files["mesh-against-mesh.csv"].decode().splitlines()
    duels = meshes.duels_of(book.analysis)
    assert duels is not None
    assert len(lines) == 1 + len(duels.comparisons)
    assert {"difference", "low", "high", "p_adjusted", "blocks", "verdict"} <= set(lines[0].split(","))
