"""Telling people what happened: the one door through which the coordinator's rooms write notices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from meshgauge.store import notices
from meshgauge.store.notices import Event

_MOST_ANSWER = 2000  # characters; receivers cut, and a notice is no report


def tell(connection: sa.Connection, event: Event, key: str, payload: Mapping[str, Any]) -> int:
    """Write a notice for every channel that wants ``event``, in the caller's transaction; return for how many.

    What is rolled back is never told; what is committed is sent by the reconciler, at least once. The same
    ``key`` is told once to each channel, however often it is put: make it of what happened
    (``"gate RUN_ID"``, ``"step 12 confirmed"``), not of when.

    Args:
        payload: JSON values. Needed: ``subject``, what it is about, in a few words (the name of a plan or
            schedule), and ``answer``, one plain sentence that a reader understands without the page, units
            included. Wanted: ``page``, path of the page on this coordinator (``/runs/ID/report``). Anything else is
            handed to webhooks as ``data``. Nothing secret.

    Raises:
        UnknownNameError: no such event.
        ValueError: the payload lacks subject or answer, or its page is no path.
    """
    for name in ("subject", "answer"):
        if not isinstance(payload.get(name), str) or not payload[name].strip():
            raise ValueError(f"a notice needs {name!r}: a text that is not empty")
    page = payload.get("page")
    if page is not None and not (isinstance(page, str) and page.startswith("/") and not page.startswith("//")):
        raise ValueError(f"a notice's page is a path that begins with one slash, not {page!r}")
    return notices.put(connection, event, key, {**payload, "answer": payload["answer"][:_MOST_ANSWER]})
