"""The formats a run is exported in, by name: media type, file ending and maker of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshgauge.errors import UnknownNameError
from reports.analysis import Analysis
from reports.exchange.hdr_log import hdr_log
from reports.exchange.meshmark import meshmark_document
from reports.exchange.parquet import parquet_table
from reports.exchange.run_document import run_json
from reports.exchange.smp_results import smp_document
from reports.pages.csv_text import to_csv
from reports.tables import TABLES

DEFAULT_TABLE = "trials"


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        is_table: it holds one table at a time; the others hold the whole run.
        make: the bytes of a run; the table's name counts where ``is_table``.
    """

    title: str
    media_type: str
    ending: str
    is_table: bool
    make: Callable[[Analysis, str], bytes]


FORMATS: Mapping[str, Format] = {
    "csv": Format(
        "one table as CSV", "text/csv; charset=utf-8", "csv", True,
        lambda analysis, table: to_csv(TABLES[table](analysis)).encode(),
    ),
    "parquet": Format(
        "one table as Parquet, typed, with units", "application/vnd.apache.parquet", "parquet", True,
        lambda analysis, table: parquet_table(analysis, table, list(TABLES[table](analysis))),
    ),
    "json": Format(
        "the whole run as one versioned document", "application/json", "json", False,
        lambda analysis, _: run_json(analysis),
    ),
    "hdr": Format(
        "all histograms as an HDR histogram log, latencies in ns", "text/plain; charset=us-ascii", "hlog", False,
        lambda analysis, _: hdr_log(analysis),
    ),
    "smp": Format(
        "Service Mesh Performance messages", "application/json", "smp.json", False,
        lambda analysis, _: _json(smp_document(analysis)),
    ),
    "meshmark": Format(
        "MeshMark, with what its definition leaves open", "application/json", "meshmark.json", False,
        lambda analysis, _: _json(meshmark_document(analysis)),
    ),
}  # fmt: skip


def export(analysis: Analysis, name: str, table: str = DEFAULT_TABLE) -> bytes:
    """Return a run in the format called ``name``; ``table`` says which table where the format holds one.

    Raises:
        UnknownNameError: no such format, or no such table.
        ConfigurationError: the format needs a package that is not installed.
    """
    if name not in FORMATS:
        raise UnknownNameError("export format", name, FORMATS)
    if table not in TABLES:
        raise UnknownNameError("table", table, TABLES)
    return FORMATS[name].make(analysis, table)


def _json(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
