"""The reconciler: an idempotent tick that moves on whatever a lost message, worker or server left behind."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa
import structlog

from coordinator import confirming, looks, schedules, tracking
from coordinator.notify.delivery import Courier
from coordinator.planner import installed_planner
from coordinator.submission import Announce
from meshgauge import queue
from meshgauge.errors import ConfigurationError, MeshgaugeError, ServiceUnavailableError
from meshgauge.log import configure_logging
from meshgauge.settings import Settings
from meshgauge.store import leases, load_jobs, operations, runs
from meshgauge.store.database import connect, transaction

log = structlog.get_logger()

_TASK_OF = {"work": queue.WORK, "clean": queue.CLEAN}


def tick(engine: sa.Engine, settings: Settings, announce: Announce) -> None:
    """Do one round. Any number of reconcilers may tick at once: one does the work, the others return.

    Args:
        announce: sends a hint (task, row); raises ServiceUnavailableError while the broker is away.

    Raises:
        ServiceUnavailableError: Postgres is away. An absent broker is no error: the next tick announces again.
    """
    with transaction(engine) as connection:
        if not connection.execute(
            sa.text("SELECT pg_try_advisory_xact_lock(hashtext('meshgauge.reconciler'))")
        ).scalar_one():
            return
        announcements = _move_on(connection, settings)
    for task, row in announcements:
        try:
            announce(task, row)
        except ServiceUnavailableError as error:
            log.warning("not_announced", task=task, row=row, reason=str(error))
            break


def _move_on(connection: sa.Connection, settings: Settings) -> list[tuple[str, str]]:
    """Expire, cancel, give up, finish; return the (task, row) pairs to announce after the commit."""
    for site in leases.expire_leases(connection, settings.max_attempts):
        log.warning("lease_expired", site=site)
    leases.fail_quarantined(connection)
    operations.fail_quarantined(connection)
    leases.give_up_on_hopeless(connection)
    for run in runs.open_runs(connection):
        if run.cancel_at is not None:
            runs.cancel_pending(connection, run.id)
        runs.advance(connection, run.id)
    sites = leases.announceable(connection, settings.redispatch_s)
    jobs = load_jobs.announceable(connection, settings.redispatch_s)
    return [(_TASK_OF[what], site) for site, what in sites] + [(queue.DRIVE, str(job)) for job in jobs]


def repeat(stopped: threading.Event, period_s: float, what: str, do: Callable[[], object]) -> None:
    """Call ``do`` until ``stopped``, and outlive whatever it raises on purpose; any other error stops everybody."""
    try:
        while not stopped.is_set():
            try:
                do()
            except MeshgaugeError as error:
                log.error(f"{what}_failed", reason=str(error))  # noqa: TRY400 - a sentence of ours; it is tried again
            stopped.wait(period_s)
    finally:
        stopped.set()


def main() -> int:
    """Tick, fire schedules and send notices until asked to stop; return the exit code."""
    settings = Settings()
    if settings.broker_url is None or settings.database_url is None:
        raise ConfigurationError("the reconciler needs MESHGAUGE_DATABASE_URL and MESHGAUGE_BROKER_URL")
    configure_logging(settings.log_level)
    engine = connect(settings.database_url.get_secret_value(), pool_size=2)
    app = queue.create_celery(settings.broker_url.get_secret_value())
    planner = installed_planner(settings)
    announce = partial(queue.announce, app)
    stopped, asked = threading.Event(), threading.Event()

    def stop(_number: int, _frame: object) -> None:
        asked.set()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # Apart from the tick: resolving versions asks a package index, sending asks strangers' servers, and a slow one
    # must not hold up leases.
    fire = partial(schedules.fire_due, engine, settings, planner, announce)
    courier = Courier(connect(settings.database_url.get_secret_value()), settings)
    loops: dict[str, Callable[[], object]] = {
        "schedules": fire,
        "notices": courier.round,
        "looks": partial(looks.take_due, engine),
        "thresholds": partial(confirming.hold_due, connect(settings.database_url.get_secret_value(), pool_size=1)),
        "trends": partial(
            tracking.follow, connect(settings.database_url.get_secret_value(), pool_size=1), planner, announce
        ),
    }
    for what, do in loops.items():
        threading.Thread(target=repeat, args=(stopped, settings.tick_s, what, do), daemon=True).start()
    repeat(stopped, settings.tick_s, "tick", partial(tick, engine, settings, announce))
    return 0 if asked.is_set() else 1


if __name__ == "__main__":
    sys.exit(main())
