"""Times in words a reader takes in at a glance; the same on pages and in the terminal."""

from __future__ import annotations

import datetime as dt


def duration(seconds: float | None) -> str:
    """Return a span such as ``4.2 s``, ``3 min 05 s`` or ``2 h 10 min``; a dash when it is not known."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def moment(at: dt.datetime | None) -> str:
    """Return an instant in UTC to the second; a dash when there is none."""
    return "–" if at is None else at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: dt.datetime) -> str:
    """Return an instant of this year in UTC, short, for lists."""
    return at.astimezone(dt.UTC).strftime("%m-%d %H:%M:%S")
