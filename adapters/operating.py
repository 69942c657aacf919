"""Operations: one step of a mesh's life outside of a run, or the contract suite, on whichever provider is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adapters.contract import Check, Endpoint, Environment
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import UnsupportedError
from meshgauge.matrix import EnvironmentKey
from meshgauge.operations import OperationRequest


@dataclass(frozen=True, slots=True)
class OperationOrder:
    """Everything needed to carry out an operation.

    Attributes:
        place: the site's own name.
        site, epoch: stamped on every process or object, so that leftovers of older epochs are found.
        directory: private, empty, ours alone; removed by whoever made it.
        cache_dir: where binaries and indexes of charts are kept.
        load_image: Meshgauge's own container image, run as load workers in clusters; empty: none is named.
    """

    operation_id: str
    request: OperationRequest
    place: str
    site: str
    epoch: int
    directory: Path
    cache_dir: Path
    load_image: str = ""


class Report(Protocol):
    """Where an operation tells how it goes."""

    def phase(self, name: str) -> None:
        """Say which step begins."""

    def line(self, text: str) -> None:
        """Say one thing that happened."""

    def conformance(self, result: ConformanceResult) -> None:
        """Hand over one result of the contract suite."""


class Drive(Protocol):
    """Sends load from inside a cluster; adapters have none of their own."""

    def __call__(self, environment: Environment, entry: Endpoint, key: EnvironmentKey) -> Sequence[Check]:
        """Return every check made around one short trial in an environment that is up."""


def carry_out(order: OperationOrder, report: Report, drive: Drive | None = None) -> Mapping[str, Any]:
    """Do what ``order`` says; return what is worth keeping. A key ``failed`` says why it is not a success.

    Raises:
        MeshgaugeError: it did not work; the sentence says what, where and what to do.
    """
    if order.request.action == "conformance":
        from adapters.conformance import check_adapter  # noqa: PLC0415 - each action loads its own side alone

        return check_adapter(order, report, drive)
    if order.request.provider == "kubernetes":
        from adapters.kubernetes.operating import operate  # noqa: PLC0415

        return operate(order, report)
    raise UnsupportedError(f"{order.request.action} means nothing for provider {order.request.provider}")
