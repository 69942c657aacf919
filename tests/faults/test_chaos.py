"""A seeded monkey kills, pauses and empties at random while runs go on; the invariants hold for every seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest
import redis
from live_instance import LIFECYCLE, LOAD, LiveInstance, plan

pytestmark = pytest.mark.slow

MAYHEM_S = 75.0
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_the_monkey_does_each_trial_is_counted_once(watched: LiveInstance, seed: int) -> None:
    monkey = _Monkey(watched, random.Random(seed))
    run_ids = [watched.submit(plan(window_s=1, blocks=3)) for _ in range(2)]
    deadline_s = time.monotonic() + MAYHEM_S
    while time.monotonic() < deadline_s:
        monkey.strike()
        time.sleep(monkey.random.uniform(2.0, 6.0))
    assert monkey.strikes >= 10
    watched.wait_up()
    for run_id in run_ids:
        row = watched.finish(run_id, 240)
        assert row.reason, monkey.diary
        watched.assert_each_counted_once(run_id)
        # Invalid or given up after three losses is allowed; open is not.
        assert {trial.state for trial in watched.trials(run_id)} <= {"measured", "invalid", "failed"}, monkey.diary
    watched.assert_clean(60)


class _Monkey:
    def __init__(self, instance: LiveInstance, rng: random.Random) -> None:
        self.instance = instance
        self.random = rng
        self.diary: list[str] = []
        self.strikes = 0
        self._tricks = (
            self._kill_a_service,
            self._kill_a_service,
            self._kill_something_of_the_environment,
            self._kill_something_of_the_environment,
            self._pause_a_worker,
            self._empty_redis,
            self._cry_wolf,
        )

    def strike(self) -> None:
        trick = self.random.choice(self._tricks)
        self.strikes += 1
        self.diary.append(f"{time.monotonic():.1f} {trick.__name__}")
        trick()

    def _kill_a_service(self) -> None:
        service = self.random.choice([*LIFECYCLE, *LOAD, "worker-control", "reconciler", "postgres", "redis"])
        if self.instance.is_up(service):  # a server that is down proves nothing
            self.diary.append(service)
            self.instance.kill(service)

    def _kill_something_of_the_environment(self) -> None:
        carriers = sorted(self.instance.carriers(), key=lambda carrier: carrier.pid)
        if carriers:
            victim = self.random.choice(carriers)
            self.diary.append(victim.command[:60])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)

    def _pause_a_worker(self) -> None:
        service = self.random.choice(LIFECYCLE)
        if not self.instance.is_up(service):
            return
        for pid in self.instance.children_of(self.instance.pid(service)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.random.choice((2.0, 9.0)))
                os.kill(pid, signal.SIGCONT)

    def _empty_redis(self) -> None:
        if self.instance.is_up("redis"):
            with redis.Redis.from_url(self.instance.redis_url) as client, contextlib.suppress(redis.ConnectionError):
                client.flushall()

    def _cry_wolf(self) -> None:
        if self.instance.is_up("redis"):
            for _ in range(5):
                self.instance.announce_work()
                self.instance.announce_clean()
