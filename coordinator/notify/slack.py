"""Slack, and what takes Slack's incoming webhooks (Mattermost, Rocket.Chat, Discord's /slack): blocks and a text.

Source: docs.slack.dev, "Formatting message text" and "Reference: blocks", for escapes and lengths.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from coordinator.notify.message import Message
from coordinator.notify.outcome import Outcome
from coordinator.notify.post import post
from coordinator.targets import Network

_SECTION_CHARACTERS = 3000  # Slack refuses a block whose text is longer


def escaped(text: str) -> str:
    """Return ``text`` so that Slack shows it as it is: no mention, no link, no channel comes of it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, most: int) -> str:
    """Return ``text`` escaped and cut to ``most`` characters, never within an escape."""
    whole = escaped(text)
    while len(whole) > most:
        text = text[: len(text) - max(1, (len(whole) - most) // 5)]
        whole = f"{escaped(text)}…"
    return whole


def payload_of(message: Message) -> dict[str, Any]:
    """Return the JSON values of a message: the answer first, then the link, then when and what."""
    answer = _cut(message.answer, _SECTION_CHARACTERS)
    title = _cut(message.title, 200)
    when = f"{message.at:%Y-%m-%d %H:%M} UTC"
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": answer, "verbatim": True}},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": f"{title} · {when}", "verbatim": True}]},
    ]
    if message.url is not None:
        url = quote(message.url, safe=":/?=%-._~[]@")
        link = {"type": "section", "text": {"type": "mrkdwn", "text": f"<{url}|Open the page>", "verbatim": True}}
        blocks.insert(1, link)
    return {"text": f"{title}: {answer}", "blocks": blocks, "unfurl_links": False, "unfurl_media": False}


def send(message: Message, url: str, allowed: Sequence[Network]) -> Outcome:
    """Post a message and return what came of it."""
    body = json.dumps(payload_of(message), ensure_ascii=False).encode()
    return post(url, body, {"X-Meshgauge-Delivery": message.delivery}, allowed)
