"""The Celery application: a messenger that carries row names. Postgres decides what a message means."""

from __future__ import annotations

from typing import Final

import celery
import celery.exceptions
import kombu
import kombu.exceptions

from meshgauge.errors import ServiceUnavailableError

CONTROL: Final = "control"
LIFECYCLE: Final = "lifecycle"
LOAD: Final = "load"
QUEUES: Final = (CONTROL, LIFECYCLE, LOAD)

# Tasks are named by string: coordinator and workers never import each other.
WORK: Final = "meshgauge.site.work"  # (site): there may be an environment due
CLEAN: Final = "meshgauge.site.clean"  # (site): it is dirty
DRIVE: Final = "meshgauge.load.drive"  # (load job id): a Locust master waits for a load worker
_ROUTES: Final = {WORK: LIFECYCLE, CLEAN: CONTROL, DRIVE: LOAD}

_MESSAGE_LIFE_S = 60.0  # an older hint is worthless: the reconciler sends a fresh one


def create_celery(broker_url: str) -> celery.Celery:
    """Return the application on ``broker_url``, with the settings of reference/operations.md 1.8.

    Each was measured there: messages are acknowledged early and never retried by Celery, because rows
    redeliver; nothing is prefetched, so a short task never waits behind a long one; every task has a
    fresh process.
    """
    app = celery.Celery("meshgauge", broker=broker_url, set_as_current=False)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_track_started=False,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        # No limit of kombu's own (0): an acknowledgement that times out stays on its count, and with a limit of 1 the
        # worker would never take a message again (seen after Redis hung for 20 s). The next line is the limit.
        worker_prefetch_multiplier=0,
        worker_disable_prefetch=True,
        worker_max_tasks_per_child=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": 86_400,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": "meshgauge:",
        },
        task_publish_retry=False,
        task_default_queue=CONTROL,
        task_queues=[kombu.Queue(name) for name in QUEUES],
        task_routes={task: {"queue": queue} for task, queue in _ROUTES.items()},
        task_create_missing_queues=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        timezone="UTC",
        enable_utc=True,
    )
    return app


def announce(app: celery.Celery, task: str, row: str) -> None:
    """Send a hint that ``row`` may be due. Call after the commit that made it so.

    Raises:
        ServiceUnavailableError: the broker is away. Nothing is lost: the reconciler announces again.
    """
    try:
        app.send_task(task, (row,), retry=False, expires=_MESSAGE_LIFE_S)
    except (kombu.exceptions.OperationalError, ConnectionError, TimeoutError) as error:
        raise ServiceUnavailableError(f"the broker does not answer: {error}") from error
