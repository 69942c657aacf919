"""Leases: one environment a site, in order, fenced by epoch."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from meshgauge.claim import AttemptOutcome, Claim
from meshgauge.errors import FencedError, UnknownNameError
from meshgauge.store import leases, results, runs, schema
from meshgauge.store.database import transaction
from meshgauge.trial import MeasuredTrial

Claims = Callable[..., Claim | None]
Trials = Callable[[Claim], list[uuid.UUID]]
States = Callable[[sa.Table], list[str]]
Measured = Callable[[uuid.UUID], MeasuredTrial]
SITE = "here"


def expire(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(
            sa.text("UPDATE site SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")
        )


def end(engine: sa.Engine, claim: Claim, outcome: AttemptOutcome = "done", *, retry: bool = True) -> None:
    with transaction(engine) as connection:
        leases.end_attempt(connection, claim, outcome, None, {}, retry=retry, max_attempts=3)


def clean(engine: sa.Engine, failure: str | None = None) -> str | None:
    with transaction(engine) as connection:
        cleaning = leases.claim_cleaning(connection, SITE, "cleaner", 60)
        return None if cleaning is None else leases.end_cleaning(connection, cleaning, failure)


def test_environments_are_claimed_in_the_order_of_the_plan(engine: sa.Engine, claim_one: Claims) -> None:
    seen = []
    for _ in range(6):
        claim = claim_one()
        assert claim is not None
        seen.append((claim.block, claim.position))
        end(engine, claim, "failed", retry=False)
        clean(engine)
    assert seen == sorted(seen)
    assert claim_one() is None


def test_forty_claims_at_once_give_one_environment(claim_one: Claims) -> None:
    claims: list[Claim | None] = []
    threads = [threading.Thread(target=lambda: claims.append(claim_one())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in claims if claim]) == 1
    assert [claim_one() for _ in range(32)] == [None] * 32


def test_the_epoch_grows_with_every_claim_and_every_cleaning(engine: sa.Engine, claim_one: Claims) -> None:
    first = claim_one()
    assert first
    end(engine, first, "interrupted")
    assert claim_one() is None, "a dirty site must not be used"
    assert clean(engine) == "free"
    second = claim_one()
    assert second
    assert second.epoch == first.epoch + 2
    assert second.environment_id == first.environment_id
    assert second.attempt == 2


def test_a_worker_with_a_stale_epoch_changes_nothing(
    engine: sa.Engine, claim_one: Claims, trials_of: Trials, measured_trial: Measured, states_of: States
) -> None:
    zombie = claim_one()
    assert zombie
    trial_id = trials_of(zombie)[0]
    with transaction(engine) as connection:
        results.begin_trial(connection, zombie, trial_id)
    expire(engine)
    with transaction(engine) as connection:
        assert leases.expire_leases(connection, 3) == (SITE,)
    with pytest.raises(FencedError), transaction(engine) as connection:
        leases.renew(connection, zombie, 60)
    with pytest.raises(FencedError):
        end(engine, zombie)
    with transaction(engine) as connection:
        assert results.record_trial(connection, zombie, measured_trial(trial_id)) is False
        attempt = connection.execute(sa.select(schema.trial_attempt)).one()
        kept = connection.execute(sa.select(sa.func.count()).select_from(schema.histogram)).scalar_one()
    assert (attempt.state, kept) == ("fenced", 5), "the zombie's data are kept and marked"
    assert set(states_of(schema.trial)) == {"pending"}


def test_a_lost_environment_is_tried_again_and_fails_after_three_attempts(
    engine: sa.Engine, claim_one: Claims, states_of: States
) -> None:
    for attempt in (1, 2, 3):
        with transaction(engine) as connection:
            connection.execute(sa.text("UPDATE environment SET not_before = now()"))
        claim = claim_one()
        assert claim
        assert (claim.position, claim.attempt) == (0, attempt)
        expire(engine)
        with transaction(engine) as connection:
            leases.expire_leases(connection, 3)
        clean(engine)
    assert states_of(schema.environment) == ["failed"] + ["pending"] * 5
    with transaction(engine) as connection:
        reasons = connection.execute(sa.select(schema.trial.c.reason).where(schema.trial.c.state == "failed")).scalars()
        assert all("stopped renewing" in str(reason) for reason in reasons)


def test_trials_with_an_answer_are_not_repeated(
    engine: sa.Engine, claim_one: Claims, trials_of: Trials, measured_trial: Measured, states_of: States
) -> None:
    claim = claim_one()
    assert claim
    first, second = trials_of(claim)
    with transaction(engine) as connection:
        results.begin_trial(connection, claim, first)
        assert results.record_trial(connection, claim, measured_trial(first))
    end(engine, claim, "failed")
    clean(engine)
    assert states_of(schema.trial).count("measured") == 1
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE environment SET not_before = now()"))
    again = claim_one()
    assert again
    with pytest.raises(FencedError), transaction(engine) as connection:
        results.begin_trial(connection, again, first)
    with transaction(engine) as connection:
        results.begin_trial(connection, again, second)


def test_a_cancelled_run_gives_its_worker_word_and_ends(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Claims, states_of: States
) -> None:
    claim = claim_one()
    assert claim
    with transaction(engine) as connection:
        row = runs.request_cancel(connection, run_id, "tester")
    assert row.state == "running", "something is still up"
    with transaction(engine) as connection:
        assert leases.renew(connection, claim, 60) is True
    end(engine, claim, "cancelled", retry=False)
    with transaction(engine) as connection:
        runs.advance(connection, run_id)
        row = runs.get(connection, run_id)
    assert row.state == "cancelled"
    assert row.reason == "12 cancelled trials; cancelled by tester"
    assert set(states_of(schema.environment)) == {"cancelled"}


@pytest.mark.usefixtures("run_id")
def test_a_site_that_is_away_is_given_time_before_it_is_cleaned_again(engine: sa.Engine) -> None:
    def fail(*, is_away: bool) -> tuple[tuple[str, str], ...]:
        """Fail to clean once; return what the reconciler would announce at its next tick."""
        with transaction(engine) as connection:
            connection.execute(sa.update(schema.site).values(state="dirty"))
            cleaning = leases.claim_cleaning(connection, SITE, "cleaner", 60)
            assert cleaning is not None
            leases.end_cleaning(connection, cleaning, "it failed", is_away=is_away)
        with transaction(engine) as connection:
            return leases.announceable(connection, 60)

    assert fail(is_away=False) == ((SITE, "clean"),)
    assert fail(is_away=True) == ()
    with transaction(engine) as connection:
        assert leases.announceable(connection, 0) == ((SITE, "clean"),)


def test_a_site_that_cannot_be_cleaned_is_quarantined_until_somebody_releases_it(
    engine: sa.Engine, run_id: uuid.UUID, states_of: States
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.update(schema.site).values(state="dirty"))
    assert [clean(engine, "a process would not die") for _ in range(5)] == ["dirty"] * 4 + ["quarantined"]
    with transaction(engine) as connection:
        assert leases.fail_quarantined(connection) == 6
        runs.advance(connection, run_id)
        row = runs.get(connection, run_id)
    assert row.state == "failed"
    assert "site here is quarantined: a process would not die" in str(row.reason)
    with pytest.raises(UnknownNameError), transaction(engine) as connection:
        leases.release_quarantine(connection, "elsewhere")
    with transaction(engine) as connection:
        leases.release_quarantine(connection, SITE)
    assert states_of(schema.site) == ["dirty"]


def test_an_environment_that_never_comes_up_is_given_up_and_the_others_go_on(
    engine: sa.Engine, claim_one: Claims
) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE run SET blocks = 4"))
        keys = connection.execute(sa.select(schema.environment.c.key).distinct()).scalars().all()
        bad = next(key for key in keys if key.startswith("envoy-1.40"))
        connection.execute(
            sa.text(
                "UPDATE environment SET state = 'failed', reason = 'no such binary' WHERE key = :key AND block = 0"
            ),
            {"key": bad},
        )
        assert leases.give_up_on_hopeless(connection, turns=1) == 1
        row = connection.execute(
            sa.select(schema.environment).where(schema.environment.c.key == bad, schema.environment.c.block == 1)
        ).one()
    assert row.state == "failed"
    assert row.reason == "not tried again after failing in 1 turns: no such binary"
    assert claim_one() is not None


def test_due_work_is_announced_once_and_again_after_a_while(engine: sa.Engine, run_id: uuid.UUID) -> None:
    with transaction(engine) as connection:
        assert leases.announceable(connection, 60) == ((SITE, "work"),)
        assert leases.announceable(connection, 60) == ()
    with transaction(engine) as connection:
        assert leases.announceable(connection, 0) == ((SITE, "work"),)
        connection.execute(sa.update(schema.site).values(state="dirty", announced_at=None))
        assert leases.announceable(connection, 60) == ((SITE, "clean"),)
