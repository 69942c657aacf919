"""Results and report pages, made when asked for and kept until the run they are about changes.

`reports` is imported at the first call: drawing and statistics take a second to load, serving needs neither.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from meshgauge.run import RunRecord
from meshgauge.store import records, runs
from meshgauge.store.database import transaction

if TYPE_CHECKING:
    from reports.analysis import Analysis

T = TypeVar("T")

_Change = tuple[uuid.UUID, int, str]  # run, newest event, state

_KEPT_PAGES = 8  # of one to three megabytes
_KEPT_ANALYSES = 2


class Reporting:
    """Makes one result at a time: two at once would only slow each other, and a measurement beside them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: OrderedDict[_Change, str] = OrderedDict()
        self._analyses: OrderedDict[_Change, Analysis] = OrderedDict()

    def page(self, engine: sa.Engine, run_id: uuid.UUID) -> str:
        """Return the self-contained report of a run as it stands now.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.page import render_run_page  # noqa: PLC0415

        with self._lock:
            return _kept(self._pages, _KEPT_PAGES, engine, run_id, render_run_page)

    def page_policy(self) -> str:
        """Return the Content-Security-Policy of a report."""
        from reports.page import page_security_policy  # noqa: PLC0415

        return page_security_policy()

    def summary(self, engine: sa.Engine, run_id: uuid.UUID) -> dict[str, Any]:
        """Return the answers, remarks and result rows of a run as JSON.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.summary import to_json  # noqa: PLC0415

        return to_json(self.analysis(engine, run_id))

    def tables(self, engine: sa.Engine, run_id: uuid.UUID) -> Mapping[str, str]:
        """Return the tables of a run as CSV, by name.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.tables import tables_of  # noqa: PLC0415

        return tables_of(self.analysis(engine, run_id))

    def exported(self, engine: sa.Engine, run_id: uuid.UUID, name: str, table: str) -> bytes:
        """Return a run in the export format called ``name``; ``table`` says which where it holds one table.

        Raises:
            UnknownNameError: no such run, format or table.
            ConfigurationError: the format needs a package that is not installed.
        """
        from reports.exchange.formats import export  # noqa: PLC0415

        return export(self.analysis(engine, run_id), name, table)

    def analysis(self, engine: sa.Engine, run_id: uuid.UUID) -> Analysis:
        """Return the answers of a run as it stands now.

        Raises:
            UnknownNameError: no such run.
        """
        from reports.analysis import analyse  # noqa: PLC0415

        with self._lock:
            return _kept(self._analyses, _KEPT_ANALYSES, engine, run_id, analyse)


def _kept(
    kept: OrderedDict[_Change, T], most: int, engine: sa.Engine, run_id: uuid.UUID, make: Callable[[RunRecord], T]
) -> T:
    """Return what was made for the run's present state, made now where it was not."""
    with transaction(engine) as connection:
        key = (run_id, records.last_change(connection, run_id), runs.get(connection, run_id).state)
        record = None if key in kept else records.read_run(connection, run_id)
    if record is not None:
        kept[key] = make(record)
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return kept[key]
