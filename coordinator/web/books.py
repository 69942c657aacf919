"""Books of this installation beside those of single runs: comparisons of two runs, trends of schedules."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from coordinator.web.installation import Installation
from coordinator.web.reporting import change_key, served
from meshgauge.store import series
from meshgauge.store.database import transaction

if TYPE_CHECKING:
    from reports.pages.book import Book

# Names the two runs of a comparison in one path segment; ids have no two hyphens in a row.
BETWEEN = "--"


def comparison_folder(first: uuid.UUID, second: uuid.UUID) -> str:
    """Return where the comparison of two runs lies, from the root of the pages."""
    return f"compare/{first}{BETWEEN}{second}"


def comparison(
    installed: Installation,
    first: uuid.UUID,
    second: uuid.UUID,
    link: Callable[[str], str | None] | None = served,
) -> tuple[Hashable, Book]:
    """Return the pages of two runs, and what they change with.

    Raises:
        UnknownNameError: no such run.
        InvalidRequestError: it is one and the same run.
    """
    # Statistics and drawing take a second to import, serving anything else needs neither.
    from reports.chapters.two_runs import two_runs_chapter  # noqa: PLC0415
    from reports.comparing.across import compare_runs  # noqa: PLC0415
    from reports.pages.book import book_of  # noqa: PLC0415

    engine, reporting = installed.engine, installed.reporting
    key = ("compare", change_key(engine, first), change_key(engine, second), link is served)

    def make() -> Book:
        across = compare_runs(reporting.analysis(engine, first), reporting.analysis(engine, second))
        return book_of(comparison_folder(first, second), [two_runs_chapter(across)], link=link)

    return key, reporting.other_book(key, make)


def trend_folder(schedule: str) -> str:
    """Return where the nights of a schedule lie, from the root of the pages."""
    return f"trends/{schedule}"


def trend(
    installed: Installation, schedule: str, link: Callable[[str], str | None] | None = served
) -> tuple[Hashable, Book]:
    """Return the pages of a schedule's nights, and what they change with.

    Raises:
        UnknownNameError: no such schedule.
    """
    from reports.chapters.trend import trend_chapter  # noqa: PLC0415
    from reports.pages.book import book_of  # noqa: PLC0415

    with transaction(installed.engine) as connection:
        key = ("trend", series.change_key(connection, schedule), link is served)

    def make() -> Book:
        with transaction(installed.engine) as connection:
            found = series.trend(connection, schedule)
        return book_of(trend_folder(schedule), [trend_chapter(found)], link=link)

    return key, installed.reporting.other_book(key, make)
