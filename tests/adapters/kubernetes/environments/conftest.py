"""Clusters that whole environments are brought up in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from living_place import Place, living_place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A fake API server, and puppets that make it live."""
    with living_place(tmp_path) as made:
        monkeypatch.setenv("KUBECONFIG", str(made.fake.kubeconfig))
        yield made


@pytest.fixture
def sink_port() -> Iterator[int]:
    """The port of the program that stands behind a collector's pod."""
    argv = [sys.executable, "-m", "adapters.span_sink", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()
