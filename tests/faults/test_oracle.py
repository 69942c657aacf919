"""The tests' own eyes: they see what they are there to see."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest
from live_processes import OverlapWatch, carriers, eventually

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def site() -> str:
    """A site nobody else has."""
    return f"oracle-{secrets.token_hex(4)}"


@pytest.fixture
def two_epochs(site: str) -> Iterator[list[int]]:
    """Two processes of one site with different epochs: one says so by variables, one by its standard input."""
    env = {**os.environ, "MESHGAUGE_SITE": f"{site}.0123abcd", "MESHGAUGE_EPOCH": "3"}
    cookie = os.memfd_create(f"meshgauge:5:some-environment:{site}.0123abcd")
    started = [subprocess.Popen(SLEEP, env=env), subprocess.Popen(SLEEP, env={}, stdin=cookie)]
    os.close(cookie)
    yield [process.pid for process in started]
    for process in started:
        process.kill()
        process.wait()


def test_processes_are_recognised_by_variables_and_by_standard_input(site: str, two_epochs: list[int]) -> None:
    eventually(lambda: len(carriers(site)) == 2, 10)
    assert {carrier.pid: carrier.epoch for carrier in carriers(site)} == dict(zip(two_epochs, (3, 5), strict=True))


def test_two_epochs_at_once_are_noticed(site: str, two_epochs: list[int]) -> None:
    with OverlapWatch(site).watching() as watch:
        eventually(lambda: watch.overlaps, 10, "the overlap is seen")
    assert watch.epochs == {3, 5}


def test_another_site_is_not_ours(two_epochs: list[int]) -> None:
    assert carriers("oracle") == []
