"""What is stored with a run about the installation that accepted it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshgauge.revision import own_revision, own_version


def of_run() -> Mapping[str, Any]:
    """Return what is stored with a run about the installation that accepted it."""
    return {"meshgauge": {"version": own_version(), "revision": own_revision()}}
