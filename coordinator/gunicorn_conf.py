"""gunicorn's configuration: one process, threads, everything that lasts is in Postgres.

Measured in reference/operations.md 8: gthread finishes requests in flight on SIGTERM, and its 1400 requests
a second are far more than plans need. Connections to Postgres are opened after the fork: no preload.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from meshgauge.settings import Settings

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

_settings = Settings()
_host = f"[{_settings.listen_host}]" if ":" in _settings.listen_host else _settings.listen_host

bind = f"{_host}:{_settings.listen_port}"
worker_class = "gthread"
workers = 1
threads = 24  # at most 12 of them follow runs (coordinator.web.installation.MAX_STREAMS)
timeout = 60
graceful_timeout = 5  # streams end within a second, see is_stopping
keepalive = 5
max_requests = 0
limit_request_line = 4094
limit_request_fields = 50
limit_request_field_size = 8190
# Heartbeat files in memory where there is some: a full or slow disk must not stop the server.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - gunicorn unlinks at once
accesslog = None
errorlog = "-"
loglevel = {"debug": "debug", "info": "warning"}.get(_settings.log_level, _settings.log_level)
proc_name = "meshgauge-coordinator"
preload_app = False
control_socket_disable = True

_workers: list[Any] = []


def post_fork(server: object, worker: Worker) -> None:  # noqa: ARG001 - gunicorn's signature
    """Remember the worker of this process: it knows when it has to stop."""
    _workers.append(worker)


def is_stopping() -> bool:
    """Return whether this process was asked to end, so that streams let go of their threads."""
    return any(not worker.alive for worker in _workers)
