"""The order a worker hands to the runner of an operation, in a file; its events come back as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from meshgauge.operations import OperationRequest
from workers.work import ORDER_FILE


@dataclass(frozen=True, slots=True)
class OperationWork:
    """One operation under one claim.

    Attributes:
        place: the site's own name; ``site`` is what its processes and objects carry.
        directory: of this claim alone.
        runtime_dir: private and short-lived, for processes and sockets.
    """

    operation_id: str
    request: Mapping[str, Any]
    place: str
    site: str
    epoch: int
    directory: str
    runtime_dir: str
    cache_dir: str
    load_image: str
    load_engine: str
    advertise_host: str

    def write(self) -> Path:
        """Write the order into its directory; return the file."""
        path = Path(self.directory) / ORDER_FILE
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the order ``write`` wrote."""
        return cls(**json.loads(path.read_text()))

    def validated_request(self) -> OperationRequest:
        """Return what was asked for."""
        return OperationRequest.model_validate(self.request)
