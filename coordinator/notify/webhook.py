"""Webhooks: the body for programs, and the signature by which they know it is ours."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence

from coordinator.notify.message import Message
from coordinator.notify.outcome import Outcome
from coordinator.notify.post import post
from coordinator.targets import Network

VERSION = 1  # of the body; fields are added without a new number, none changes its meaning or goes without one


def new_secret() -> str:
    """Return a new key for signatures, 256 bits."""
    return f"mgwh_{secrets.token_urlsafe(32)}"


def body_of(message: Message) -> bytes:
    """Return the JSON body: version, delivery, event, at (ISO 8601, UTC), title, answer, url or null, data."""
    return json.dumps(
        {
            "version": VERSION,
            "delivery": message.delivery,
            "event": message.event,
            "at": message.at.isoformat(),
            "title": message.title,
            "answer": message.answer,
            "url": message.url,
            "data": dict(message.data),
        },
        ensure_ascii=False,
    ).encode()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return ``sha256=`` and the HMAC-SHA-256 of timestamp, a full stop and the body, in hexadecimal.

    The time is signed with the body, so that what was overheard cannot be sent again later.
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def headers_of(message: Message, secret: str, body: bytes, now_s: float) -> Mapping[str, str]:
    """Return the headers of one attempt; the signature and its time are new each time, the delivery is not.

    Args:
        now_s: seconds since 1970, UTC.
    """
    timestamp = str(int(now_s))
    return {
        "X-Meshgauge-Event": message.event,
        "X-Meshgauge-Delivery": message.delivery,
        "X-Meshgauge-Timestamp": timestamp,
        "X-Meshgauge-Signature": signature(secret, timestamp, body),
    }


def send(message: Message, url: str, secret: str, allowed: Sequence[Network]) -> Outcome:
    """Post a message and return what came of it."""
    body = body_of(message)
    return post(url, body, headers_of(message, secret, body, time.time()), allowed)
