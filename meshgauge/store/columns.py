"""Columns that many tables have."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, Column, Text, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine


def instant() -> TypeEngine[dt.datetime]:
    """Return the type of a moment."""
    return TIMESTAMP(timezone=True)


def now(name: str) -> Column[Any]:
    """Return a column that is the moment of insertion by default."""
    return Column(name, instant(), nullable=False, server_default=func.now())


def state_of(name: str, *states: str, default: str) -> tuple[Column[str], CheckConstraint]:
    """Return a column that holds one of ``states``, and the constraint that sees to it."""
    allowed = ", ".join(f"'{state}'" for state in states)
    return (
        Column(name, Text, nullable=False, server_default=default),
        CheckConstraint(f"{name} IN ({allowed})", name=name),
    )
