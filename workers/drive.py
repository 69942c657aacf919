"""A load job: runs one Locust worker, under a guard, for as long as its environment stands."""

from __future__ import annotations

import os
import sys
import time
import uuid

import sqlalchemy as sa
import structlog

from meshgauge.errors import ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store import load_jobs
from meshgauge.store.database import transaction
from workers import guard, places
from workers.watch import margin_s

log = structlog.get_logger()

_CHECK_PERIOD_S = 1.0


def drive(settings: Settings, engine: sa.Engine, job_id: str, worker: str) -> None:
    """Claim a load job and see its Locust worker through; do nothing when it is not to be had."""
    with transaction(engine) as connection:
        job = load_jobs.claim_job(connection, uuid.UUID(job_id), worker)
    if job is None:
        return
    argv = [sys.executable, "-m", "workers.load.worker", "--master", job.master]
    env = {**os.environ, "MESHGAUGE_SITE": job.site, "MESHGAUGE_EPOCH": str(job.epoch)}
    log_path = places.spool_root(settings) / f"load-{job.id}.log"
    life_s = settings.lease_s - margin_s(settings.lease_s)
    wanted_at = time.monotonic()
    reason: str | None = None
    with log_path.open("wb") as log_file:
        process = guard.start_guarded(argv, wanted_at + life_s, env, log_file)
        try:
            while process.poll() is None:
                time.sleep(0.05 if process.poll() is None else 0)
                if time.monotonic() - wanted_at < _CHECK_PERIOD_S:
                    continue
                if not _is_wanted(engine, job):
                    break
                wanted_at = time.monotonic()
                guard.extend(process, wanted_at + life_s)
        finally:
            guard.stop(process)
    if process.returncode:
        tail = log_path.read_text(errors="replace").strip().splitlines()
        reason = f"exit code {process.returncode}: {tail[-1] if tail else 'it wrote nothing'}"
        log.error("load_worker_failed", job=str(job.id), reason=reason)
    log_path.unlink()
    with transaction(engine) as connection:
        load_jobs.end(connection, job, reason)


def _is_wanted(engine: sa.Engine, job: load_jobs.LoadJob) -> bool:
    """Ask whether to go on; while Postgres is away the guard's deadline decides."""
    try:
        with transaction(engine) as connection:
            return load_jobs.is_wanted(connection, job)
    except ServiceUnavailableError:
        return True
