"""Parquet: typed, with units, the same numbers as the CSV; a clear sentence where pyarrow is missing."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Callable

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from meshgauge.errors import ConfigurationError
from meshgauge.run import RunRecord
from reports.analysis import Analysis, analyse
from reports.exchange.columns import columns_of
from reports.exchange.formats import export
from reports.readings.metrics import METRICS
from reports.tables import TABLES

MakeRun = Callable[..., RunRecord]


@pytest.fixture
def analysis(make_run: MakeRun) -> Analysis:
    return analyse(make_run(blocks=6, ratio={"envoy-1.40.0": 1.5}))


def _read(analysis: Analysis, table: str) -> pa.Table:
    return pq.read_table(io.BytesIO(export(analysis, "parquet", table)))


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_type_even_where_all_is_missing(analysis: Analysis, table: str) -> None:
    for column in columns_of(table, list(TABLES[table](analysis))):
        assert column.kind is not None, f"{table}: declare what {column.source} is, in reports/exchange/columns.py"


@pytest.mark.parametrize("table", TABLES)
def test_every_number_has_its_unit_or_counts_turns(analysis: Analysis, table: str) -> None:
    unitless = {"attempt", "block", "turn", "replicate", "p", "p_adjusted", "second", "level", "look"}
    for column in columns_of(table, list(TABLES[table](analysis))):
        if column.kind in ("integer", "number") and column.source not in unitless:
            assert column.unit, f"{table}: say the unit of {column.source}, in reports/exchange/columns.py"


@pytest.mark.parametrize("table", TABLES)
def test_the_numbers_are_those_of_the_csv(analysis: Analysis, table: str) -> None:
    found = _read(analysis, table)
    told = list(csv.DictReader(io.StringIO(export(analysis, "csv", table).decode())))
    assert found.num_rows == len(told) > 0
    for field in found.schema:
        source = field.metadata[b"column"].decode()
        texts = [row[source] for row in told]
        values = found.column(field.name).to_pylist()
        assert [value is None for value in values] == [text == "" and not isinstance(value, str)
                                                       for value, text in zip(values, texts, strict=True)]  # fmt: skip
        if pa.types.is_floating(field.type):
            assert [v for v in values if v is not None] == [float(t) for t in texts if t != ""]


def test_names_and_metadata_carry_units(analysis: Analysis) -> None:
    schema = _read(analysis, "trials").schema
    assert schema.field("p50_ms").metadata[b"unit"] == b"ms"
    assert schema.field("cpu_cores_per_1000_rps").metadata[b"unit"] == b"cores per 1000 rps"
    assert schema.field("memory_data_plane_mib").type == pa.float64()
    assert schema.field("achieved_rps").metadata[b"unit"] == b"rps"
    assert schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("block").type == pa.int64()
    assert {metric.unit for metric in METRICS} <= {
        field.metadata[b"unit"].decode() for field in schema if b"unit" in field.metadata
    }
    assert json.loads(schema.metadata[b"meshgauge"])["run_id"] == analysis.run.run_id


def test_what_was_not_measured_is_null_not_zero(make_run: MakeRun) -> None:
    run = make_run(blocks=1, edit=lambda t: dataclasses.replace(t, state="failed", reason="died", load=None, usage=()))
    table = pq.read_table(io.BytesIO(export(analyse(run), "parquet", "trials")))
    assert table.column("p50_ms").null_count == table.num_rows > 0
    assert table.schema.field("p50_ms").type == pa.float64()


def test_a_table_without_rows_is_a_table(make_run: MakeRun) -> None:
    run = make_run(blocks=1, edit=lambda _: None)
    assert pq.read_table(io.BytesIO(export(analyse(run), "parquet", "trials"))).num_rows == 0


def test_without_pyarrow_the_sentence_says_what_to_install(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r'pip install "meshgauge\[exchange\]"'):
        export(analysis, "parquet", "trials")
