"""The cancel listener: hears of its run at once, and hears again after its connection broke."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable

import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.store import runs
from meshgauge.store.database import transaction
from workers.cancel import CancelListener

Away = Callable[[], contextlib.AbstractContextManager[None]]


def hears(listener: CancelListener, selector: selectors.BaseSelector, rounds: int = 20) -> bool:
    for _ in range(rounds):
        listener.register(selector)
        if listener.asked({key.fileobj for key, _ in selector.select(0.1)}):
            return True
    return False


def cancel(engine: sa.Engine, claim: Claim) -> None:
    with transaction(engine) as connection:
        runs.request_cancel(connection, claim.run_id, "tester")


def test_a_cancelled_run_is_heard_of(engine: sa.Engine, site_claim: Claim) -> None:
    with CancelListener(engine, site_claim.run_id) as listener, selectors.DefaultSelector() as selector:
        assert not hears(listener, selector, rounds=2)
        cancel(engine, site_claim)
        assert hears(listener, selector)


def test_another_runs_cancellation_is_not_ours(engine: sa.Engine, site_claim: Claim) -> None:
    with CancelListener(engine, site_claim.environment_id) as listener, selectors.DefaultSelector() as selector:
        listener.register(selector)
        cancel(engine, site_claim)
        assert not hears(listener, selector, rounds=5)


def test_a_broken_connection_is_replaced_and_hears_again(
    engine: sa.Engine, site_claim: Claim, postgres_away: Away
) -> None:
    with CancelListener(engine, site_claim.run_id) as listener, selectors.DefaultSelector() as selector:
        for _ in range(3):  # the replacement may have the descriptor of the one before
            listener.register(selector)
            with postgres_away():
                assert not hears(listener, selector, rounds=3)
            assert not hears(listener, selector, rounds=2)
        cancel(engine, site_claim)
        assert hears(listener, selector)
