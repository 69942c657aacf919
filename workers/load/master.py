"""Conducts one trial's load: a Locust master with the order in hand. ``python -m workers.load.master``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from workers.load.order import LoadOrder
from workers.load.worker import host_and_port

WORKER_WAIT_S = 30.0


def main(argv: list[str] | None = None) -> int:
    """Conduct one trial; events go to standard output, one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m workers.load.master", description=main.__doc__)
    parser.add_argument("--order", type=Path, required=True, help="the load order, JSON")
    parser.add_argument("--bind", type=host_and_port, required=True, metavar="HOST:PORT", help="for load workers")
    parser.add_argument("--out", type=Path, required=True, help="folder the result goes to")
    parser.add_argument("--auto-go", action="store_true", help="start without a go line on standard input")
    parser.add_argument("--worker-wait-s", type=float, default=WORKER_WAIT_S, help="how long to wait for load workers")
    arguments = parser.parse_args(argv)
    order = LoadOrder.from_json(arguments.order.read_text(encoding="utf-8"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    from workers.load.master_side import run  # noqa: PLC0415 - Locust patches the process and takes 0.3 s

    host, port = arguments.bind
    return run(order, host, port, arguments.out, auto_go=arguments.auto_go, worker_wait_s=arguments.worker_wait_s)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Interpreter shutdown would wait for Locust's and ZeroMQ's threads; everything of ours is on disk.
    os._exit(code)
