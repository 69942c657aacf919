"""Rows as CSV that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

# Spreadsheets take these first characters for a formula. Source: owasp.org/www-community/attacks/CSV_Injection
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as CSV with a header line; None is an empty field, names that look like formulas are quoted.

    All rows have the keys of the first one. No rows: the empty string.
    """
    listed = list(rows)
    if not listed:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(listed[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: _field(value) for key, value in row.items()} for row in listed)
    return out.getvalue()


def _field(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        # Whoever reads it back by program strips one apostrophe; a spreadsheet hides it.
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return value
