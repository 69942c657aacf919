"""What an environment's claim means: which nodes its trials are held against."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import sqlalchemy as sa

from meshgauge.claim import AttemptOutcome, Claim
from meshgauge.store import leases, results, schema, work
from meshgauge.store.database import transaction
from meshgauge.trial import MeasuredTrial, Nodes

Claims = Callable[..., Claim | None]
SITE = "here"


class Hands:
    """Moves a run along, one environment after the other."""

    def __init__(self, engine: sa.Engine, claim_one: Claims, measured: Callable[[uuid.UUID], MeasuredTrial]) -> None:
        self._engine = engine
        self._claim_one = claim_one
        self._measured = measured

    def begin(self) -> tuple[Claim, work.ClaimedWork]:
        """Claim the next environment."""
        claim = self._claim_one()
        assert claim is not None
        with transaction(self._engine) as connection:
            return claim, work.read_work(connection, claim)

    def measure(
        self,
        claim: Claim,
        trial: work.DueTrial,
        nodes: Nodes | None,
        state: Literal["measured", "invalid"] = "measured",
    ) -> None:
        """Store what a trial measured on these nodes."""
        answer = replace(self._measured(uuid.UUID(trial.id)), nodes=nodes, state=state)
        with transaction(self._engine) as connection:
            results.begin_trial(connection, claim, uuid.UUID(trial.id))
            results.record_trial(connection, claim, answer)

    def end(self, claim: Claim, outcome: AttemptOutcome = "done") -> None:
        """Give the site back, clean, and let the next claim come at once."""
        with transaction(self._engine) as connection:
            leases.end_attempt(connection, claim, outcome, None, {}, retry=True, max_attempts=3)
            cleaning = leases.claim_cleaning(connection, SITE, "cleaner", 60)
            assert cleaning is not None
            leases.end_cleaning(connection, cleaning, None)
            connection.execute(sa.update(schema.environment).values(not_before=sa.func.now()))


@pytest.fixture
def hands(engine: sa.Engine, claim_one: Claims, measured_trial: Callable[[uuid.UUID], MeasuredTrial]) -> Hands:
    """What moves the run along."""
    return Hands(engine, claim_one, measured_trial)


def test_a_block_is_held_against_its_first_trial_of_each_load_and_the_next_begins_anew(hands: Hands) -> None:
    block, first = 0, dict[str, Nodes]()
    for _ in range(6):
        claim, claimed = hands.begin()
        if claim.block != block:
            block, first = claim.block, {}
        for trial in claimed.trials:
            assert trial.first_nodes == first.get(trial.load)
        for number, trial in enumerate(claimed.trials):
            stood = {"app": [f"n{block}-{claim.position}"], "load": [f"n{number}"]}
            hands.measure(claim, trial, stood, "measured" if claim.position == 0 else "invalid")
            first.setdefault(trial.load, stood)
        hands.end(claim)
    assert block > 0


def test_an_attempt_repeated_is_held_against_what_its_block_has_measured_by_then(hands: Hands) -> None:
    claim, claimed = hands.begin()
    done, left = claimed.trials
    hands.measure(claim, done, {"app": ["n1"]})
    hands.end(claim, "failed")
    again, repeated = hands.begin()
    assert again.environment_id == claim.environment_id
    ((only),) = repeated.trials
    assert (only.id, only.first_nodes) == (left.id, None)  # of its own load nothing was measured yet
    hands.measure(again, only, {"app": ["n2"]})
    hands.end(again)
    _, other = hands.begin()
    assert {trial.load: trial.first_nodes for trial in other.trials} == {
        done.load: {"app": ["n1"]},
        left.load: {"app": ["n2"]},
    }


def test_an_attempt_that_does_not_count_is_no_measure(
    hands: Hands, engine: sa.Engine, measured_trial: Callable[[uuid.UUID], MeasuredTrial]
) -> None:
    claim, claimed = hands.begin()
    late = replace(measured_trial(uuid.UUID(claimed.trials[0].id)), nodes={"app": ["n9"]})
    hands.end(claim, "failed")
    with transaction(engine) as connection:
        assert results.record_trial(connection, claim, late) is False  # kept, fenced
    _, repeated = hands.begin()
    assert [trial.first_nodes for trial in repeated.trials] == [None, None]


def test_one_host_has_nothing_to_be_held_against(hands: Hands) -> None:
    claim, claimed = hands.begin()
    for trial in claimed.trials:
        hands.measure(claim, trial, None)
    hands.end(claim)
    _, other = hands.begin()
    assert [trial.first_nodes for trial in other.trials] == [None, None]
