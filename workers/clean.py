"""Cleaning a site: deliver what lies in the spool, end what an older epoch left, prove that nothing is left."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import sqlalchemy as sa
import structlog

from adapters import registry
from meshgauge.claim import Cleaning
from meshgauge.errors import ConfigurationError, FencedError, MeshgaugeError, ServiceUnavailableError
from meshgauge.settings import Settings
from meshgauge.store import leases, results
from meshgauge.store.database import retried, transaction
from workers import places, spool

log = structlog.get_logger()


def clean_site(settings: Settings, engine: sa.Engine, site: str, holder: str) -> None:
    """Clean ``site`` if it is dirty and nobody else does. What fails is recorded and tried again later.

    Raises:
        ServiceUnavailableError: Postgres is away for longer than the lease; the reconciler has it cleaned again.
    """
    with transaction(engine) as connection:
        cleaning = leases.claim_cleaning(connection, site, holder, settings.lease_s)
    if cleaning is None:
        return
    with _renewed(settings, engine, cleaning):
        failure = _sweep(settings, engine, cleaning)
    sentence = None if failure is None else str(failure)
    is_final, is_away = isinstance(failure, ConfigurationError), isinstance(failure, ServiceUnavailableError)

    def end() -> str:
        with transaction(engine) as connection:
            return leases.end_cleaning(connection, cleaning, sentence, is_final=is_final, is_away=is_away)

    state = retried(end, time.monotonic() + settings.lease_s)
    log.info("site_cleaned", site=site, state=state, epoch=cleaning.epoch)


def _sweep(settings: Settings, engine: sa.Engine, cleaning: Cleaning) -> Exception | None:
    """Remove all that older epochs left; return why that failed, if it did."""
    name = places.cookie_site(settings, cleaning.site)
    try:
        provider = registry.provider(cleaning.provider, places.cache_directory(settings))
        removed = provider.sweep(cleaning.site, name, cleaning.epoch)
        places.remove_runtime_directories(name, cleaning.epoch)
        _deliver_leftovers(settings, engine, cleaning.site)
    except (MeshgaugeError, OSError) as error:
        log.exception("cleaning_failed", site=cleaning.site)
        return error
    for line in removed:
        log.info("leftover_removed", site=cleaning.site, what=line)
    return None


@contextlib.contextmanager
def _renewed(settings: Settings, engine: sa.Engine, cleaning: Cleaning) -> Iterator[None]:
    """Keep the lease of a cleaning while the block runs: sweeping a cluster takes longer than a lease."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(settings.heartbeat_s):
            try:
                with transaction(engine) as connection:
                    leases.renew_cleaning(connection, cleaning, settings.lease_s)
            except ServiceUnavailableError as error:
                log.warning("lease_not_renewed", site=cleaning.site, reason=str(error))
            except FencedError:
                return  # the end of the cleaning will say so

    thread = threading.Thread(target=renew, name="renew-cleaning", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _deliver_leftovers(settings: Settings, engine: sa.Engine, site: str) -> None:
    """Keep what a worker measured before it died: stored with its attempt, and never counted."""
    root = places.spool_root(settings)
    for directory, claim, trials in spool.leftovers(root, site):
        for trial in trials:
            try:
                measured = spool.read_measured(trial)
            except (OSError, ValueError, KeyError, TypeError) as error:
                kept = spool.set_aside(root, trial)
                log.exception("spool_unreadable", site=site, environment=claim.key, kept=str(kept), reason=str(error))
                continue
            with transaction(engine) as connection:
                results.record_trial(connection, claim, measured)
        spool.remove(directory)
        log.info("spool_delivered", site=site, environment=claim.key, trials=len(trials))
    spool.remove(spool.site_directory(root, site))  # attempts that died before their claim was written
