"""Releases: ordered by age, the newest against all, each against the one before, in families of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from meshgauge.matrix import MeshArm
from meshgauge.run import RunRecord
from reports.chapters.ladders import ladders, release_name

MakeRun = Callable[..., RunRecord]
MakeArm = Callable[..., MeshArm]
Read = Callable[[RunRecord], Any]
RELEASES = ("1.9.0", "1.10.0", "1.11.0-rc1", "1.11.0")
TRUTH = {"envoy-1.9.0": 1.5, "envoy-1.10.0": 1.5, "envoy-1.11.0-rc1": 1.5, "envoy-1.11.0": 1.65}


@pytest.fixture
def arms(make_arm: MakeArm) -> Sequence[MeshArm]:
    """Return no mesh and four releases of one, newest first."""
    return (make_arm("none"), *(make_arm(f"envoy-{v}", "envoy", v) for v in reversed(RELEASES)))


def test_a_ladder_goes_from_the_oldest_to_the_newest(make_run: MakeRun, arms: Sequence[MeshArm]) -> None:
    (ladder,) = ladders(make_run(arms).cells)
    assert [release_name(cell) for cell in ladder.cells] == list(RELEASES)
    assert ladder.mesh == "envoy"


def test_the_first_line_is_the_newest_against_the_one_before(
    make_run: MakeRun, arms: Sequence[MeshArm], read: Read
) -> None:
    answer = read(make_run(arms, ratio=TRUTH))["releases"].answer
    assert answer.startswith("envoy-1.11.0 vs envoy-1.11.0-rc1 · mtls: the median request is ")
    assert "slower than the older release" in answer


def test_each_step_is_compared_with_the_one_before(make_run: MakeRun, arms: Sequence[MeshArm], read: Read) -> None:
    book = read(make_run(arms, ratio=TRUTH))
    steps = [row for row in book.grid("releases", "steps-1") if "p50" in row["measured"]]
    assert [row["verdict"].split()[0] for row in steps] == ["equivalent", "equivalent", "slower"]
    newest = [row for row in book.grid("releases", "newest-1") if "p50" in row["measured"]]
    assert [row["verdict"].split()[0] for row in newest] == ["slower"] * 3


def test_two_releases_are_compared_once(make_run: MakeRun, arms: Sequence[MeshArm], read: Read) -> None:
    book = read(make_run((arms[0], *arms[1:3]), ratio=TRUTH))
    assert not any(part.name.startswith("steps") for part in book["releases"].parts if hasattr(part, "name"))
    assert not book["releases"].files


def test_the_ladders_data_are_the_comparisons_turned_round(
    make_run: MakeRun, arms: Sequence[MeshArm], read: Read
) -> None:
    book = read(make_run(arms, ratio=TRUTH))
    (page,) = book.figures("releases")
    answer = next(a for a in book.analysis.answers if a.question.key == "release")
    of = {(release_name(c.pair.control), c.metric.name): c for c in answer.comparisons}
    assert len(page.rows) == 9
    for row in page.rows:
        c = of[row["release"], row["metric"]]
        assert row["compared_with"] == "1.11.0"
        assert row["difference_percent"] == pytest.approx(100 * math.expm1(-c.effect.estimate))
        assert row["low_percent"] == pytest.approx(100 * math.expm1(-c.interval.high))
        assert row["verdict_on_newest"] == c.verdict.word


def test_many_ladders_are_counted(make_run: MakeRun, arms: Sequence[MeshArm], read: Read) -> None:
    book = read(make_run(arms, ratio=TRUTH, profiles=["plain", "mtls"]))
    assert "2 slower" in book["releases"].answer
    assert len(book.figures("releases")) == 2


def test_versions_of_an_application_are_told_per_mesh(make_run: MakeRun, make_arm: MakeArm, read: Read) -> None:
    commands = [{"version": v, "command": ["app"]} for v in ("1.0", "2.0")]
    run = make_run(
        (make_arm("none"), make_arm("envoy", "envoy", "1.0")),
        ratio={"envoy": 1.5},
        workloads=[{"name": "greeter", "reply_bytes": 100, "commands": commands}],
    )
    book = read(run)
    assert book["application-versions"].answer.startswith(
        "Newest version against older ones, median request: 2 equivalent"
    )
    pairs = {row["comparison"] for row in book.grid("application-versions", "results-1")}
    assert pairs == {"greeter-2.0 vs greeter-1.0 · none", "greeter-2.0 vs greeter-1.0 · envoy · mtls"}
