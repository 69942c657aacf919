"""Tables as Parquet: typed columns, the unit of each in its metadata. Needs pyarrow, an extra."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Sequence
from typing import Any

from meshgauge.errors import ConfigurationError
from reports.analysis import Analysis
from reports.exchange.columns import Column, columns_of
from reports.figures.canvas import Row

TABLE_VERSION = 1  # raised when a column changes its name, type or unit


def parquet_table(analysis: Analysis, table: str, rows: Sequence[Row]) -> bytes:
    """Return ``rows`` as one Parquet file.

    Columns are named as in the CSV, with the unit as last part of the name and as ``unit`` in the field's
    metadata. What was not measured is null. The schema's metadata name run, plan and table.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    columns = columns_of(table, rows)
    schema = arrow.schema([_field(arrow, column) for column in columns], metadata=_about(analysis, table))
    arrays = [
        arrow.array([_value(column, row[column.source]) for row in rows], type=schema.field(at).type)
        for at, column in enumerate(columns)
    ]
    out = io.BytesIO()
    parquet.write_table(arrow.Table.from_arrays(arrays, schema=schema), out, compression="zstd")
    return out.getvalue()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs pyarrow, which is not installed where the coordinator runs: "
            'pip install "meshgauge[exchange]"; or export --format csv'
        ) from error
    return pyarrow, pyarrow.parquet


def _field(arrow: Any, column: Column) -> Any:
    types = {
        "text": arrow.string(),
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "instant": arrow.timestamp("us", tz="UTC"),
        None: arrow.null(),
    }
    metadata = {"column": column.source} | ({"unit": column.unit} if column.unit else {})
    return arrow.field(column.name, types[column.kind], metadata=metadata)


def _value(column: Column, value: object) -> object:
    if value is None or column.kind is None:
        return None
    if column.kind == "instant":
        return dt.datetime.fromisoformat(str(value))
    return str(value) if column.kind == "text" else value


def _about(analysis: Analysis, table: str) -> dict[str, str]:
    run = analysis.run
    return {
        "meshgauge": json.dumps(
            {
                "table": table,
                "table_version": TABLE_VERSION,
                "run_id": run.run_id,
                "plan": run.plan.name,
                "plan_sha256": run.plan_sha256,
                "state": run.state,
                "version": run.provenance.get("meshgauge"),
                "revision": run.provenance.get("revision"),
            }
        )
    }
