"""Slack: the answer first, names shown as they are, nothing longer than Slack takes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.notify import slack
from coordinator.notify.message import Message

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
HOSTILE = "<!channel> <https://evil.example|click> & <@U123> *bold*"


def texts(payload: dict[str, Any]) -> list[str]:
    found = [payload["text"]]
    for block in payload["blocks"]:
        found += [block["text"]["text"]] if "text" in block else [element["text"] for element in block["elements"]]
    return found


def test_the_answer_comes_first_then_the_link_then_when(receiver: Any, make_message: Callable[..., Message]) -> None:
    message = make_message()
    assert slack.send(message, receiver.url, LOOPBACK).sent
    payload = receiver.received[0].json
    answer, link, context = payload["blocks"]
    assert answer["text"] == {"type": "mrkdwn", "text": message.answer, "verbatim": True}
    assert link["text"]["text"] == "<https://bench.example.org/runs/1|Open the page>"
    assert context["elements"][0]["text"] == "Gate not passed: nightly · 2026-11-23 02:30 UTC"
    assert payload["text"] == f"{message.title}: {message.answer}"


def test_without_a_public_address_there_is_no_link(make_message: Callable[..., Message]) -> None:
    assert not any("Open the page" in text for text in texts(slack.payload_of(make_message(url=None))))


def test_names_become_no_mentions_and_no_links(make_message: Callable[..., Message]) -> None:
    payload = slack.payload_of(make_message(answer=HOSTILE, title=HOSTILE, url="https://x.example/<!here>|y"))
    for text in texts(payload):
        left = text.replace("<https://x.example/%3C%21here%3E%7Cy|Open the page>", "")
        assert "<" not in left
        assert ">" not in left
    assert "&lt;!channel&gt;" in payload["text"]


@settings(max_examples=50, deadline=None)
@given(answer=st.text(alphabet="&<>ax", max_size=6000))
def test_no_text_is_longer_than_slack_takes_nor_cut_within_an_escape(answer: str) -> None:
    cut = slack._cut(answer, 3000)
    assert len(cut) <= 3000
    assert re.fullmatch(r"(?:[^&<>]|&amp;|&lt;|&gt;)*", cut)
    if len(slack.escaped(answer)) <= 3000:
        assert cut == slack.escaped(answer)
