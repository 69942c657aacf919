"""The last sweep: a small process that waits for the supervisor to end and kills what it left behind.

Parent-death signals reach only direct children. This one holds a pipe from the supervisor; when the
supervisor dies in whatever way, the pipe closes and every process with the instance's cookie goes.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from coordinator.embedded.processes import kill_all, processes_of, wait_until_gone

GRACE_S = 1.5
"""Time for parent-death signals to work: Postgres ends cleanly on its own (immediate shutdown, 0.1 s seen)."""

LIMIT_S = 20.0


def main(instance: str, server_dirs: list[Path]) -> int:
    """Wait for the end of standard input, then sweep; exit 1 when something could not be killed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it must be the last to go, and goes by itself
    while sys.stdin.buffer.read(4096):
        pass
    wait_until_gone(processes_of(instance, server_dirs), GRACE_S)
    left = kill_all(lambda: processes_of(instance, server_dirs), LIMIT_S)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [Path(argument) for argument in sys.argv[2:]]))
