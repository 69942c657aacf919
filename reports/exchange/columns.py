"""What the columns of our tables are: name, type and unit, for formats that can say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from meshgauge.trial import GateResult, SecondRow
from reports.figures.canvas import Row
from reports.summary import ResultRow

Kind = Literal["text", "integer", "number", "instant"]

_BRACKETED = re.compile(r"^(.*) \[(.*)\]$")
_UNIT_SLUGS: Mapping[str, str] = {"% points": "percent_points", "%": "percent", "MiB": "mib"}
_SUFFIXES: Mapping[str, str] = {
    "_us": "us", "_ms": "ms", "_s": "s", "_rps": "rps", "_bytes": "bytes", "_cores": "cores", "_ratio": "1",
}  # fmt: skip
# Columns whose unit stands beside each value, in another column.
_BESIDE: Mapping[tuple[str, str], str] = {
    ("comparisons", "value"): "unit",
    ("comparisons", "against_value"): "unit",
    ("comparisons", "difference"): "difference_unit",
    ("comparisons", "low"): "difference_unit",
    ("comparisons", "high"): "difference_unit",
    ("blocks", "difference"): "scale",
    ("gates", "value"): "unit",
    ("gates", "limit"): "unit",
}
_COUNTS: Mapping[str, str] = {
    "offered": "requests", "sent": "requests", "done": "requests", "dropped": "requests", "errors": "requests",
    "n": "blocks", "planned": "blocks", "blocks_needed": "blocks",
}  # fmt: skip
_KINDS: Mapping[str, Kind] = {
    "trial_id": "text", "mesh": "text", "profile": "text", "workload": "text", "infrastructure": "text",
    "load": "text", "host": "text", "state": "text", "reason": "text", "spoiled": "text", "degraded": "text",
    "cell": "text", "arm": "text", "pair": "text", "scope": "text", "scale": "text", "question": "text",
    "metric": "text", "spoils": "text", "flags": "text", "verdict": "text",
    "attempt": "integer", "block": "integer", "turn": "integer", "replicate": "integer",
    "offered": "integer", "done": "integer", "dropped": "integer",
    "difference": "number", "started_at": "instant",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        source: its key in the table's rows; ``name`` is the same with letters, digits and underscores only.
        kind: None: no row has a value, and nobody declared what one would be.
        unit: ``1`` for a plain ratio; None where there is none; ``beside: COLUMN`` where another column says it.
    """

    source: str
    name: str
    kind: Kind | None
    unit: str | None


def columns_of(table: str, rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns of ``table`` in its order; none when it has no rows."""
    if not rows:
        return ()
    return tuple(_column(table, source, rows) for source in rows[0])


def _column(table: str, source: str, rows: Sequence[Row]) -> Column:
    bracketed = _BRACKETED.match(source)
    if bracketed:
        name, unit = bracketed.groups()
        return Column(source, _named(name, unit), "number", unit)
    kind = _DECLARED.get(table, {}).get(source) or _KINDS.get(source) or _seen(row[source] for row in rows)
    return Column(source, _slug(source), kind, _unit(table, source, kind))


def _named(name: str, unit: str) -> str:
    slug, ending = _slug(name), _slug(_UNIT_SLUGS.get(unit, unit))
    return slug if slug.endswith(f"_{ending}") else f"{slug}_{ending}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def _unit(table: str, source: str, kind: Kind | None) -> str | None:
    if (table, source) in _BESIDE:
        return f"beside: {_BESIDE[table, source]}"
    if kind not in ("integer", "number"):
        return None
    by_suffix = next((unit for suffix, unit in _SUFFIXES.items() if source.endswith(suffix)), None)
    return _COUNTS.get(source, by_suffix)


def _seen(values: Iterable[Any]) -> Kind | None:
    kinds = {type(value) for value in values} - {NoneType}
    if not kinds:
        return None
    if kinds <= {int, bool}:
        return "integer"
    return "number" if kinds <= {int, float} else "text"


def _kinds_of(model: type) -> Mapping[str, Kind]:
    """Return the kinds of a dataclass's fields, as its annotations say."""
    plain: Mapping[Any, Kind] = {int: "integer", float: "number", str: "text"}
    found: dict[str, Kind] = {}
    for name, hint in get_type_hints(model).items():
        options = [option for option in get_args(hint) or (hint,) if option is not NoneType]
        if len(options) == 1 and options[0] in plain:
            found[name] = plain[options[0]]
    return found


_DECLARED: Mapping[str, Mapping[str, Kind]] = {
    "comparisons": _kinds_of(ResultRow),
    "gates": _kinds_of(GateResult),
    "seconds": _kinds_of(SecondRow),
}
