"""The page about notifications names commands, options, settings, limits and headers as they are."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import typer.main

from coordinator.commands.channels import notify
from coordinator.notify import delivery, post, webhook
from coordinator.notify.message import Message
from meshgauge.settings import Settings
from meshgauge.store.notices import EVENTS

DOCUMENT = (Path(__file__).parents[2] / "deploy" / "notifications.md").read_text()


def test_commands_and_options_exist() -> None:
    group = typer.main.get_group(notify)
    lines = re.findall(r"meshgauge notify (\w+)([^\n`#]*)", DOCUMENT)
    assert {name for name, _ in lines} >= {"add", "test", "log"}
    for name, words in lines:
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--\w+", words)) <= known, name


def test_settings_and_events_exist() -> None:
    named = set(re.findall(r"MESHGAUGE_([A-Z_]+)", DOCUMENT))
    assert {"PUBLIC_URL", "NOTIFY_NETWORKS", "SMTP_URL", "MAIL_FROM"} <= named
    assert named <= {name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"`((?:run|gate|step)_\w+)`", DOCUMENT)) == set(EVENTS) - {"test"}


def test_headers_are_those_that_are_sent() -> None:
    message = Message("d", "test", dt.datetime(2026, 11, 23, tzinfo=dt.UTC), "t", "a", None, {})
    sent = webhook.headers_of(message, "secret", b"{}", 0.0)
    assert set(re.findall(r"X-Meshgauge-\w+", DOCUMENT)) == set(sent)


def test_limits_are_those_that_hold() -> None:
    text = " ".join(DOCUMENT.split())
    assert delivery.MAX_ATTEMPTS == 12
    assert "Twelve attempts" in text
    assert f"{post.CONNECT_S:g} s to take the connection, {post.SILENCE_S:g} s for each reply" in text
    assert f"and {post.WHOLE_S:g} s in all" in text
    assert f"at most {post.MOST_PAUSE_S:g}" in text
    assert f"forgotten after {delivery.KEPT.days} days" in text
    assert f"| `version` | {webhook.VERSION} |" in text
