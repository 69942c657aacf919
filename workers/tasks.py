"""The Celery tasks: each gets the name of a row, claims it, and does what the row says."""

from __future__ import annotations

import os

import celery
import sqlalchemy as sa
import structlog

from meshgauge import queue
from meshgauge.claim import Claim
from meshgauge.errors import ConfigurationError, MeshgaugeError, ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store import leases, runs, work
from meshgauge.store.database import connect, transaction
from workers import clean, drive, load_run, operate, places, spool
from workers.watch import Announce, Watcher
from workers.work import TrialOrder, WorkOrder

log = structlog.get_logger()


def register_tasks(app: celery.Celery, settings: Settings, host: str) -> None:
    """Give ``app`` the tasks this host's workers carry out."""

    def announce(task: str, row: str) -> None:
        try:
            queue.announce(app, task, row)
        except ServiceUnavailableError as error:
            log.warning("not_announced", task=task, row=row, reason=str(error))  # the reconciler will

    def holder() -> str:
        return f"{host}:{os.getpid()}"

    @app.task(name=queue.WORK)
    def work_on_site(site: str) -> None:
        engine = _engine(settings)
        try:
            if _carry_out_next(settings, engine, site, holder(), host, announce):
                announce(queue.WORK, site)
        finally:
            engine.dispose()

    @app.task(name=queue.CLEAN)
    def clean_site(site: str) -> None:
        engine = _engine(settings)
        try:
            clean.clean_site(settings, engine, site, holder())
        finally:
            engine.dispose()
        announce(queue.WORK, site)

    @app.task(name=queue.DRIVE)
    def drive_load(job_id: str) -> None:
        engine = _engine(settings)
        try:
            drive.drive(settings, engine, job_id, holder())
        finally:
            engine.dispose()


def _engine(settings: Settings) -> sa.Engine:
    assert settings.database_url is not None  # noqa: S101 - workers.app checked it
    return connect(settings.database_url.get_secret_value(), pool_size=2)


def _carry_out_next(
    settings: Settings, engine: sa.Engine, site: str, holder: str, host: str, announce: Announce
) -> bool:
    """Do what is next on the site, an operation or an environment, and clean up; return whether there was anything."""
    if operate.operate_next(settings, engine, site, holder) is not None:
        clean.clean_site(settings, engine, site, holder)
        return True
    claim = _measure_next(settings, engine, site, holder, host, announce)
    if claim is None:
        return False
    clean.clean_site(settings, engine, site, holder)
    with transaction(engine) as connection:
        runs.advance(connection, claim.run_id)
    return True


def _measure_next(
    settings: Settings, engine: sa.Engine, site: str, holder: str, host: str, announce: Announce
) -> Claim | None:
    """Claim and watch the site's next environment; return it when there was one and our word counted."""
    with transaction(engine) as connection:
        claim = leases.claim_next(connection, site, holder, host, settings.lease_s)
    if claim is None:
        return None
    log.info("environment_claimed", site=site, environment=claim.key, block=claim.block, epoch=claim.epoch)
    try:
        order = _order(settings, engine, claim)
    except (MeshgaugeError, OSError) as error:
        _give_back(settings, engine, claim, f"the work could not be prepared: {error}")
        return claim
    return claim if Watcher(settings, engine, claim, order, announce).run() else None


def _order(settings: Settings, engine: sa.Engine, claim: Claim) -> WorkOrder:
    with transaction(engine) as connection:
        claimed = work.read_work(connection, claim)
    root = places.spool_root(settings)
    if (full := places.full_disk(root)) is not None:
        raise ConfigurationError(full)
    directory = spool.attempt_directory(root, claim)
    cookie_site = places.cookie_site(settings, claim.site)
    order = WorkOrder(
        environment_id=str(claim.environment_id),
        attempt=claim.attempt,
        site=cookie_site,
        epoch=claim.epoch,
        key=claim.key,
        plan_text=claimed.plan_text,
        document=claimed.document,
        resolution=claimed.resolution,
        seed=claimed.seed,
        trials=tuple(TrialOrder(one.id, one.cell, one.load, one.first_nodes) for one in claimed.trials),
        directory=str(directory),
        runtime_dir=str(places.runtime_directory(cookie_site, claim.epoch)),
        cache_dir=str(places.cache_directory(settings)),
        first_master=load_run.free_address(settings.advertise_host),
        advertise_host=settings.advertise_host,
        load_image=settings.image or "",
        load_engine=settings.load_engine,
        quiet_host=settings.quiet_host == "auto",
        tuning=claimed.tuning,
    )
    order.write()
    return order


def _give_back(settings: Settings, engine: sa.Engine, claim: Claim, reason: str) -> None:
    log.error("environment_not_started", environment=claim.key, reason=reason)
    with transaction(engine) as connection:
        leases.end_attempt(connection, claim, "failed", reason, {}, retry=True, max_attempts=settings.max_attempts)
