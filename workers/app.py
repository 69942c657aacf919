"""The Celery workers' entry: ``celery -A workers.app worker -Q QUEUE``."""

from __future__ import annotations

import os
import socket

from celery.signals import worker_process_init

from meshgauge.errors import ConfigurationError
from meshgauge.log import configure_logging
from meshgauge.queue import create_celery
from meshgauge.settings import Settings
from workers.tasks import register_tasks

settings = Settings()
if settings.broker_url is None or settings.database_url is None:
    raise ConfigurationError("workers need MESHGAUGE_DATABASE_URL and MESHGAUGE_BROKER_URL; meshgauge up sets both")
configure_logging(settings.log_level)
app = create_celery(settings.broker_url.get_secret_value())
register_tasks(app, settings, socket.gethostname())


@worker_process_init.connect
def _lead_a_group_of_its_own(**_signal: object) -> None:
    # Celery's hard limit kills the process group of a child that leads one, its subprocesses included.
    os.setpgrp()
