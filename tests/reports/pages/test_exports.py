"""Tables, result rows and the folder of a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.pages.csv_text import to_csv
from reports.summary import result_rows, to_json
from reports.tables import tables_of

MakeRun = Callable[..., RunRecord]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\tx", "\rx"])
def test_no_field_is_taken_for_a_formula(text: str) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([{"name": text, "number": -1.5, "absent": None}]), newline="")))
    assert rows == [{"name": f"'{text}", "number": "-1.5", "absent": ""}]


def test_commas_quotes_and_lines_survive_a_round_trip() -> None:
    value = 'a,"b"\nc'
    assert next(csv.DictReader(io.StringIO(to_csv([{"name": value}]), newline="")))["name"] == value


def test_no_rows_give_no_table() -> None:
    assert to_csv([]) == ""


def test_result_rows_carry_value_difference_interval_and_verdict(make_run: MakeRun) -> None:
    analysis = analyse(make_run(ratio={"envoy-1.40.0": 1.61}, host_cores=2))
    row = next(r for r in result_rows(analysis) if (r.arm, r.metric) == ("envoy-1.40.0", "p50"))
    assert (row.against, row.profile, row.workload, row.load) == ("none", "mtls", "reply-1k", "1000rps-16c")
    assert (row.unit, row.difference_unit, row.n, row.planned) == ("ms", "%", 10, 10)
    assert row.low is not None
    assert row.high is not None
    assert row.low <= 61 <= row.high
    assert row.verdict == "slower"
    assert set(row.flags) == {"unconfirmed", "indicative"}


def test_the_result_is_plain_json(make_run: MakeRun) -> None:
    document = to_json(analyse(make_run()))
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["plan"] == "quickstart"
    assert len(again["results"]) == len(result_rows(analyse(make_run())))


def test_every_trial_gate_and_second_is_in_its_table(make_run: MakeRun) -> None:
    run = make_run(blocks=6)
    tables = {name: list(csv.DictReader(io.StringIO(text))) for name, text in tables_of(analyse(run)).items()}
    assert len(tables["trials"]) == len(run.trials)
    assert len(tables["gates"]) == sum(len(trial.gates) for trial in run.trials)
    assert len(tables["seconds"]) == sum(len(trial.load.seconds) for trial in run.trials if trial.load)
    assert [row["trial_id"] for row in tables["trials"]] == [trial.trial_id for trial in run.trials]
    assert {"response p99 [ms]", "service p50 [ms]", "lag p99 [ms]", "app [cores]"} <= set(tables["trials"][0])


def test_the_mean_of_the_exported_block_differences_is_the_exported_effect(make_run: MakeRun) -> None:
    analysis = analyse(make_run(blocks=6, ratio={"envoy-1.40.0": 1.3}))
    rows = list(csv.DictReader(io.StringIO(tables_of(analysis)["blocks"])))
    mine = [float(r["difference"]) for r in rows if r["pair"] == "envoy-1.40.0 · mtls" and r["metric"] == "p50"]
    c = analysis.answers[0].comparisons[0]
    assert c.effect is not None
    assert sum(mine) / 6 == pytest.approx(c.effect.estimate)
