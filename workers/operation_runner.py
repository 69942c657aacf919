"""The runner of an operation: carries it out below a guard and tells each step. It knows no database and no queue."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from adapters.operating import OperationOrder, carry_out
from meshgauge.conformance import ConformanceResult
from meshgauge.errors import MeshgaugeError
from workers.operation_load import ClusterLoad
from workers.operation_work import OperationWork
from workers.work import EventStream


class Telling:
    """Tells the watcher what happens; implements ``adapters.operating.Report``."""

    def __init__(self, events: EventStream) -> None:
        self._events = events

    def phase(self, name: str) -> None:
        """Tell which step begins."""
        self._events.send("phase", phase=name)

    def line(self, text: str) -> None:
        """Tell one thing that happened."""
        self._events.send("line", text=text)

    def conformance(self, result: ConformanceResult) -> None:
        """Hand over one result of the contract suite."""
        self._events.send("conformance", result=result.to_json())


def run(work: OperationWork, events: EventStream) -> None:
    """Carry the operation out and send the last event; an error becomes its reason."""
    order = OperationOrder(
        operation_id=work.operation_id,
        request=work.validated_request(),
        place=work.place,
        site=work.site,
        epoch=work.epoch,
        directory=Path(work.runtime_dir),
        cache_dir=Path(work.cache_dir),
        load_image=work.load_image,
    )
    drive = ClusterLoad(work.advertise_host, Path(work.directory) / "load", work.load_engine)
    outcome, result = "done", dict[str, Any]()
    reason: str | None = None
    try:
        result = dict(carry_out(order, Telling(events), drive))
        reason = result.pop("failed", None)
        outcome = "failed" if reason else "done"
    except (MeshgaugeError, OSError) as error:
        outcome, reason = "failed", str(error)
    events.send("ended", outcome=outcome, reason=reason, result=result)


def main(arguments: list[str]) -> int:
    """Carry out the order in the file named by the first argument."""
    # A polite end from the guard unwinds the stack, so that what is half done is taken back as far as time permits.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run(OperationWork.read(Path(arguments[0])), EventStream.taking_over_stdout())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
