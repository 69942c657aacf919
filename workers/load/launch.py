"""How other rooms start the load: argument lists, environment, and the master as a process. No Locust in here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from workers.load.order import LoadOrder

ORDER_NAME = "order.json"

# Threads of numerical libraries would take a core from what is measured; Locust never asks anything on the network.
_QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def load_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of master and workers: ``base`` (default: ours) and quiet numerical libraries."""
    return {**(os.environ if base is None else base), **_QUIET}


def master_argv(
    order_file: Path, bind: str, out_dir: Path, *, auto_go: bool = False, worker_wait_s: float | None = None
) -> list[str]:
    """Return the command that conducts one trial.

    Args:
        bind: HOST:PORT for load workers; port 0 takes a free one, named by the ``listening`` event.
        auto_go: start without waiting for a ``{"command": "go"}`` line on standard input.
        worker_wait_s: how long load workers may take to join; None: the master's own idea.
    """
    argv = [sys.executable, "-m", "workers.load.master", "--order", str(order_file), "--bind", bind]
    patience = [] if worker_wait_s is None else ["--worker-wait-s", str(worker_wait_s)]
    return [*argv, "--out", str(out_dir), *patience, *(["--auto-go"] if auto_go else [])]


def worker_argv(master: str) -> list[str]:
    """Return the command of one load worker; ``master`` is HOST:PORT. It may be started before the master."""
    return [sys.executable, "-m", "workers.load.worker", "--master", master]


def write_order(order: LoadOrder, out_dir: Path) -> Path:
    """Write the order where the master reads it."""
    path = out_dir / ORDER_NAME
    path.write_text(order.to_json(), encoding="utf-8")
    return path


def start_master(
    order: LoadOrder,
    bind: str,
    out_dir: Path,
    env: Mapping[str, str] | None = None,
    stderr: IO[bytes] | int | None = None,
    worker_wait_s: float | None = None,
) -> subprocess.Popen[str]:
    """Start the master of one trial.

    It prints one JSON event a line (``listening``, ``workers_ready``, ``window``, ``progress``, ``done``,
    ``failed``), starts the load on ``{"command": "go"}`` and gives up when its standard input closes. The go line may
    carry ``"order"``, the order as it stands by then: master and workers can so start while the target comes up.
    """
    argv = master_argv(write_order(order, out_dir), bind, out_dir, worker_wait_s=worker_wait_s)
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=load_environment(env)
    )
