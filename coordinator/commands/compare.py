"""``compare``: one run against another, each arm divided by the control of its own run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coordinator.commands.connection import open_client
from coordinator.commands.runs import AsJson
from coordinator.commands.terminal import out, show_json

_SHOWN: Mapping[str, str] = {"p50": "p50", "p99": "p99", "cpu": "CPU, app + proxies"}
_STYLES = {"slower": "red", "more": "red", "faster": "green", "less": "green", "equivalent": "cyan", "invalid": "dim"}
_ABSENT = "–"

First = Annotated[
    str, typer.Argument(metavar="A", help="The run to hold the other against: its id or the start of it.")
]
Second = Annotated[str, typer.Argument(metavar="B", help="The run that is compared with it.")]


def compare(first: First, second: Second, as_json: AsJson = False) -> None:
    """Compare run B with run A: what else differs, then each arm divided by its own run's control."""
    with open_client() as client:
        found = client.get("/api/v1/compare", a=first, b=second)
    if as_json:
        show_json(found)
        return
    out().print(comparison_view(found))


def comparison_view(found: Mapping[str, Any]) -> RenderableType:
    """Return the answer, what differs, and one line a result (the JSON of ``/compare``)."""
    parts: list[RenderableType] = [Text(found["answer"])]
    if found["indicative"]:
        parts.append(Text(f"All verdicts are indicative. {found['indicative']}", style="yellow"))
    for condition in found["conditions"]:
        style = "yellow" if condition["weighty"] else "dim"
        parts.append(Text(f"• {condition['fact']}: {condition['first']} | {condition['second']}", style=style))
    rows = [row for row in found["results"] if row["metric"] in _SHOWN]
    if rows:
        parts += [Text(""), _table(rows, found["level"])]
    parts += [
        Text(f"left out: {left['cell']} of run {left['run'][:8]}: {left['reason']}") for left in found["unmatched"]
    ]
    parts += [Text(""), Text(found["caveat"], style="dim")]
    return Group(*parts)


def _table(rows: list[Mapping[str, Any]], level: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    scopes = {(row["workload"], row["load"]) for row in rows}
    for column in ("Arm", *(("Load",) if len(scopes) > 1 else ()), "Metric"):
        table.add_column(column, overflow="fold")
    for column in ("A to control", "B to control", "B against A", f"{100 * level:g} % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Verdict", overflow="fold")
    previous: tuple[str, ...] = ()
    for row in rows:
        identity = (row["label"], *((f"{row['workload']} {row['load']}",) if len(scopes) > 1 else ()))
        shown = [escape(cell) for cell in identity] if identity != previous else [""] * len(identity)
        previous = identity
        table.add_row(*shown, _SHOWN[row["metric"]], *map(escape, _numbers(row)), _verdict(row))
    return table


def _numbers(row: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = row["low"], row["high"]
    return (
        *(_signed(row[name]) for name in ("first_to_control", "second_to_control", "difference")),
        _ABSENT if low is None or high is None else f"[{low:+.1f} .. {high:+.1f}]",
        f"{row['n_first']} + {row['n_second']}",
    )


def _signed(percent: float | None) -> str:
    return _ABSENT if percent is None else f"{percent:+.1f} %"


def _verdict(row: Mapping[str, Any]) -> Text:
    flags = [flag for flag in row["flags"] if flag not in {"across runs", "unconfirmed"}]  # true of the whole table
    word = row["verdict"]
    said = f"{word} ({', '.join(flags)})" if flags else word
    return Text(f"{said}: {row['reason']}" if word == "invalid" else said, style=_STYLES.get(word, ""))
