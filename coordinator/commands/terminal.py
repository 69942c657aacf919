"""What commands print with: results on standard output, everything about them on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDTH_OF_FILES = 160  # no terminal, no width: do not fold tables at 80 characters


def out() -> Console:
    """Return the console of results."""
    return _console(sys.stdout.isatty(), stderr=False)


def err() -> Console:
    """Return the console of progress and remarks."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(is_terminal: bool, *, stderr: bool) -> Console:
    return Console(stderr=stderr, highlight=False, width=None if is_terminal else _WIDTH_OF_FILES)


def say(sentence: str) -> None:
    """Tell how things go."""
    err().print(escape(sentence), soft_wrap=True)


def show_json(value: Any) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> Table:
    """Return a table; columns named in ``right`` hold numbers. Cells are shown as they are."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    numbers = set(right)
    for column in columns:
        made.add_column(escape(column), justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    return made
