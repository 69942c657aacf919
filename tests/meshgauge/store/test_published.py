"""Published series in the store: kept as they came, never overwritten."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from meshgauge.errors import ConflictError, UnknownNameError
from meshgauge.store import published
from meshgauge.store.database import transaction

ROWS = {"caveats": ["closed loop"], "points": [{"arm": "x", "p50_ms": 1.5, "p99_ms": None}]}


def test_a_series_is_kept_listed_and_removed(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        made = published.add(connection, "istio-2020", "istio/tools", "istio-csv", ROWS, "tests")
        assert published.get(connection, "istio-2020") == made
        assert published.listed(connection) == (made,)
        assert made.rows == ROWS
        published.remove(connection, "istio-2020")
        assert published.listed(connection) == ()


def test_a_name_is_taken_once(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        published.add(connection, "istio", "first", "istio-csv", ROWS, "tests")
        with pytest.raises(ConflictError, match="choose another name"):
            published.add(connection, "istio", "second", "istio-csv", ROWS, "tests")
        assert published.get(connection, "istio").source == "first"


def test_an_unknown_name_names_the_nearest(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        published.add(connection, "istio", "first", "istio-csv", ROWS, "tests")
        for ask in (published.get, published.remove):
            with pytest.raises(UnknownNameError, match="Did you mean 'istio'"):
                ask(connection, "isto")
