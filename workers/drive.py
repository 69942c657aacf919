"""A load job: runs one Locust worker, under a guard, for as long as its environment stands."""

from __future__ import annotations

import tempfile
import time
import uuid
from typing import IO

import sqlalchemy as sa
import structlog

from meshgauge.errors import ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store import load_jobs
from meshgauge.store.database import transaction
from workers import guard, places
from workers.load.launch import load_environment, worker_argv
from workers.watching import margin_s

log = structlog.get_logger()

_CHECK_PERIOD_S = 1.0


def drive(settings: Settings, engine: sa.Engine, job_id: str, worker: str) -> None:
    """Claim a load job and see its Locust worker through; do nothing when it is not to be had."""
    with transaction(engine) as connection:
        job = load_jobs.claim_job(connection, uuid.UUID(job_id), worker)
    if job is None:
        return
    with tempfile.TemporaryFile(dir=places.spool_root(settings)) as log_file:  # no name: a kill leaves nothing behind
        reason = _see_through(settings, engine, job, log_file)
    if reason is not None:
        log.error("load_worker_failed", job=str(job.id), reason=reason)
    try:
        with transaction(engine) as connection:
            load_jobs.end(connection, job, reason)
    except ServiceUnavailableError as error:  # it ends with its environment all the same
        log.warning("load_job_not_ended", job=str(job.id), reason=str(error))


def _see_through(settings: Settings, engine: sa.Engine, job: load_jobs.LoadJob, log_file: IO[bytes]) -> str | None:
    """Run the load worker for as long as it is wanted; return why it failed, if it did."""
    argv = worker_argv(job.master)
    cookies = {"MESHGAUGE_SITE": places.cookie_site(settings, job.site), "MESHGAUGE_EPOCH": str(job.epoch)}
    life_s = settings.lease_s - margin_s(settings.lease_s)
    asked_at = time.monotonic()
    process = guard.start_guarded(argv, asked_at + life_s, {**load_environment(), **cookies}, log_file)
    wanted: bool | None = True
    try:
        while process.poll() is None and wanted is not False:
            time.sleep(0.05)
            if time.monotonic() - asked_at >= _CHECK_PERIOD_S:
                asked_at = time.monotonic()
                wanted = _is_wanted(engine, job)
                if wanted:
                    guard.extend(process, asked_at + life_s)
    finally:
        guard.stop(process)
        guard.close_output(process)
    if process.returncode == 0 or wanted is False:
        return None
    if wanted is None:
        return f"Postgres could not be reached for {life_s:.0f} s; the load worker was ended"
    return f"the load worker {guard.how_it_ended(process.returncode)}; its log ends: {_last_line(log_file)}"


def _is_wanted(engine: sa.Engine, job: load_jobs.LoadJob) -> bool | None:
    """Ask whether to go on; None while Postgres is away: then the guard's deadline decides."""
    try:
        with transaction(engine) as connection:
            return load_jobs.is_wanted(connection, job)
    except ServiceUnavailableError as error:
        log.warning("load_job_not_checked", job=str(job.id), reason=str(error))
        return None


def _last_line(log_file: IO[bytes]) -> str:
    log_file.seek(0)
    lines = log_file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "-"
