"""What a test of tests/cluster stands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plain_client import PlainClient


@dataclass(frozen=True, slots=True)
class Ground:
    """A cluster to test against.

    Attributes:
        charts: mirror; None: the meshes' own repositories.
        client: HTTP without any of the product's code.
        namespace: a name nobody else uses.
        is_real: whether a real API server answers.
    """

    kubeconfig: Path
    context: str
    charts: str | None
    client: PlainClient
    namespace: str
    is_real: bool
