"""Runs a Celery worker and says when it is ready: ``python -m coordinator.embedded.celery_service -A ... worker ...``.

Celery tells nobody but its log that a worker consumes. Its ``worker_ready`` signal touches the file
named by MESHGAUGE_READY_FILE, which the supervisor waits for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery.__main__ import main as celery_main
from celery.signals import worker_ready

READY_FILE = "MESHGAUGE_READY_FILE"


def announce(**_: object) -> None:
    """Touch the file the supervisor waits for."""
    Path(os.environ[READY_FILE]).touch()


if __name__ == "__main__":
    worker_ready.connect(announce, weak=False)
    sys.exit(celery_main())
