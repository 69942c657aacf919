"""Clusters that whole environments are brought up in."""

from __future__ import annotations

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
