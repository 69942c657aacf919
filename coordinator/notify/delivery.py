"""The courier: claims due notices, sends each in a thread of its own, and records what came of it.

At least once: a notice is claimed for CLAIM_S, sent, and only then recorded. Whoever dies in between leaves a
claim that runs out, and the notice is sent again with the same delivery id. Several couriers may work at once.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from coordinator.notify import mail, slack, webhook
from coordinator.notify.answers import answer_of_run
from coordinator.notify.message import Message, compose
from coordinator.notify.outcome import Outcome, one_line
from coordinator.targets import allowed_networks
from meshgauge.errors import ConfigurationError, MeshgaugeError
from meshgauge.settings import Settings
from meshgauge.store import channels, notices
from meshgauge.store.channels import ChannelRow
from meshgauge.store.database import retried, transaction
from meshgauge.store.notices import Claimed

CLAIM_S = 180.0  # far more than an attempt takes, statistics of a large run included
MAX_ATTEMPTS = 12
FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 3600.0
MOST_AT_ONCE = 8
KEPT = dt.timedelta(days=90)
_FORGET_EVERY_S = 3600.0
_RECORD_WITHIN_S = 60.0  # while Postgres is away; after that the notice is sent again

log = structlog.get_logger()


def pause_s(attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """Return the wait after failed attempt number ``attempt``: doubled each time, and up to half of it left off.

    Twelve attempts span two to four hours. The jitter keeps receivers that failed together from being asked
    together. Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, equal jitter.
    """
    whole = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return whole * (0.5 + 0.5 * jitter())


def send(channel: ChannelRow, message: Message, settings: Settings) -> Outcome:
    """Send one message to one channel and return what came of it."""
    try:
        networks = allowed_networks(settings.notify_networks, "NOTIFY_NETWORKS")
        if channel.kind == "email":
            return mail.send(message, channel.target, mail.server_of(settings))
        if channel.kind == "slack":
            return slack.send(message, channel.target, networks)
        return webhook.send(message, channel.target, channel.secret or "", networks)
    except ConfigurationError as error:  # an operator can mend it
        return Outcome(False, one_line(str(error), 300), again=True)


def deliver(engine: sa.Engine, settings: Settings, claimed: Claimed) -> Outcome | None:
    """Send a claimed notice and record what came of it; None when its channel was removed meanwhile.

    Raises:
        ServiceUnavailableError: Postgres is away for long; the notice is sent again when it is back.
    """
    with transaction(engine) as connection:
        channel = channels.by_id(connection, claimed.channel_id)
    if channel is None:
        return None
    started_s = time.monotonic()
    outcome = send(channel, compose(_with_answer(engine, claimed), settings.public_url), settings)
    retried(lambda: _record(engine, claimed, outcome), time.monotonic() + _RECORD_WITHIN_S)
    log.info(
        "notice_sent" if outcome.sent else "notice_not_sent",
        channel=channel.name,
        notice_event=claimed.event,
        key=claimed.key,
        attempt=claimed.attempt,
        said=outcome.said,
        duration_s=round(time.monotonic() - started_s, 3),
    )
    return outcome


def _with_answer(engine: sa.Engine, claimed: Claimed) -> Claimed:
    """Add what a finished run found; all channels and all attempts then say the same."""
    payload = claimed.payload
    if claimed.event != "run_finished" or "answer" in payload or payload.get("state") != "done":
        return claimed
    try:
        answer = answer_of_run(engine, uuid.UUID(payload["run"]))
    except MeshgaugeError as error:  # deleted, or unreadable: that it is finished is still worth telling
        log.warning("no_answer_for_notice", run=payload["run"], reason=str(error))
        answer = None
    if answer is None:
        return claimed
    with transaction(engine) as connection:
        notices.enrich(connection, claimed.key, {"answer": answer})
    return _enriched(claimed, {"answer": answer})


def _enriched(claimed: Claimed, facts: dict[str, Any]) -> Claimed:
    payload = {**claimed.payload, **facts}
    return Claimed(
        claimed.id, claimed.channel_id, claimed.event, claimed.key, payload, claimed.attempt, claimed.created_at
    )


def _record(engine: sa.Engine, claimed: Claimed, outcome: Outcome) -> None:
    with transaction(engine) as connection:
        if outcome.sent:
            notices.mark_sent(connection, claimed, outcome.said)
        elif outcome.again and claimed.attempt < MAX_ATTEMPTS and claimed.event != "test":
            wait_s = max(pause_s(claimed.attempt), outcome.pause_s or 0.0)
            notices.postpone(connection, claimed, outcome.said, wait_s)
        else:
            notices.mark_failed(connection, claimed, outcome.said)


def send_test(engine: sa.Engine, settings: Settings, name: str) -> Outcome:
    """Send a test notice to a channel now, once, and return what came back.

    Raises:
        UnknownNameError: no such channel.
    """
    facts = {"subject": name, "answer": f"This is a test: notices of Meshgauge reach the channel {name}.", "page": "/"}
    with transaction(engine) as connection:
        channel = channels.get(connection, name)
        claimed = notices.put_claimed(connection, channel.id, "test", f"test {uuid.uuid4()}", facts, CLAIM_S)
    return deliver(engine, settings, claimed) or Outcome(False, "the channel was removed meanwhile")


class Courier:
    """Sends what is due, one notice at a time to each channel: a slow receiver holds up nobody else."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._lock = threading.Lock()
        self._busy: dict[int, threading.Thread] = {}  # by channel
        self._forgot_s = float("-inf")

    def round(self) -> None:
        """Begin to send what is due; return without waiting for it.

        Raises:
            ServiceUnavailableError: Postgres is away.
        """
        self._forget()
        with self._lock:
            busy = tuple(self._busy)
        free = MOST_AT_ONCE - len(busy)
        if free <= 0:
            return
        for claimed in self._claim(free, busy):
            # Daemons: asked to stop, nobody waits for a receiver. What was under way is sent again.
            thread = threading.Thread(target=self._send_all, args=(claimed,), daemon=True, name=f"notice-{claimed.id}")
            with self._lock:
                self._busy[claimed.channel_id] = thread
            thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing is being sent, at most ``timeout_s`` for each channel."""
        with self._lock:
            threads = list(self._busy.values())
        for thread in threads:
            thread.join(timeout_s)

    def _send_all(self, first: Claimed) -> None:
        """Send a notice, and as long as that works the channel's others that are due."""
        try:
            claimed: Claimed | None = first
            while claimed is not None:
                outcome = deliver(self._engine, self._settings, claimed)
                follows = self._claim(1, only=claimed.channel_id) if outcome is not None and outcome.sent else ()
                claimed = follows[0] if follows else None
        except MeshgaugeError as error:
            log.error("notice_interrupted", channel_id=first.channel_id, reason=str(error))  # noqa: TRY400 - a sentence
        except Exception as error:  # a defect must not stop the others: it is logged, and shown as the reason
            log.exception("notice_crashed", channel_id=first.channel_id)
            self._record_defect(claimed or first, error)
        finally:
            with self._lock:
                del self._busy[first.channel_id]

    def _claim(self, limit: int, busy: Sequence[int] = (), only: int | None = None) -> tuple[Claimed, ...]:
        with transaction(self._engine) as connection:
            if ended := notices.give_up(connection, MAX_ATTEMPTS):
                log.warning("notices_given_up", number=ended)
            return notices.claim(connection, CLAIM_S, limit, busy, only)

    def _record_defect(self, claimed: Claimed, error: Exception) -> None:
        try:
            _record(self._engine, claimed, Outcome(False, one_line(f"a fault of Meshgauge: {error!r}"), again=True))
        except MeshgaugeError as away:
            log.error("notice_interrupted", channel_id=claimed.channel_id, reason=str(away))  # noqa: TRY400

    def _forget(self) -> None:
        if time.monotonic() - self._forgot_s < _FORGET_EVERY_S:
            return
        with transaction(self._engine) as connection:
            notices.forget(connection, KEPT)
        self._forgot_s = time.monotonic()
