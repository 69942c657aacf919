"""Cleaning a site: deliver what lies in the spool, end what an older epoch left, prove that nothing is left."""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from adapters import registry
from meshgauge.errors import EnvironmentUpError
from meshgauge.settings import Settings
from meshgauge.store import leases, results
from meshgauge.store.database import transaction
from workers import places, spool

log = structlog.get_logger()

LEASE_S = 300.0  # sweeping a cluster takes longer than a heartbeat


def clean_site(settings: Settings, engine: sa.Engine, site: str, holder: str) -> None:
    """Clean ``site`` if it is dirty and nobody else does. What fails is recorded and tried again later."""
    with transaction(engine) as connection:
        cleaning = leases.claim_cleaning(connection, site, holder, LEASE_S)
    if cleaning is None:
        return
    failure: str | None = None
    try:
        provider = registry.provider(cleaning.provider, places.cache_directory(settings))
        removed = provider.sweep(site, cleaning.epoch)
        places.remove_runtime_directories(site, cleaning.epoch)
        _deliver_leftovers(settings, engine, site)
        for line in removed:
            log.info("leftover_removed", site=site, what=line)
    except (EnvironmentUpError, OSError) as error:
        failure = str(error)
        log.exception("cleaning_failed", site=site)
    with transaction(engine) as connection:
        state = leases.end_cleaning(connection, cleaning, failure)
    log.info("site_cleaned", site=site, state=state, epoch=cleaning.epoch)


def _deliver_leftovers(settings: Settings, engine: sa.Engine, site: str) -> None:
    """Keep what a worker measured before it died: stored with its attempt, and never counted."""
    for directory, claim, trials in spool.leftovers(places.spool_root(settings), site):
        for trial in trials:
            with transaction(engine) as connection:
                results.record_trial(connection, claim, spool.read_measured(trial))
        spool.remove(directory)
        log.info("spool_delivered", site=site, environment=claim.key, trials=len(trials))
