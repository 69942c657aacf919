"""Where a Locust master listens: an address of this host, or a sentence that says what to set."""

from __future__ import annotations

import pytest

from meshgauge.errors import ConfigurationError
from workers.load_run import free_address


def test_an_address_of_this_host_gets_a_free_port() -> None:
    host, _, port = free_address("127.0.0.1").rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


@pytest.mark.parametrize("host", ["203.0.113.77", "no-such-host.invalid"])  # documentation's own, on no host
def test_an_address_of_elsewhere_is_refused_with_the_setting(host: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{host}.*MESHGAUGE_ADVERTISE_HOST"):
        free_address(host)
