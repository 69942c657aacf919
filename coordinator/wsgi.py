"""``coordinator.wsgi:app``: the application of this process. Importing it connects: do that after the fork."""

from __future__ import annotations

from coordinator import gunicorn_conf
from coordinator.app import create_app
from coordinator.wiring import installed
from meshgauge.log import configure_logging
from meshgauge.settings import Settings

_settings = Settings()
configure_logging(_settings.log_level)
app = create_app(*installed(_settings, gunicorn_conf.is_stopping))
