"""Webhooks: the signature holds by the recipe of the documentation, the body by its table."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from coordinator.notify import webhook
from coordinator.notify.message import Message
from meshgauge.store.notices import EVENTS

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
DOCUMENT = (Path(__file__).parents[3] / "deploy" / "notifications.md").read_text()
SECRET = "mgwh_a secret of the tests"


@pytest.fixture
def is_from_meshgauge() -> Callable[..., bool]:
    """The function receivers copy from the documentation."""
    (recipe,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(recipe, names)  # noqa: S102 - our own documentation
    found: Callable[..., bool] = names["is_from_meshgauge"]
    return found


def test_what_arrives_passes_the_recipe_of_the_documentation(
    receiver: Any, make_message: Callable[..., Message], is_from_meshgauge: Callable[..., bool]
) -> None:
    assert webhook.send(make_message(answer="π ≈ 3 ms"), receiver.url, SECRET, LOOPBACK).sent
    (got,) = receiver.received
    assert is_from_meshgauge(SECRET, got.headers, got.body)
    assert not is_from_meshgauge("another secret", got.headers, got.body)
    assert not is_from_meshgauge(SECRET, got.headers, got.body.replace(b"3 ms", b"4 ms"))
    later = str(int(got.headers["X-Meshgauge-Timestamp"]) + 1)
    assert not is_from_meshgauge(SECRET, {**got.headers, "X-Meshgauge-Timestamp": later}, got.body)


def test_what_was_overheard_is_worth_nothing_after_minutes(
    make_message: Callable[..., Message], is_from_meshgauge: Callable[..., bool]
) -> None:
    message = make_message()
    body = webhook.body_of(message)
    headers = webhook.headers_of(message, SECRET, body, now_s=1_000_000.9)
    assert is_from_meshgauge(SECRET, headers, body, now_s=1_000_250.0)
    assert not is_from_meshgauge(SECRET, headers, body, now_s=1_000_350.0)


def test_the_signature_is_the_hmac_of_time_and_body() -> None:
    """Worked out by hand from RFC 2104, without the hmac module."""
    key = b"k".ljust(64, b"\x00")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + b'17.{"a": 1}').digest()
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()
    assert webhook.signature("k", "17", b'{"a": 1}') == f"sha256={outer}"
    assert hmac.compare_digest(webhook.signature("k", "17", b'{"a": 1}'), f"sha256={outer}")


def test_the_body_has_the_documented_fields_and_no_secret(make_message: Callable[..., Message]) -> None:
    message = make_message(url=None)
    body = json.loads(webhook.body_of(message))
    table = DOCUMENT.split("## Webhooks")[1].split("```")[0]
    assert set(body) == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert (body["version"], body["url"]) == (1, None)
    assert body["answer"] == message.answer
    assert SECRET not in webhook.body_of(message).decode()


def test_headers_name_event_and_delivery(make_message: Callable[..., Message]) -> None:
    message = make_message()
    headers: Mapping[str, str] = webhook.headers_of(message, SECRET, b"{}", 17.0)
    assert headers["X-Meshgauge-Event"] == "gate_failed"
    assert headers["X-Meshgauge-Delivery"] == message.delivery
    assert headers["X-Meshgauge-Timestamp"] == "17"


def test_secrets_differ_and_are_long() -> None:
    assert len({webhook.new_secret() for _ in range(100)}) == 100
    assert len(webhook.new_secret()) >= 43


def test_every_event_is_documented() -> None:
    assert all(f"`{event}`" in DOCUMENT for event in EVENTS)
