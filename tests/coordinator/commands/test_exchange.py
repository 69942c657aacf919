"""``export``, ``import`` and ``published`` from the command line, against a coordinator of its own process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from coordinator.cli import app
from coordinator.commands import failures
from meshgauge.store.database import connect, transaction
from meshgauge.store.schema_tracking import published_series

CSV = "Labels,NumThreads,ActualQPS,p50,p90,p99\naa_qps_1000_c_16_1024_none_mtls_both,16,1000,1214,1696,2186\n"
SMP = "test:\n  name: Nightly Load\n  clients: [{connections: 2, rps: 10}]\n  duration: 60s\n"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from outside."""
    for name in [name for name in os.environ if name.startswith("MESHGAUGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESHGAUGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def here(live: Any, database_url: str) -> Any:
    """A coordinator, and no published series after the test."""
    yield {"MESHGAUGE_COORDINATOR_URL": live.url}
    engine = connect(database_url, pool_size=1)
    with transaction(engine) as connection:
        connection.execute(sa.delete(published_series))
    engine.dispose()


def call(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(words), env=environment)


def test_a_run_is_saved_and_results_are_imported(here: dict[str, str], baseline_plan: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(baseline_plan)
    run = call("submit", str(plan), **here).stdout.strip()

    saved = call("export", "latest", "--out", "out/run.json", **here)
    assert saved.exit_code == 0, saved.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["run_id"] == run
    named = call("export", run[:8], "--format", "csv", "--table", "comparisons", **here)
    assert Path(named.stdout.strip()).name == f"meshgauge-base-{run[:8]}-comparisons.csv"
    assert json.loads(call("export", run, "--format", "smp", "--out", "-", **here).stdout)["format"] == "meshgauge-smp"
    unknown = call("export", run, "--format", "parket", **here)
    assert unknown.exit_code == failures.NOT_THERE
    assert "Did you mean 'parquet'?" in unknown.stderr

    results = tmp_path / "results.csv"
    results.write_text("\ufeff" + CSV)
    words = ("import", str(results), "--name", "istio-2020", "--source", "istio/tools, GKE")
    made = call(*words, **here)
    assert made.exit_code == 0, made.stderr
    assert "1 measurements, read as istio-csv" in made.stderr
    assert "coordinated omission" in made.stderr
    assert call(*words, **here).exit_code == failures.NOT_THERE  # nothing is overwritten
    assert "istio/tools, GKE" in call("published", "list", **here).stdout
    assert json.loads(call("published", "show", "istio-2020", **here).stdout)["points"][0]["p50_ms"] == 1.214
    assert call("published", "remove", "istio-2020", **here).exit_code == 0
    assert json.loads(call("published", "list", "--json", **here).stdout) == []


def test_how_an_smp_test_was_read_is_told_when_it_is_submitted(here: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "smp.yaml"
    file.write_text(SMP)
    made = call("submit", str(file), **here)
    assert made.exit_code == 0, made.stderr
    assert "note: test.name 'Nightly Load' became 'nightly-load'" in made.stderr.replace("\n", " ")


def test_a_file_that_is_not_there_or_no_text_is_told(here: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file, told in (("nowhere.csv", "cannot be read"), ("binary", "is not UTF-8")):
        result = call("import", file, "--name", "x", "--source", "y", **here)
        assert result.exit_code == failures.USAGE
        assert told in result.stderr


def test_a_place_that_cannot_be_written_is_told(here: dict[str, str], baseline_plan: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(baseline_plan)
    call("submit", str(plan), **here)
    (tmp_path / "file").write_text("")
    result = call("export", "latest", "--out", "file/run.json", **here)
    assert result.exit_code == failures.CONFIGURATION
    assert "name another place with --out" in result.stderr
