"""A notice as something to read: title, answer, link. What each kind of channel then writes in its own way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.notify.outcome import one_line
from meshgauge.store.notices import Claimed, Event

TITLE_CHARACTERS = 150

_TITLES: Mapping[Event, str] = {
    "run_finished": "Run finished: {subject}",
    "gate_failed": "Gate not passed: {subject}",
    "step_suspected": "Step suspected: {subject}",
    "step_confirmed": "Step confirmed: {subject}",
    "step_not_reproduced": "Step not reproduced: {subject}",
    "test": "Test notice for {subject}",
}
_RUN_TITLES = {"failed": "Run failed: {subject}", "cancelled": "Run cancelled: {subject}"}


@dataclass(frozen=True, slots=True)
class Message:
    """One notice, for people.

    Attributes:
        delivery: the same for every attempt.
        title: one line.
        answer: what happened, in words; units included.
        url: the page about it; None while the installation has no public address.
        data: the rest of the payload, for programs.
    """

    delivery: str
    event: Event
    at: dt.datetime
    title: str
    answer: str
    url: str | None
    data: Mapping[str, Any]


def compose(claimed: Claimed, public_url: str | None) -> Message:
    """Return the message of a notice. Names in it are others' words: whoever writes it escapes them."""
    payload = dict(claimed.payload)
    subject, answer, page = str(payload.pop("subject", "")), payload.pop("answer", None), payload.pop("page", None)
    title = _TITLES[claimed.event]
    if claimed.event == "run_finished":
        title = _RUN_TITLES.get(str(payload.get("state")), title)
        page = page or f"/runs/{payload['run']}"
        answer = answer or _sentence_of_run(payload)
    return Message(
        delivery=str(claimed.delivery_id),
        event=claimed.event,
        at=claimed.created_at,
        title=one_line(title.format_map({"subject": subject}), TITLE_CHARACTERS),
        answer=str(answer),
        url=None if public_url is None or page is None else f"{public_url.rstrip('/')}{page}",
        data={"subject": subject, **payload},
    )


def _sentence_of_run(payload: Mapping[str, Any]) -> str:
    state = str(payload.get("state"))
    happened = {"done": "The run is done", "cancelled": "The run was cancelled"}.get(state, f"The run {state}")
    return f"{happened}: {payload.get('reason') or 'no reason is known'}."
