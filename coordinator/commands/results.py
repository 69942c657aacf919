"""The result of a run as a terminal shows it: the answers in words, then one line a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from meshgauge.errors import ConfigurationError
from reports.pages.files import write_whole

# The primary metrics, and the cost of the proxies alone; all others are on the page.
_SHOWN: Mapping[str, str] = {
    "p50": "p50",
    "p99": "p99",
    "cpu": "CPU, app + proxies",
    "cpu_data_plane": "CPU, proxies",
}
_STYLES = {"slower": "red", "more": "red", "faster": "green", "less": "green", "equivalent": "cyan", "invalid": "dim"}
_ABSENT = "–"


def result_view(summary: Mapping[str, Any]) -> RenderableType:
    """Return the answers and the table of a run's summary (the JSON of ``/summary``)."""
    parts: list[RenderableType] = []
    if summary["indicative"]:
        parts.append(Text(summary["indicative"], style="yellow"))
    if summary["withheld"]:
        parts.append(Text(f"Verdicts withheld: {summary['withheld']}", style="yellow"))
    parts += [Text(f"• {answer['text']}") for answer in summary["answers"]]
    rows = [row for row in summary["results"] if row["metric"] in _SHOWN]
    if rows:
        parts += [Text(""), _table(rows)]
    return Group(*parts)


def _table(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    scopes = {(row["workload"], row["infrastructure"], row["load"]) for row in rows}
    for column in ("Mesh", "Profile", "Against", *(("Load",) if len(scopes) > 1 else ()), "Metric"):
        table.add_column(column, overflow="fold")
    interval = f"{100 * rows[0]['level']:g} % interval"  # of one run: 95 %, and 98.2 % with early looks
    for column in ("Value", "Difference", interval, "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Verdict", overflow="fold")
    previous: tuple[str, ...] = ()
    for row in rows:
        identity = (row["arm"], row["profile"], row["against"], *((_scope(row),) if len(scopes) > 1 else ()))
        shown = [escape(cell) for cell in identity] if identity != previous else [""] * len(identity)
        previous = identity
        table.add_row(*shown, _SHOWN[row["metric"]], *map(escape, _numbers(row)), _verdict(row))
    return table


def _scope(row: Mapping[str, Any]) -> str:
    return f"{row['workload']} {row['load']}"


def _numbers(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    unit, value = row["unit"], row["value"]
    difference, low, high = row["difference"], row["low"], row["high"]
    of = row["difference_unit"]
    digits = 1 if of == "%" else 3
    return (
        _ABSENT if value is None else f"{value:.3g} {_short(unit)}",
        _ABSENT if difference is None else f"{difference:+.{digits}f} {_short(of)}",
        _ABSENT if low is None or high is None else f"[{low:+.{digits}f} .. {high:+.{digits}f}]",
        f"{row['n']}/{row['planned']}",
    )


def _short(unit: str) -> str:
    return unit.replace("cores per 1000 rps", "cores/krps")


def _verdict(row: Mapping[str, Any]) -> Text:
    word = row["verdict"]
    if word is None:
        return Text("")
    flags = f" ({', '.join(row['flags'])})" if row["flags"] else ""
    return Text(f"{word}{flags}", style=_STYLES.get(word, ""))


def save_report(page: str, path: Path) -> Path:
    """Write the report whole or not at all; return its full path.

    Raises:
        ConfigurationError: it cannot be written there.
    """
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise ConfigurationError(
            f"the report cannot be written to {path} ({error.strerror}); name another place with --report"
        ) from error
    return path.resolve()
