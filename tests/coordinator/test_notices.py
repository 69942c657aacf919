"""Telling: in the caller's transaction, to those who want it, the same thing once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.notices import tell
from meshgauge.errors import UnknownNameError
from meshgauge.store import channels, notices
from meshgauge.store.database import transaction
from meshgauge.store.notices import NoticeRow

PAYLOAD = {"subject": "nightly", "answer": "p99 of envoy is 12 % higher than in the last 10 runs.", "page": "/trends/x"}


@pytest.fixture
def wanting(engine: sa.Engine) -> str:
    """The name of a channel that wants steps and gates."""
    name = f"c-{uuid.uuid4().hex[:8]}"
    with transaction(engine) as connection:
        channels.add(connection, name, "webhook", "https://example.org/hook", "s", ["gate_failed", "step_suspected"])
        channels.add(connection, f"{name}-else", "email", "who@example.org", None, ["run_finished"])
    return name


def written(engine: sa.Engine) -> tuple[NoticeRow, ...]:
    with transaction(engine) as connection:
        return notices.newest(connection, 50)


def test_only_those_who_want_an_event_are_told(engine: sa.Engine, wanting: str) -> None:
    with transaction(engine) as connection:
        assert tell(connection, "gate_failed", "gate 1", PAYLOAD) == 1
        assert tell(connection, "step_confirmed", "step 1 confirmed", PAYLOAD) == 0
    assert [(row.channel, row.event, row.state, row.attempts) for row in written(engine)] == [
        (wanting, "gate_failed", "pending", 0)
    ]


def test_the_same_key_is_told_once(engine: sa.Engine, wanting: str) -> None:
    for expected in (1, 0, 0):
        with transaction(engine) as connection:
            assert tell(connection, "gate_failed", "gate 1", PAYLOAD) == expected
    assert len(written(engine)) == 1


def test_what_is_rolled_back_is_never_told(engine: sa.Engine, wanting: str) -> None:
    def tell_and_fail() -> None:
        with transaction(engine) as connection:
            tell(connection, "gate_failed", "gate 1", PAYLOAD)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tell_and_fail()
    assert written(engine) == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"answer": " "}, "answer"), ({"subject": None}, "subject"), ({"page": "https://elsewhere"}, "page"),
     ({"page": "//elsewhere"}, "page")],
)  # fmt: skip
def test_a_notice_without_an_answer_or_with_a_foreign_page_is_refused(
    engine: sa.Engine, wanting: str, changes: dict[str, Any], named: str
) -> None:
    with transaction(engine) as connection, pytest.raises(ValueError, match=named):
        tell(connection, "gate_failed", "gate 1", {**PAYLOAD, **changes})


def test_an_unknown_event_is_refused(engine: sa.Engine) -> None:
    with transaction(engine) as connection, pytest.raises(UnknownNameError, match="gate_failed"):
        tell(connection, "gate_fail", "gate 1", PAYLOAD)  # type: ignore[arg-type]
