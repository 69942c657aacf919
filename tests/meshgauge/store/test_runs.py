"""Runs: stored whole, found again by key, read back as they were measured."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable

import alembic.command
import pytest
import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.errors import ConfigurationError, ConflictError, ServiceUnavailableError, UnknownNameError
from meshgauge.resolved import ResolvedPlan
from meshgauge.store import records, results, runs, schema
from meshgauge.store.database import connect, migration_config, transaction
from meshgauge.store.leases import end_attempt
from meshgauge.trial import MeasuredTrial

Claims = Callable[..., Claim | None]
Trials = Callable[[Claim], list[uuid.UUID]]
Measured = Callable[[uuid.UUID], MeasuredTrial]


def test_the_migrations_give_exactly_the_schema_in_code(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        alembic.command.check(migration_config(connection))


def test_the_same_key_gives_the_same_run_and_another_plan_under_it_is_refused(
    engine: sa.Engine, run_id: uuid.UUID, resolved: ResolvedPlan
) -> None:
    again = runs.Submission(resolved, "key-1", "tester", 10.0, {})
    with transaction(engine) as connection:
        assert runs.submit(connection, again, lambda _: "here") == (run_id, False)
    other = dataclasses.replace(resolved, text=resolved.text + "# changed")
    with pytest.raises(ConflictError, match="send a new key"), transaction(engine) as connection:
        runs.submit(connection, dataclasses.replace(again, resolved=other), lambda _: "here")
    with transaction(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.run)).scalar_one() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.trial)).scalar_one() == 12


def test_a_plan_comes_back_from_the_store_as_it_was_resolved(
    engine: sa.Engine, run_id: uuid.UUID, resolved: ResolvedPlan
) -> None:
    with transaction(engine) as connection:
        assert runs.restored_plan(connection, run_id) == resolved


def test_a_measured_trial_comes_back_bit_by_bit(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Claims, trials_of: Trials, measured_trial: Measured
) -> None:
    claim = claim_one()
    assert claim
    trial_id = trials_of(claim)[0]
    sent = measured_trial(trial_id)
    with transaction(engine) as connection:
        results.begin_trial(connection, claim, trial_id)
        assert results.record_trial(connection, claim, sent) is True
        assert results.record_trial(connection, claim, sent) is False, "delivered twice"
        read = records.read_run(connection, run_id)
    back = next(trial for trial in read.trials if trial.trial_id == str(trial_id))
    assert back.load == sent.load
    assert back.usage == sent.usage
    assert back.gates == sent.gates
    assert back.provenance["checks"] == list(sent.checks)
    assert back.state == "measured"
    assert back.invalid_for == frozenset()
    assert {trial.state for trial in read.trials} == {"measured", "pending"}
    assert len(read.cells) == 6


def test_an_invalid_block_is_redone_at_the_end_within_the_allowance(engine: sa.Engine, run_id: uuid.UUID) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE run SET blocks = 4"))
        connection.execute(sa.text("UPDATE environment SET state = 'done'"))
        connection.execute(sa.text("UPDATE trial SET state = 'measured'"))
        connection.execute(sa.text("UPDATE trial SET state = 'invalid' WHERE id IN (SELECT id FROM trial LIMIT 1)"))
        runs.advance(connection, run_id)
        row = runs.get(connection, run_id)
        assert (row.extra_blocks, row.state) == (1, "queued")
        added = connection.execute(
            sa.select(schema.environment.c.block, schema.environment.c.ordinal)
            .where(schema.environment.c.state == "pending")
            .order_by(schema.environment.c.ordinal)
        ).all()
        assert [tuple(row) for row in added] == [(4, 6), (4, 7), (4, 8)]
        connection.execute(sa.text("UPDATE environment SET state = 'done'"))
        connection.execute(sa.text("UPDATE trial SET state = 'invalid' WHERE state = 'pending'"))
        runs.advance(connection, run_id)
        row = runs.get(connection, run_id)
    assert (row.extra_blocks, row.state) == (1, "done"), "30 % of four blocks is one"
    assert row.reason is not None
    assert row.reason.startswith("11 measured, 7 invalid trials")


def test_a_run_without_any_measured_trial_has_failed(engine: sa.Engine, run_id: uuid.UUID, claim_one: Claims) -> None:
    claim = claim_one()
    assert claim
    with transaction(engine) as connection:
        end_attempt(connection, claim, "failed", "no such binary", {}, retry=False, max_attempts=3)
        connection.execute(sa.text("UPDATE environment SET state = 'failed'"))
        connection.execute(sa.text("UPDATE trial SET state = 'failed', reason = 'no such binary'"))
        runs.advance(connection, run_id)
        row = runs.get(connection, run_id)
    assert (row.state, row.reason) == ("failed", "12 failed trials; 12x no such binary")


def test_the_closing_sentence_counts_invalid_trials_by_gate(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Claims
) -> None:
    claim = claim_one()
    assert claim
    with transaction(engine) as connection:
        end_attempt(connection, claim, "done", None, {}, retry=False, max_attempts=3)
        connection.execute(sa.text("UPDATE environment SET state = 'done'"))
        connection.execute(sa.text("UPDATE run SET extra_blocks = 1"))
        connection.execute(sa.text("UPDATE trial SET state = 'invalid', attempt = 2, reason = 'drift: 11.2 %'"))
        ids = connection.execute(sa.text("SELECT id FROM trial ORDER BY id")).scalars().all()
        gates = [(ids[0], 2, "drift"), (ids[1], 2, "drift"), (ids[1], 2, "growth"), (ids[2], 1, "errors")]
        for trial_id, attempt, gate in gates:
            connection.execute(
                sa.text(
                    "INSERT INTO trial_attempt (trial_id, attempt, epoch) VALUES (:id, :attempt, 1)"
                    " ON CONFLICT DO NOTHING"
                ),
                {"id": trial_id, "attempt": attempt},
            )
            connection.execute(
                sa.text(
                    "INSERT INTO gate (trial_id, attempt, gate, status, spoils, unit, message)"
                    " VALUES (:id, :attempt, :gate, 'invalid', '{latency}', '%', 'too much')"
                ),
                {"id": trial_id, "attempt": attempt, "gate": gate},
            )
        connection.execute(sa.text("UPDATE trial SET reason = 'no reply' WHERE id = :id"), {"id": ids[2]})
        runs.advance(connection, run_id)
        reason = runs.get(connection, run_id).reason
    assert reason is not None
    assert "; invalid by drift 2x, growth 1x; " in reason, "of the final attempt only"
    assert "1x no reply" in reason


def test_an_unknown_run_is_named(engine: sa.Engine) -> None:
    with pytest.raises(UnknownNameError, match="unknown run"), transaction(engine) as connection:
        runs.get(connection, uuid.uuid4())


def test_a_database_that_is_not_postgres_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs Postgres"):
        connect("sqlite:///x.db")


def test_an_absent_database_gives_one_sentence(tmp_path: object) -> None:
    away = connect(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(ServiceUnavailableError, match="Postgres does not answer"), transaction(away):
        pass
    away.dispose()


def test_a_run_knows_whose_findings_it_repeats(engine: sa.Engine, run_id: uuid.UUID, resolved: ResolvedPlan) -> None:
    def again(key: str) -> uuid.UUID:
        submission = runs.Submission(resolved, key, "tester", 10.0, {}, confirms=run_id)
        with transaction(engine) as connection:
            return runs.submit(connection, submission, lambda _: "here")[0]

    first, second = again("confirm-1"), again("confirm-2")
    with transaction(engine) as connection:
        assert runs.confirming(connection, run_id) == (second, first)
        assert records.read_run(connection, second).confirms == str(run_id)
        assert records.read_run(connection, run_id).confirms is None
