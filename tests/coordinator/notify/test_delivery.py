"""The courier: every notice arrives or is given up with a reason, whoever dies, answers late or not at all."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.notices import tell
from coordinator.notify import delivery
from coordinator.notify.delivery import CLAIM_S, MAX_ATTEMPTS, Courier, pause_s, send_test
from meshgauge.errors import MeasurementError, UnknownNameError
from meshgauge.settings import Settings
from meshgauge.store import channels, notices, schema_tracking
from meshgauge.store.channels import Kind
from meshgauge.store.database import transaction
from meshgauge.store.notices import NoticeRow

PAYLOAD = {"subject": "nightly", "answer": "p99 is 12 % higher than allowed.", "page": "/runs/1/report", "run": "1"}
SECRET = "mgwh_of the tests"


@pytest.fixture
def here(settings: Settings) -> Settings:
    """Settings of an operator who lets notices stay on this host."""
    update = {"notify_networks": ("127.0.0.0/8",), "public_url": "https://bench.example.org/", "tick_s": 0.05}
    return settings.model_copy(update=update)


@pytest.fixture
def add(engine: sa.Engine) -> Callable[..., int]:
    """Return a function that makes a channel for gates and finished runs and returns its id."""

    def make(url: str, name: str = "ci", kind: Kind = "webhook") -> int:
        with transaction(engine) as connection:
            return channels.add(connection, name, kind, url, SECRET, ["gate_failed", "run_finished"]).id

    return make


def told(engine: sa.Engine, *keys: str) -> None:
    with transaction(engine) as connection:
        for key in keys:
            tell(connection, "gate_failed", key, PAYLOAD)


def rows(engine: sa.Engine) -> list[NoticeRow]:
    """Return all notices, oldest first."""
    with transaction(engine) as connection:
        return list(reversed(notices.newest(connection, 100)))


def let_all_be_due(engine: sa.Engine) -> None:
    """Let the time of every wait and every claim pass."""
    with transaction(engine) as connection:
        connection.execute(sa.update(schema_tracking.notice).values(not_before=sa.func.now()))


def work(engine: sa.Engine, settings: Settings, rounds: int = 1) -> None:
    courier = Courier(engine, settings)
    for _ in range(rounds):
        courier.round()
        courier.wait(30.0)


def test_what_is_told_arrives_once_with_its_page(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url)
    told(engine, "gate 1", "gate 1", "gate 2")
    work(engine, here, rounds=2)
    assert [got.json["url"] for got in receiver.received] == ["https://bench.example.org/runs/1/report"] * 2
    assert [got.json["answer"] for got in receiver.received] == [PAYLOAD["answer"]] * 2
    assert receiver.received[0].json["data"] == {"subject": "nightly", "run": "1"}
    assert len({got.headers["X-Meshgauge-Delivery"] for got in receiver.received}) == 2
    assert [(row.state, row.attempts, row.reason) for row in rows(engine)] == [("sent", 1, "HTTP 200 OK")] * 2
    assert all(row.sent_at is not None for row in rows(engine))


def test_what_is_refused_is_sent_again_under_the_same_delivery(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url)
    receiver.answers += [(503, {}, b"later"), (503, {}, b"later")]
    told(engine, "gate 1")
    work(engine, here)
    (row,) = rows(engine)
    assert (row.state, row.attempts, row.reason) == ("pending", 1, "HTTP 503 Service Unavailable: later")
    work(engine, here)  # not due yet
    assert len(receiver.received) == 1
    for _ in range(2):
        let_all_be_due(engine)
        work(engine, here)
    assert [(row.state, row.attempts) for row in rows(engine)] == [("sent", 3)]
    assert len({got.headers["X-Meshgauge-Delivery"] for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1


def test_the_wait_a_receiver_asks_for_is_kept(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url)
    receiver.answers.append((429, {"Retry-After": "1800"}, b""))
    told(engine, "gate 1")
    work(engine, here)
    (row,) = rows(engine)
    assert row.not_before - row.created_at >= dt.timedelta(seconds=1800)


def test_a_dead_receiver_is_given_up_with_the_reason(
    engine: sa.Engine, here: Settings, add: Callable[..., int], closed_port: int
) -> None:
    add(f"http://127.0.0.1:{closed_port}/")
    told(engine, "gate 1")
    for _ in range(MAX_ATTEMPTS + 2):
        work(engine, here)
        let_all_be_due(engine)
    (row,) = rows(engine)
    assert (row.state, row.attempts) == ("failed", MAX_ATTEMPTS)
    assert "Connection refused" in (row.reason or "")


def test_gone_ends_it_at_once(engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any) -> None:
    add(receiver.url)
    receiver.answers.append((410, {}, b""))
    told(engine, "gate 1")
    work(engine, here)
    assert [(row.state, row.attempts) for row in rows(engine)] == [("failed", 1)]


def test_whoever_dies_between_sending_and_noting_causes_a_double_that_can_be_known(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(receiver.url)
    told(engine, "gate 1")
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_record", lambda *_arguments: None)  # the process ends here
        work(engine, here)
    assert [(row.state, row.attempts) for row in rows(engine)] == [("pending", 1)]
    work(engine, here)  # the claim holds
    assert len(receiver.received) == 1
    let_all_be_due(engine)
    work(engine, here)
    assert [(row.state, row.attempts) for row in rows(engine)] == [("sent", 2)]
    first, second = (got.headers["X-Meshgauge-Delivery"] for got in receiver.received)
    assert first == second


def test_a_sender_that_never_comes_back_from_its_last_attempt_is_told(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url)
    told(engine, "gate 1")
    with transaction(engine) as connection:
        connection.execute(sa.update(schema_tracking.notice).values(attempts=MAX_ATTEMPTS, reason="HTTP 500"))
    work(engine, here)
    (row,) = rows(engine)
    assert (row.state, receiver.received) == ("failed", [])
    assert row.reason == "HTTP 500; the sender ended in the midst of the last attempt"


def test_a_claim_that_ran_out_changes_nothing(engine: sa.Engine, add: Callable[..., int], receiver: Any) -> None:
    add(receiver.url)
    told(engine, "gate 1")
    with transaction(engine) as connection:
        (slow,) = notices.claim(connection, 0.0, 1)
        connection.commit()
    with transaction(engine) as connection:
        (fast,) = notices.claim(connection, CLAIM_S, 1)
        notices.mark_sent(connection, fast, "ok")
        notices.mark_failed(connection, slow, "too late")
        notices.postpone(connection, slow, "too late", 60.0)
    assert [(row.state, row.reason) for row in rows(engine)] == [("sent", "ok")]


def test_four_couriers_send_forty_notices_once_each(
    engine: sa.Engine, here: Settings, add: Callable[..., int], make_receiver: Callable[..., Any]
) -> None:
    receivers = [make_receiver() for _ in range(4)]
    for at, receiver in enumerate(receivers):
        add(receiver.url, f"c{at}")
    told(engine, *(f"gate {number}" for number in range(10)))
    threads = [threading.Thread(target=work, args=(engine, here, 15)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for receiver in receivers:
        deliveries = [got.headers["X-Meshgauge-Delivery"] for got in receiver.received]
        assert len(deliveries) == len(set(deliveries)) == 10
    assert {(row.state, row.attempts) for row in rows(engine)} == {("sent", 1)}


def test_a_slow_receiver_holds_up_nobody_else(
    engine: sa.Engine, here: Settings, add: Callable[..., int], make_receiver: Callable[..., Any]
) -> None:
    slow, quick = make_receiver(), make_receiver()
    slow.delay_s = 2.0
    add(slow.url, "a-slow")
    add(quick.url, "quick")
    told(engine, "gate 1", "gate 2", "gate 3")
    courier = Courier(engine, here)
    started_s = time.monotonic()
    courier.round()
    assert time.monotonic() - started_s < slow.delay_s
    while len(quick.received) < 3:
        assert not slow.received or all(row.state != "sent" for row in rows(engine) if row.channel == "a-slow")
        courier.round()  # the slow one is not asked twice at once
        time.sleep(0.02)
    assert len(slow.received) <= 1
    courier.wait(30.0)
    assert len(slow.received) == 3


def test_a_channel_removed_while_its_notice_waits_takes_it_along(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url)
    told(engine, "gate 1")
    with transaction(engine) as connection:
        claims = notices.claim(connection, CLAIM_S, 8)
        channels.remove(connection, "ci")
    assert [delivery.deliver(engine, here, claimed) for claimed in claims] == [None]
    assert rows(engine) == []
    assert receiver.received == []


def test_a_defect_is_shown_as_the_reason_and_the_others_go_on(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("oops")

    add(receiver.url)
    told(engine, "gate 1")
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "compose", broken)
        work(engine, here)
    (row,) = rows(engine)
    assert (row.state, row.reason) == ("pending", "a fault of Meshgauge: ZeroDivisionError('oops')")
    let_all_be_due(engine)
    work(engine, here)
    assert rows(engine)[0].state == "sent"


def test_pauses_double_up_to_an_hour_and_differ() -> None:
    longest = [pause_s(attempt, lambda: 1.0) for attempt in range(1, MAX_ATTEMPTS)]
    assert longest[:4] == [15.0, 30.0, 60.0, 120.0]
    assert max(longest) == 3600.0
    assert [pause_s(attempt, lambda: 0.0) for attempt in range(1, MAX_ATTEMPTS)] == [whole / 2 for whole in longest]
    assert 2.0 <= sum(longest) / 2 / 3600 < sum(longest) / 3600 <= 4.1  # hours, as documented


def test_a_test_is_sent_at_once_and_not_again(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url)
    receiver.answers.append((500, {}, b"broken"))
    outcome = send_test(engine, here, "ci")
    assert (outcome.sent, outcome.said) == (False, "HTTP 500 Internal Server Error: broken")
    assert [(row.event, row.state) for row in rows(engine)] == [("test", "failed")]
    assert send_test(engine, here, "ci").sent
    assert receiver.received[1].json["event"] == "test"
    with pytest.raises(UnknownNameError, match="ci"):
        send_test(engine, here, "cd")


def test_old_notices_are_forgotten_those_that_wait_are_not(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any, closed_port: int
) -> None:
    add(receiver.url)
    add(f"http://127.0.0.1:{closed_port}/", "dead")
    told(engine, "gate 1")
    work(engine, here)
    with transaction(engine) as connection:
        old = sa.func.now() - dt.timedelta(days=91)
        connection.execute(sa.update(schema_tracking.notice).values(created_at=old))
    work(engine, here)
    assert [(row.channel, row.state) for row in rows(engine)] == [("dead", "pending")]


def finished(engine: sa.Engine, state: str = "done") -> str:
    run = str(uuid.uuid4())
    facts = {"run": run, "subject": "nightly", "state": state, "reason": "6 measured trials"}
    with transaction(engine) as connection:
        notices.put(connection, "run_finished", f"run {run} finished", facts)
    return run


def test_a_finished_run_says_what_it_found_worked_out_once(
    engine: sa.Engine,
    here: Settings,
    add: Callable[..., int],
    make_receiver: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[uuid.UUID] = []

    def answer(_engine: sa.Engine, run_id: uuid.UUID) -> str:
        asked.append(run_id)
        return "envoy is slower by 12 %."

    monkeypatch.setattr(delivery, "answer_of_run", answer)
    one, other = make_receiver(), make_receiver()
    add(one.url, "one")
    run = finished(engine)
    one.answers.append((500, {}, b""))
    work(engine, here)
    let_all_be_due(engine)
    work(engine, here)
    assert [str(run_id) for run_id in asked] == [run]
    assert [got.json["answer"] for got in one.received] == ["envoy is slower by 12 %."] * 2
    assert one.received[0].json["url"] == f"https://bench.example.org/runs/{run}"
    assert one.received[0].json["title"] == "Run finished: nightly"
    assert other.received == []


@pytest.mark.parametrize(
    ("state", "title", "answer"),
    [
        ("failed", "Run failed: nightly", "The run failed: 6 measured trials."),
        ("cancelled", "Run cancelled: nightly", "The run was cancelled: 6 measured trials."),
        ("done", "Run finished: nightly", "The run is done: 6 measured trials."),
    ],
)
def test_a_run_that_answers_nothing_says_how_it_ended(
    engine: sa.Engine,
    here: Settings,
    add: Callable[..., int],
    receiver: Any,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    title: str,
    answer: str,
) -> None:
    def unreadable(_engine: sa.Engine, _run_id: uuid.UUID) -> str:
        raise MeasurementError("a trial is counted twice")

    monkeypatch.setattr(delivery, "answer_of_run", unreadable)
    add(receiver.url)
    finished(engine, state)
    work(engine, here)
    (got,) = receiver.received
    assert (got.json["title"], got.json["answer"]) == (title, answer)


def test_slack_and_mail_go_their_own_ways(
    engine: sa.Engine, here: Settings, add: Callable[..., int], receiver: Any
) -> None:
    add(receiver.url, "team", "slack")
    add("someone@example.org", "me", "email")
    told(engine, "gate 1")
    work(engine, here)
    assert receiver.received[0].json["blocks"][0]["text"]["text"] == PAYLOAD["answer"]
    assert "X-Meshgauge-Signature" not in receiver.received[0].headers
    state = {row.channel: (row.state, row.reason) for row in rows(engine)}
    assert state["team"][0] == "sent"
    assert state["me"][0] == "pending"
    assert "MESHGAUGE_SMTP_URL" in (state["me"][1] or "")
