"""A run read back in portions: every row at its trial, other attempts and other runs left out, memory kept small."""

from __future__ import annotations

import dataclasses
import tracemalloc
import uuid
from collections.abc import Callable

import numpy as np
import pytest
import sqlalchemy as sa

from meshgauge.claim import Claim
from meshgauge.histogram import BUCKETS, Histogram
from meshgauge.store import records, results, schema
from meshgauge.store.database import transaction
from meshgauge.trial import MeasuredTrial, SecondRow

Claims = Callable[..., Claim | None]
Trials = Callable[[Claim], list[uuid.UUID]]
Measured = Callable[[uuid.UUID], MeasuredTrial]


def _told_apart(measured: MeasuredTrial, number: int) -> MeasuredTrial:
    """Return a trial whose histograms and seconds are its own; the seconds in no order."""
    assert measured.load is not None
    histogram = Histogram.of([1000 * number] * (200 + number))
    seconds = tuple(SecondRow(second, number, number, number, 0, None, None, None) for second in (2, 0, 1))
    histograms = {**measured.load.histograms, ("ok", "net"): histogram}
    return dataclasses.replace(
        measured, load=dataclasses.replace(measured.load, histograms=histograms, seconds=seconds)
    )


@pytest.mark.parametrize("rows_at_once", [1, 7, 2000])
def test_every_row_is_read_back_to_its_own_trial(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Claims, trials_of: Trials, measured_trial: Measured,
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(records, "_ROWS_AT_ONCE", rows_at_once)
    claim = claim_one()
    assert claim
    with transaction(engine) as connection:
        for number, trial_id in enumerate(trials_of(claim), 1):
            results.begin_trial(connection, claim, trial_id)
            results.record_trial(connection, claim, _told_apart(measured_trial(trial_id), number))
        read = records.read_run(connection, run_id)
    loads = {trial.trial_id: trial.load for trial in read.trials}
    for number, trial_id in enumerate(trials_of(claim), 1):
        load = loads.pop(str(trial_id))
        assert load is not None
        assert load.clock("net").total == 200 + number
        assert [(row.second, row.offered) for row in load.seconds] == [(0, number), (1, number), (2, number)]
    assert set(loads.values()) == {None}


def test_rows_of_attempts_that_do_not_count_are_left_out(
    engine: sa.Engine, run_id: uuid.UUID, claim_one: Claims, trials_of: Trials, measured_trial: Measured
) -> None:
    claim = claim_one()
    assert claim
    trial_id = trials_of(claim)[0]
    with transaction(engine) as connection:
        results.begin_trial(connection, claim, trial_id)
        results.record_trial(connection, claim, measured_trial(trial_id))
        connection.execute(sa.update(schema.trial).where(schema.trial.c.id == trial_id).values(attempt=2))
        connection.execute(sa.insert(schema.trial_attempt).values(trial_id=trial_id, attempt=2, epoch=9, state="lost"))
        read = records.read_run(connection, run_id)
    trial = next(trial for trial in read.trials if trial.trial_id == str(trial_id))
    assert (trial.attempt, trial.load, trial.usage, trial.gates) == (2, None, (), ())


def test_histograms_out_of_the_store_take_a_fraction_of_all_their_buckets() -> None:
    """A report of 10 000 trials holds 40 000 of them: at 221 kB each that would be 8.8 GB."""
    rng = np.random.default_rng(1)
    packed = [Histogram.of(rng.lognormal(12.5, 0.5, 20_000).astype(np.int64)).encode() for _ in range(20)]
    tracemalloc.start()
    try:
        kept = [Histogram.stored(bytes(bytearray(data))) for data in packed]
        for histogram in kept:
            histogram.quantiles_ns((0.5, 0.99))
        bytes_each = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert bytes_each < 8 * BUCKETS / 20
