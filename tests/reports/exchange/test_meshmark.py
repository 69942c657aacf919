"""MeshMark: the published formula on known numbers, gaps beside each, None where nothing was measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.exchange.formats import export
from reports.exchange.meshmark import GAPS, meshmarks, score_of

MakeRun = Callable[..., RunRecord]


def test_the_score_of_known_shares() -> None:
    assert score_of([0.8, 0.6]) == pytest.approx(70)
    assert score_of([1.0], weight=-0.5) == pytest.approx(50)
    assert score_of([]) is None
    with pytest.raises(ValueError, match=r"-0\.5\.\.0\.5"):
        score_of([1.0], weight=0.6)


def test_shares_left_come_from_the_hosts_counters(make_run: MakeRun) -> None:
    run = make_run(blocks=3, host_cores=8, world={"run_sd": 0.0})
    baseline = next(mark for mark in meshmarks(analyse(run)) if mark.cell.startswith("none/"))
    # The synthetic host: 8 cores and 16 GiB; it uses 0.08 + 0.05 + 0.1 cores and 2000 MiB.
    assert baseline.mue == {
        "cpu": pytest.approx(1 - 0.23 / 8, abs=1e-6),
        "memory": pytest.approx(1 - 2000 / (16 * 1024), abs=1e-6),
    }
    assert baseline.trials == {"cpu": 3, "memory": 3}
    assert baseline.score is not None
    assert baseline.score == pytest.approx(100 * (sum(baseline.mue.values()) / 2))
    assert baseline.literal_best_score == pytest.approx(baseline.score / 2)


def test_more_proxies_on_the_path_leave_less(make_run: MakeRun) -> None:
    marks = {mark.cell.split("/")[0]: mark for mark in meshmarks(analyse(make_run(blocks=3)))}
    none, envoy = marks["none"].score, marks["envoy-1.40.0"].score
    assert none is not None
    assert envoy is not None
    assert envoy < none


def test_every_number_carries_what_the_definition_leaves_open(make_run: MakeRun) -> None:
    document = json.loads(export(analyse(make_run(blocks=1)), "meshmark"))
    assert len(document["cells"]) == 5
    assert all(cell["gaps"] == dict(GAPS) for cell in document["cells"])
    assert "not a verdict" in document["remark"]


def test_without_counters_or_host_facts_there_is_no_score(make_run: MakeRun) -> None:
    bare = make_run(blocks=1, edit=lambda trial: dataclasses.replace(trial, usage=()))
    unknown = dataclasses.replace(make_run(blocks=1), provenance={})
    for run in (bare, unknown):
        for mark in meshmarks(analyse(run)):
            assert (mark.score, mark.literal_best_score, dict(mark.mue)) == (None, None, {})
