"""One load worker: a Locust worker whose users are connections of one engine. ``python -m workers.load.worker``."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from meshgauge.errors import ConfigurationError


def host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def allow_many_sockets() -> None:
    """Raise the soft limit of open files to the hard one: each connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stay_on(cpus: tuple[int, ...]) -> None:
    """Keep every thread of this process on ``cpus``; the engine thread picks one of them itself.

    Raises:
        ConfigurationError: this process may not use them.
    """
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)
    except OSError as error:
        allowed = sorted(os.sched_getaffinity(0))
        raise ConfigurationError(f"a load worker cannot run on cores {cpus}, it may use {allowed}") from error


def linger(seconds: float) -> None:
    """Wait until somebody asks this process to end, at most ``seconds``. As PID 1 of a container, too."""
    asked = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, asked)
    signal.sigtimedwait(asked, seconds)


def main(argv: list[str] | None = None) -> int:
    """Serve one master until it says quit or falls silent."""
    parser = argparse.ArgumentParser(prog="python -m workers.load.worker", description=main.__doc__)
    parser.add_argument("--master", type=host_and_port, required=True, metavar="HOST:PORT")
    parser.add_argument(
        "--linger-s",
        type=float,
        default=0.0,
        help="after a good end, stay for so long or until told to go: a proxy beside this process lives as long as it",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="load worker: %(message)s", stream=sys.stderr)
    allow_many_sockets()
    name = f"{socket.gethostname()}/{os.getpid()}"
    from workers.load.worker_side import serve  # noqa: PLC0415 - Locust patches the process and takes 0.3 s

    code = serve(name, *arguments.master)
    if code == 0 and arguments.linger_s > 0:
        linger(arguments.linger_s)
    return code


if __name__ == "__main__":
    code = main()
    # Interpreter shutdown would wait for Locust's and ZeroMQ's threads; a worker leaves nothing on disk.
    os._exit(code)
