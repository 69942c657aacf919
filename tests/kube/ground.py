"""What a test of tests/cluster stands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plain_client import PlainClient
from puppet import Puppet


@dataclass(frozen=True, slots=True)
class Ground:
    """A cluster to test against.

    Attributes:
        charts: mirror; None: the meshes' own repositories.
        poor: kubeconfig of a user who may nothing.
        client: HTTP without any of the product's code.
        namespace: a name nobody else uses.
        is_real: whether a real API server answers.
        puppet: what plays the kubelet; None: there is a real one, or none is needed.
    """

    kubeconfig: Path
    poor: Path
    context: str
    charts: str | None
    client: PlainClient
    namespace: str
    is_real: bool
    puppet: Puppet | None

    @property
    def has_puppet(self) -> bool:
        """Whether pods only seem to run."""
        return self.puppet is not None
