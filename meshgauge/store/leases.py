"""Leases on sites: claiming the next environment, renewing, ending an attempt, cleaning up.

A site holds one environment at a time. Its epoch grows with every claim and every clean-up; whoever
writes names the epoch it claimed, and with a stale one changes nothing (reliability.md 2). Times are
the database's.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from meshgauge.claim import AttemptOutcome, Claim, Cleaning
from meshgauge.errors import FencedError, UnknownNameError
from meshgauge.store import events, holding, operations, schema

MAX_FAILED_CLEANINGS = 5  # then the site is quarantined until a person releases it
_RETRY_PAUSE_S = 2.0


def claim_next(connection: sa.Connection, site: str, holder: str, host: str, lease_s: float) -> Claim | None:
    """Claim the site for the environment that is next in order; None when it is busy or nothing is due."""
    row = connection.execute(
        sa.text("SELECT epoch FROM site WHERE name = :site AND state = 'free' FOR UPDATE SKIP LOCKED"), {"site": site}
    ).one_or_none()
    if row is None:
        return None
    due = connection.execute(
        sa.text(
            "SELECT e.id, e.run_id, e.attempt, e.key, e.block, e.position FROM environment e"
            " JOIN run r ON r.id = e.run_id"
            " WHERE e.site = :site AND e.state = 'pending' AND e.not_before <= now()"
            " AND r.finished_at IS NULL AND r.cancel_at IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM operation o WHERE o.site = e.site AND o.state = 'queued'"
            "  AND o.created_at <= r.created_at)"
            " ORDER BY r.created_at, r.id, e.ordinal LIMIT 1 FOR UPDATE OF e SKIP LOCKED"
        ),
        {"site": site},
    ).one_or_none()
    if due is None:
        return None
    claim = Claim(site, row.epoch + 1, holder, due.id, due.run_id, due.attempt + 1, due.key, due.block, due.position)
    parameters = {
        "site": site, "epoch": claim.epoch, "holder": holder, "lease": lease_s, "host": host,
        "environment": claim.environment_id, "attempt": claim.attempt, "run": claim.run_id,
    }  # fmt: skip
    for statement in (
        "UPDATE site SET state = 'leased', epoch = :epoch, holder = :holder, environment_id = :environment,"
        " operation_id = NULL,"
        " lease_until = now() + make_interval(secs => :lease), reason = NULL WHERE name = :site",
        "UPDATE environment SET state = 'leased', attempt = :attempt, counted_attempts = counted_attempts + 1,"
        " epoch = :epoch, reason = NULL WHERE id = :environment",
        "INSERT INTO environment_attempt (environment_id, attempt, epoch, worker, host)"
        " VALUES (:environment, :attempt, :epoch, :holder, :host)",
        "UPDATE run SET state = 'running', started_at = coalesce(started_at, now()) WHERE id = :run",
    ):
        connection.execute(sa.text(statement), parameters)
    events.append(
        connection, claim.run_id, "environment_claimed",
        {"environment": claim.key, "block": claim.block, "position": claim.position, "attempt": claim.attempt},
    )  # fmt: skip
    return claim


def renew(connection: sa.Connection, claim: Claim, lease_s: float) -> bool:
    """Extend the lease; return whether the run asks to be cancelled.

    Raises:
        FencedError: the lease is over and the site has moved on.
    """
    return holding.extend(connection, claim, lease_s, schema.run, claim.run_id)


def hold(connection: sa.Connection, claim: Claim) -> None:
    """Lock the site's row for the rest of this transaction and prove that it is still ours.

    Raises:
        FencedError: it is not.
    """
    row = connection.execute(
        sa.text("SELECT state, epoch, holder FROM site WHERE name = :site FOR UPDATE"), {"site": claim.site}
    ).one_or_none()
    if row is None or (row.state, row.epoch, row.holder) != ("leased", claim.epoch, claim.holder):
        raise holding.fenced(claim)


def set_phase(connection: sa.Connection, claim: Claim, phase: str) -> None:
    """Note how far the attempt has come."""
    connection.execute(
        sa.update(schema.environment_attempt)
        .where(
            schema.environment_attempt.c.environment_id == claim.environment_id,
            schema.environment_attempt.c.attempt == claim.attempt,
        )
        .values(phase=phase)
    )
    events.append(connection, claim.run_id, "phase", {"environment": claim.key, "block": claim.block, "phase": phase})


def end_attempt(
    connection: sa.Connection,
    claim: Claim,
    outcome: AttemptOutcome,
    reason: str | None,
    provenance: Mapping[str, Any],
    *,
    retry: bool,
    max_attempts: int,
) -> None:
    """Give the site back (dirty) and decide what becomes of the environment and its open trials.

    Args:
        retry: whether the same again could help; trials that have their answer are never repeated.

    Raises:
        FencedError: the lease is over; somebody else has decided.
    """
    hold(connection, claim)
    connection.execute(
        sa.text(
            "UPDATE site SET state = 'dirty', holder = NULL, environment_id = NULL, lease_until = NULL,"
            " announced_at = NULL WHERE name = :site"
        ),
        {"site": claim.site},
    )
    connection.execute(
        sa.update(schema.environment_attempt)
        .where(
            schema.environment_attempt.c.environment_id == claim.environment_id,
            schema.environment_attempt.c.attempt == claim.attempt,
        )
        .values(outcome=outcome, reason=reason, provenance=dict(provenance), finished_at=sa.func.now())
    )
    _settle(connection, claim.environment_id, outcome, reason, retry=retry, max_attempts=max_attempts)
    events.append(
        connection, claim.run_id, "environment_ended",
        {"environment": claim.key, "block": claim.block, "outcome": outcome, "reason": reason},
    )  # fmt: skip


def _settle(
    connection: sa.Connection,
    environment_id: uuid.UUID,
    outcome: AttemptOutcome,
    reason: str | None,
    *,
    retry: bool,
    max_attempts: int,
) -> None:
    """Move an environment whose attempt is over to pending (again), done, failed or cancelled."""
    row = connection.execute(
        sa.text(
            "SELECT e.counted_attempts, r.cancel_at IS NOT NULL AS cancelled, r.cancelled_by,"
            " (SELECT count(*) FROM trial WHERE environment_id = e.id AND state IN ('pending', 'running')) AS open"
            " FROM environment e JOIN run r ON r.id = e.run_id WHERE e.id = :id FOR UPDATE OF e"
        ),
        {"id": environment_id},
    ).one()
    counted = row.counted_attempts - (1 if outcome == "interrupted" else 0)
    if row.cancelled or outcome == "cancelled":
        state, trial_state = "cancelled", "cancelled"
        reason = "the run was cancelled"
    elif row.open == 0:
        state, trial_state = "done", "measured"
    elif outcome == "interrupted" or (retry and counted < max_attempts):
        state, trial_state = "pending", "pending"
    else:
        state, trial_state = "failed", "failed"
    connection.execute(
        sa.text(
            "UPDATE environment SET state = :state, reason = :reason, counted_attempts = :counted,"
            " not_before = now() + make_interval(secs => :pause) WHERE id = :id"
        ),
        {
            "state": state,
            "reason": reason,
            "counted": counted,
            "pause": _RETRY_PAUSE_S if outcome in ("failed", "lost") and state == "pending" else 0.0,
            "id": environment_id,
        },
    )
    attempt_state = {"cancelled": "cancelled", "lost": "lost", "interrupted": "lost"}.get(outcome, "failed")
    connection.execute(
        sa.text(
            "UPDATE trial_attempt SET state = :state, reason = :reason, finished_at = now()"
            " WHERE state = 'running' AND trial_id IN (SELECT id FROM trial WHERE environment_id = :id)"
        ),
        {"state": attempt_state, "reason": reason, "id": environment_id},
    )
    connection.execute(
        sa.text(
            "UPDATE trial SET state = :state, reason = CASE WHEN :state = 'pending' THEN NULL ELSE :reason END"
            " WHERE environment_id = :id AND state IN ('pending', 'running')"
        ),
        {"state": trial_state, "reason": reason, "id": environment_id},
    )
    connection.execute(
        sa.text(
            "UPDATE load_job SET state = 'ended', reason = coalesce(reason, 'its environment ended')"
            " WHERE state <> 'ended' AND trial_id IN (SELECT id FROM trial WHERE environment_id = :id)"
        ),
        {"id": environment_id},
    )


def expire_leases(connection: sa.Connection, max_attempts: int) -> tuple[str, ...]:
    """End every lease that ran out: attempt lost, site dirty, environment again or failed. Return the sites."""
    rows = connection.execute(
        sa.text(
            "SELECT name, state, epoch, holder, environment_id, operation_id FROM site"
            " WHERE lease_until < now() FOR UPDATE SKIP LOCKED"
        )
    ).all()
    for row in rows:
        connection.execute(
            sa.text(
                "UPDATE site SET state = 'dirty', holder = NULL, environment_id = NULL, operation_id = NULL,"
                " lease_until = NULL, announced_at = NULL WHERE name = :site"
            ),
            {"site": row.name},
        )
        if row.state == "leased" and row.operation_id is not None:
            operations.lose(connection, row.operation_id, row.epoch, _stopped_renewing(row))
        elif row.state == "leased":
            _lose_attempt(connection, row, max_attempts)
    return tuple(row.name for row in rows)


def _stopped_renewing(site: sa.Row[Any]) -> str:
    return f"worker {site.holder} stopped renewing its lease on site {site.name}"


def _lose_attempt(connection: sa.Connection, site: sa.Row[Any], max_attempts: int) -> None:
    reason = _stopped_renewing(site)
    run = connection.execute(
        sa.text(
            "UPDATE environment_attempt a SET outcome = 'lost', reason = :reason, finished_at = now()"
            " FROM environment e WHERE e.id = a.environment_id AND a.environment_id = :id AND a.epoch = :epoch"
            " RETURNING e.run_id, e.key, e.block"
        ),
        {"reason": reason, "id": site.environment_id, "epoch": site.epoch},
    ).one()
    _settle(connection, site.environment_id, "lost", reason, retry=True, max_attempts=max_attempts)
    events.append(
        connection, run.run_id, "environment_ended",
        {"environment": run.key, "block": run.block, "outcome": "lost", "reason": reason},
    )  # fmt: skip


def claim_cleaning(connection: sa.Connection, site: str, holder: str, lease_s: float) -> Cleaning | None:
    """Claim a dirty site for cleaning; None when it is not dirty or somebody is at it."""
    row = connection.execute(
        sa.text(
            "UPDATE site SET state = 'cleaning', epoch = epoch + 1, holder = :holder,"
            " lease_until = now() + make_interval(secs => :lease)"
            " WHERE name = (SELECT name FROM site WHERE name = :site AND state = 'dirty' FOR UPDATE SKIP LOCKED)"
            " RETURNING epoch, provider"
        ),
        {"site": site, "holder": holder, "lease": lease_s},
    ).one_or_none()
    return None if row is None else Cleaning(site, row.provider, row.epoch, holder)


def renew_cleaning(connection: sa.Connection, cleaning: Cleaning, lease_s: float) -> None:
    """Extend the lease of a cleaning.

    Raises:
        FencedError: it is over and the site has moved on.
    """
    renewed = connection.execute(
        sa.text(
            "UPDATE site SET lease_until = now() + make_interval(secs => :lease)"
            " WHERE name = :site AND epoch = :epoch AND holder = :holder AND state = 'cleaning'"
        ),
        {"lease": lease_s, "site": cleaning.site, "epoch": cleaning.epoch, "holder": cleaning.holder},
    )
    if renewed.rowcount == 0:
        raise FencedError(f"the cleaning of site {cleaning.site} (epoch {cleaning.epoch}) is over")


def end_cleaning(
    connection: sa.Connection,
    cleaning: Cleaning,
    failure: str | None,
    *,
    is_final: bool = False,
    is_away: bool = False,
) -> str:
    """Record that the site is free, or why it is not; return its new state.

    Args:
        is_final: trying again cannot help: the site is quarantined at once, so that whoever waits is told now.
        is_away: the site does not answer: it is given time before the next try (``redispatch_s``), where others are
            tried again at the reconciler's next tick.

    Raises:
        FencedError: the cleaning took too long and the site has moved on.
    """
    row = connection.execute(
        sa.text(
            "UPDATE site SET holder = NULL, lease_until = NULL, reason = CAST(:failure AS text),"
            " announced_at = CASE WHEN :away THEN now() END,"
            " failed_cleanings = CASE WHEN CAST(:failure AS text) IS NULL THEN 0 ELSE failed_cleanings + 1 END,"
            " state = CASE WHEN CAST(:failure AS text) IS NULL THEN 'free'"
            " WHEN :final OR failed_cleanings + 1 >= :most THEN 'quarantined' ELSE 'dirty' END"
            " WHERE name = :site AND epoch = :epoch AND holder = :holder AND state = 'cleaning' RETURNING state"
        ),
        {
            "failure": failure,
            "most": MAX_FAILED_CLEANINGS,
            "final": is_final,
            "away": is_away,
            "site": cleaning.site,
            "epoch": cleaning.epoch,
            "holder": cleaning.holder,
        },
    ).one_or_none()
    if row is None:
        raise FencedError(f"the cleaning of site {cleaning.site} (epoch {cleaning.epoch}) is over")
    state: str = row.state
    return state


def release_quarantine(connection: sa.Connection, site: str) -> None:
    """Let a quarantined site be cleaned and used again.

    Raises:
        UnknownNameError: no such site in quarantine.
    """
    done = connection.execute(
        sa.text("UPDATE site SET state = 'dirty', failed_cleanings = 0 WHERE name = :site AND state = 'quarantined'"),
        {"site": site},
    )
    if done.rowcount == 0:
        known = connection.execute(sa.text("SELECT name FROM site WHERE state = 'quarantined'")).scalars().all()
        raise UnknownNameError("quarantined site", site, known)


def fail_quarantined(connection: sa.Connection) -> int:
    """Fail the pending environments of quarantined sites, so that their runs can end; return how many."""
    rows = connection.execute(
        sa.text(
            "UPDATE environment e SET state = 'failed', reason = 'site ' || s.name || ' is quarantined: ' || s.reason"
            " FROM site s WHERE s.name = e.site AND s.state = 'quarantined' AND e.state = 'pending'"
            " RETURNING e.id, e.reason"
        )
    ).all()
    _fail_trials(connection, [(row.id, row.reason) for row in rows])
    return len(rows)


def give_up_on_hopeless(connection: sa.Connection, turns: int = 2) -> int:
    """Fail the pending turns of environments that failed for good ``turns`` times and never came up.

    A binary that does not start in one block does not start in the next: the run goes on with the others.
    """
    rows = connection.execute(
        sa.text(
            "WITH hopeless AS (SELECT run_id, key, max(reason) AS reason FROM environment"
            " WHERE run_id IN (SELECT id FROM run WHERE finished_at IS NULL)"
            " GROUP BY run_id, key"
            " HAVING count(*) FILTER (WHERE state = 'failed') >= :turns AND count(*) FILTER (WHERE state = 'done') = 0)"
            " UPDATE environment e SET state = 'failed',"
            " reason = 'not tried again after failing in ' || :turns || ' turns: ' || h.reason"
            " FROM hopeless h WHERE e.run_id = h.run_id AND e.key = h.key AND e.state = 'pending'"
            " RETURNING e.id, e.reason"
        ),
        {"turns": turns},
    ).all()
    _fail_trials(connection, [(row.id, row.reason) for row in rows])
    return len(rows)


def _fail_trials(connection: sa.Connection, environments: Sequence[tuple[uuid.UUID, str]]) -> None:
    for environment_id, reason in environments:
        connection.execute(
            sa.update(schema.trial)
            .where(schema.trial.c.environment_id == environment_id, schema.trial.c.state.in_(("pending", "running")))
            .values(state="failed", reason=reason)
        )


def announceable(connection: sa.Connection, redispatch_s: float) -> tuple[tuple[str, str], ...]:
    """Return (site, "work" or "clean") for what is due and was not announced lately, and mark it announced."""
    rows = connection.execute(
        sa.text(
            "UPDATE site s SET announced_at = now() WHERE name IN ("
            " SELECT name FROM site WHERE (state = 'dirty' OR (state = 'free' AND (EXISTS ("
            "  SELECT 1 FROM environment e JOIN run r ON r.id = e.run_id WHERE e.site = site.name"
            "  AND e.state = 'pending' AND e.not_before <= now()"
            "  AND r.finished_at IS NULL AND r.cancel_at IS NULL)"
            "  OR EXISTS (SELECT 1 FROM operation o WHERE o.site = site.name AND o.state = 'queued'))))"
            " AND (announced_at IS NULL OR announced_at < now() - make_interval(secs => :again))"
            " FOR UPDATE SKIP LOCKED) RETURNING name, state"
        ),
        {"again": redispatch_s},
    ).all()
    return tuple((row.name, "clean" if row.state == "dirty" else "work") for row in rows)
