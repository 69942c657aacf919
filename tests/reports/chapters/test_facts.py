"""Steadiness, configuration, diary and provenance: what lets a reader check the rest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from meshgauge.trial import GateResult, TrialRecord
from reports.chapters import diary

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
Read = Callable[[RunRecord], Any]
TRUTH = {"envoy-1.40.0": 1.61, "envoy-1.36.4": 1.7, "nginx-1.31.0": 1.2, "haproxy-2.8.9": 1.4}


def _steal(trial: TrialRecord) -> TrialRecord:
    gate = GateResult("steal_mean", "invalid", frozenset({"latency", "cpu"}), 30.0, 10.0, "%", "host steal: 30 %")
    return replace(trial, gates=(gate,), state="invalid") if trial.block == 2 else trial


def test_a_calm_a_a_arm_says_what_noise_makes(make_run: MakeRun, make_arm: MakeArm, read: Read) -> None:
    arms = (make_arm("none"), make_arm("none-again"), make_arm("envoy-1.40.0", "envoy", "1.40.0"))
    book = read(make_run(arms, ratio=TRUTH))
    assert "0 of 3 intervals miss zero" in book["steadiness"].answer
    panel = next(page for page in book.figures("steadiness") if page.name == "aa-panel")
    assert {row["metric"] for row in panel.rows} == {"p50", "p99", "cpu"}
    assert "The truth is 0." in panel.draw().texts[1].get_text()


def test_twins_of_several_loads_are_told_apart(make_run: MakeRun, make_arm: MakeArm, read: Read) -> None:
    loads = [{"rate_rps": rate, "warm_up_s": 3, "window_s": 20} for rate in (500, 1000)]
    book = read(make_run((make_arm("none"), make_arm("none-again")), loads=loads, blocks=6))
    names = [row["comparison"] for row in book.grid("steadiness", "aa")]
    assert len(set(names)) == 2
    (panel,) = (page for page in book.figures("steadiness") if page.name == "aa-panel")
    labels = [text.get_text() for text in panel.draw().axes[0].texts if " vs " in text.get_text()]
    assert len(set(labels)) == len(labels) == 6


def test_units_stand_with_the_values_a_profile_asks_for(make_run: MakeRun, read: Read) -> None:
    rows = {row["asked for"]: row["mtls"] for row in read(make_run()).grid("configuration", "profiles")}
    assert rows["request timeout"] == "15\N{NO-BREAK SPACE}s"
    assert rows["mtls"] == "on"


def test_without_an_a_a_arm_nothing_is_claimed_about_noise(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH))
    assert book["steadiness"].answer.startswith("No A/A arm was measured")
    assert "p50 of none varied by" in book["steadiness"].answer


def test_pairing_takes_the_blocks_common_drift_away(make_run: MakeRun, read: Read) -> None:
    rows = read(make_run(ratio=TRUTH, world={"block_sd": 0.2, "run_sd": 0.01})).grid("steadiness", "spread")
    for row in rows[1:]:
        between, paired = (float(row[key].split("\N{NO-BREAK SPACE}")[0]) for key in list(row)[3:6:2])
        assert between > 5 * paired


def test_the_block_against_the_rest_is_named(make_run: MakeRun, read: Read) -> None:
    def odd(trial: TrialRecord) -> TrialRecord:
        return replace(trial, block=9 - trial.block) if "nginx" in trial.cell and trial.block in {4, 5} else trial

    calm = {"block_sd": 0.2, "run_sd": 0.001}
    run = make_run(ratio={"nginx-1.31.0": 1.02}, edit=odd, world=calm)
    (page,) = (page for page in read(run).figures("steadiness") if page.name == "blockwise")
    assert "nginx-1.31.0 · mtls: 9 of 10 blocks agree in direction" in page.alt
    (line,) = [line for line in read(run).words("steadiness").split("\n") if line.startswith("Against the direction")]
    assert "nginx-1.31.0 · mtls in block" in line


def test_settings_that_differ_come_first_with_the_verdicts_they_touch(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH))
    rows = book.grid("configuration", "features-1-1")
    assert rows[0]["setting"] == "tls"
    assert [row["over all"] for row in rows] == ["differs", "the same", "the same", "the same"]
    (touched,) = book.grid("configuration", "touched")
    assert touched["verdicts touched"] == "6"  # two pairs of meshes with Envoy, three metrics each
    assert "nginx-1.31.0 vs envoy-1.40.0 · mtls" in touched["comparisons"]
    assert "1 of 4 settings in play" in book["configuration"].answer


def test_equal_settings_are_said_to_be_equal(make_run: MakeRun, read: Read) -> None:
    run = make_run(ratio=TRUTH)
    same: Mapping[str, Any] = {key: {role: {"threads": "1"} for role in roles} for key, roles in run.features.items()}
    book = read(replace(run, features=same))
    assert book["configuration"].answer.startswith("All 1 settings in play are the same")


def test_many_meshes_stand_in_several_tables(make_run: MakeRun, make_arm: MakeArm, read: Read) -> None:
    arms = (make_arm("none"), *(make_arm(f"envoy-1.{minor}", "envoy", f"1.{minor}") for minor in range(11)))
    book = read(make_run(arms, blocks=2))
    assert len(book.grid("configuration", "features-1-1")[0]) == 2 + 8
    assert len(book.grid("configuration", "features-1-2")[0]) == 2 + 3


def test_the_diary_counts_and_names_what_is_left_out(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH, edit=_steal))
    assert book["diary"].answer == (
        "50 trials were measured in 10 blocks; 5 trials are left out of some or all verdicts (steal mean 5x)."
    )
    rows = book.grid("diary", "diary-trials")
    assert [row["state"] for row in rows].count("invalid") == 5
    assert sum("host steal: 30 %" in row["gates and reasons"] for row in rows) == 5


def test_a_long_diary_has_pages_of_whole_blocks(make_run: MakeRun, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diary, "TRIALS_ON_A_PAGE", 12)
    book = read(make_run(ratio=TRUTH))
    pages = [slug for slug in book.chapters if slug.startswith("diary")]
    assert pages == ["diary", "diary-2", "diary-3", "diary-4", "diary-5"]
    blocks = [{row["block"] for row in book.grid(slug, f"{slug}-trials")} for slug in pages]
    assert [len(found) for found in blocks] == [2] * 5
    assert book["diary-2"].title == "Trial diary, blocks 3 to 4"


def test_the_provenance_holds_what_another_would_need(make_run: MakeRun, read: Read) -> None:
    book = read(make_run(ratio=TRUTH, seed=42))
    words = book.words("provenance")
    for fact in ("seed of all orders | 42", "ab" * 32, "kernel | 6.8.0", "client envoy 1.40.0, server envoy 1.40.0"):
        assert fact in words
    assert "nothing is known to have changed between its blocks" in book["provenance"].answer


def test_an_environment_that_changed_is_said_first(make_run: MakeRun, read: Read) -> None:
    run = make_run(ratio=TRUTH)
    changed = tuple(
        replace(e, provenance={"client": {"sha256": "a" if e.block < 5 else "b"}}) if "nginx" in e.key else e
        for e in run.environments
    )
    book = read(replace(run, environments=changed))
    assert "1 environment changed between blocks and got no verdict" in book["provenance"].answer


def test_failed_environments_are_listed_with_their_reason(make_run: MakeRun, read: Read) -> None:
    run = make_run(ratio=TRUTH)
    first = run.environments[0]
    lost = replace(first, outcome="failed", reason="port taken", finished_at=first.started_at + dt.timedelta(seconds=1))
    book = read(replace(run, environments=(lost, *run.environments[1:])))
    (row,) = book.grid("diary", "environments")
    assert (row["how it ended"], row["why"]) == ("failed", "port taken")
