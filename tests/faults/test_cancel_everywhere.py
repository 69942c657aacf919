"""Cancel at every state of a run: everything is gone within five seconds and what was measured is kept."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable

import pytest
from live_instance import LiveInstance, plan
from live_processes import eventually

pytestmark = pytest.mark.slow

CANCEL_LIMIT_S = 5.0  # reliability.md 5


def has_reached(live: LiveInstance, run_id: uuid.UUID, phase: str) -> bool:
    """Ask the diary: with everything cached a phase is over in milliseconds, between two looks at the attempt."""
    told = live.rows(
        "SELECT 1 FROM event WHERE run_id = :id AND kind = 'phase' AND data->>'phase' = :phase", id=run_id, phase=phase
    )
    return bool(told)


# A site is held between these; the last two race with the end of the first trial and of the environment.
MOMENTS: dict[str, Callable[[LiveInstance, uuid.UUID], bool]] = {
    "queued": lambda _live, _run: True,
    "claimed": lambda live, run: bool(live.attempts(run)),
    "install": lambda live, run: has_reached(live, run, "install"),
    "ready": lambda live, run: has_reached(live, run, "ready"),
    "trial begun": lambda live, run: any(trial.state == "running" for trial in live.trials(run)),
    "trial over": lambda live, run: any(live.has_answer(trial) for trial in live.trials(run)),
    "between environments": lambda live, run: any(row.outcome for row in live.attempts(run)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_cancelled_at_any_moment_is_gone_at_once(watched: LiveInstance, moment: str) -> None:
    run_id = watched.submit(plan(window_s=1, blocks=3))
    eventually(lambda: MOMENTS[moment](watched, run_id), 40, moment)
    answered_before = {trial.id for trial in watched.trials(run_id) if watched.has_answer(trial)}
    watched.cancel(run_id)
    eventually(lambda: not watched.carriers(), CANCEL_LIMIT_S, "every process ends")
    row = watched.finish(run_id, 30)
    assert row.state == "cancelled"
    answered = {trial.id for trial in watched.trials(run_id) if watched.has_answer(trial)}
    assert answered_before <= answered
    assert {trial.state for trial in watched.trials(run_id)} <= {"measured", "invalid", "cancelled"}
    watched.assert_sound(run_id)


def test_cancelling_is_harmless_when_the_run_is_over(watched: LiveInstance) -> None:
    run_id = watched.submit(plan("[none]"))
    before = watched.finish(run_id)
    watched.cancel(run_id)
    assert watched.run_row(run_id) == before


def test_a_run_whose_worker_is_dead_can_be_cancelled(watched: LiveInstance) -> None:
    run_id = watched.submit(plan(window_s=3))
    attempt = watched.wait_measuring(run_id)
    _, child = watched.holder(attempt)
    os.kill(child, signal.SIGSTOP)
    try:
        watched.cancel(run_id)
        row = watched.finish(run_id, 30)
        assert row.state == "cancelled"
        eventually(lambda: not watched.carriers(), CANCEL_LIMIT_S)
    finally:
        os.kill(child, signal.SIGCONT)
    watched.assert_sound(run_id)


def test_cancellations_at_growing_distances_all_end(watched: LiveInstance) -> None:
    for at in range(10):
        run_id = watched.submit(plan("[none]"))
        time.sleep(0.25 * at)
        watched.cancel(run_id)
        row = watched.finish(run_id, 30)
        assert row.state in ("cancelled", "done", "failed")
    watched.assert_sound(run_id)
