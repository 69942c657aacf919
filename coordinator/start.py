"""The console script's first step: Ctrl-C ends it quietly from the first moment on."""

from __future__ import annotations

import os
import signal
from types import FrameType

CANCELLED = 130  # as coordinator.commands.failures has it, which is not loaded yet


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Nothing has begun, so there is nothing to end; an exception would surface inside of whichever import it hits.
    os._exit(CANCELLED)


def main() -> None:
    """Load the command line, which takes up to a second, and run it."""
    ordinary = signal.getsignal(signal.SIGINT)
    if ordinary is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, _leave)
    from coordinator.cli import main as run  # noqa: PLC0415 - the slow part

    signal.signal(signal.SIGINT, ordinary)
    run()


if __name__ == "__main__":
    main()
