"""Servers of the user's own that do not answer are named, without their passwords."""

from __future__ import annotations

import pytest

from coordinator.embedded.external import check_broker, check_database
from meshgauge.errors import ConfigurationError, MeshgaugeError, ServiceUnavailableError


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("postgresql+psycopg2://me:hush@127.0.0.1:1/d", ServiceUnavailableError, ("Connection refused", "127.0.0.1:1")),
        ("postgresql+psycopg2://me:hush@no.such.host.invalid/d", ServiceUnavailableError, ("no.such.host.invalid",)),
        ("sqlite:///x.db", ConfigurationError, ("only Postgres is supported",)),
        ("me:hush@nowhere", ConfigurationError, ("is no URL", "postgresql+psycopg2://")),
    ],
)
def test_a_database_that_cannot_be_used_is_said(url: str, error: type[MeshgaugeError], words: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        check_database(url)
    for word in (*words, "MESHGAUGE_DATABASE_URL"):
        assert word in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("redis://:hush@127.0.0.1:1/0", ServiceUnavailableError, ("refused", "127.0.0.1:1")),
        ("redis+socket://:hush@/nonexistent/s?virtual_host=0", ServiceUnavailableError, ("/nonexistent/s",)),
        ("amqp://me:hush@127.0.0.1:1", ConfigurationError, ("no URL of a Redis-protocol server",)),
    ],
)
def test_a_broker_that_cannot_be_used_is_said(url: str, error: type[MeshgaugeError], words: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        check_broker(url)
    for word in (*words, "MESHGAUGE_BROKER_URL"):
        assert word in str(caught.value)
    assert "hush" not in str(caught.value)
