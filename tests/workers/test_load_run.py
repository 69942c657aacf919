"""Where the Locust master listens."""

from __future__ import annotations

import socket

import pytest

from meshgauge.errors import ConfigurationError
from workers.load_run import free_address


def test_a_free_address_can_be_listened_at() -> None:
    host, _, port = free_address().rpartition(":")
    with socket.socket() as listening:
        listening.bind((host, int(port)))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_this_host_does_not_have_is_told_with_the_setting(host: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"can listen on {host} here .*MESHGAUGE_ADVERTISE_HOST"):
        free_address(host)
