"""Results of load workers add up exactly, on the wire and on disk too."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest

from meshgauge.errors import MeasurementError
from meshgauge.histogram import Histogram
from meshgauge.trial import CLOCKS, LoadResult
from workers.load.engine.contract import SecondTally
from workers.load.merging import SecondsMerger, merged
from workers.load.messages import Progress, WorkerResult
from workers.load.order import LoadOrder
from workers.load.result_file import HISTOGRAMS_NAME, JSON_NAME, read_load_result, write_load_result

_START = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)


def worker_result(seed: int, **fields: Any) -> WorkerResult:
    rng = np.random.default_rng(seed)
    ok, bad = 900 + seed, 10 + seed
    values = {("ok", clock): Histogram.of(rng.integers(1, 10**9, ok)) for clock in CLOCKS}
    values |= {("timeout", clock): Histogram.of(rng.integers(1, 10**12, bad)) for clock in CLOCKS}
    parts = np.array_split(rng.integers(1, 10**9, ok), 12)
    plain: dict[str, Any] = {
        "worker": f"w{seed}", "engine": "native", "engine_abi": 1, "offered": ok + bad + 1, "sent": ok + bad,
        "done": ok + bad, "dropped": 1, "waited": seed, "backlog_peak": 2 * seed, "connections_opened": 3,
        "requests_total": 2000, "fifo_applied": True, "outcomes": {"ok": ok, "timeout": bad}, "histograms": values,
        "batches": tuple(Histogram.of(part) for part in parts), "engine_cpu_ratio": 0.1 * seed, "run_delay_ratio": None,
    }  # fmt: skip
    return WorkerResult(**{**plain, **fields})


def second(number: int, values: list[int], cpu: float | None = 0.5) -> SecondTally:
    return SecondTally(number, len(values), len(values), len(values), 0, Histogram.of(values), cpu)


def merge(order: LoadOrder, *results: WorkerResult) -> LoadResult:
    return merged(order, results, (), _START, "2.47.0", 1)


def test_histograms_and_counts_of_workers_add_exactly(make_order: Callable[..., LoadOrder]) -> None:
    first, second_ = worker_result(1), worker_result(2)
    result = merge(make_order(80, load_workers=2), first, second_)
    assert result.outcomes == {"ok": 901 + 902, "timeout": 11 + 12}
    for key, histogram in result.histograms.items():
        assert histogram == first.histograms[key] + second_.histograms[key]
    assert result.done == sum(result.outcomes.values())
    assert result.offered == result.sent + result.dropped
    assert (result.waited, result.backlog_peak, result.requests_total) == (3, 6, 4000)
    assert [worker.worker for worker in result.workers] == ["w1", "w2"]
    assert len(result.batch_p50_us) == 12


def test_results_of_different_engines_are_not_merged(make_order: Callable[..., LoadOrder]) -> None:
    with pytest.raises(MeasurementError, match="different engines"):
        merge(make_order(80), worker_result(1), worker_result(2, engine="python", engine_abi=None))


def test_a_refused_real_time_priority_is_named(make_order: Callable[..., LoadOrder]) -> None:
    order = make_order(80, fifo_priority=10)
    assert merge(order, worker_result(1)).scheduling == "fifo:10"
    assert merge(order, worker_result(1, fifo_applied=False)).scheduling == "normal (fifo:10 was refused)"
    assert merge(make_order(80), worker_result(1)).scheduling == "normal"


def test_a_second_is_a_row_once_all_workers_delivered_it() -> None:
    merger = SecondsMerger(2)
    merger.add([second(0, [1000] * 99, 0.2), second(1, [5000])])
    with pytest.raises(MeasurementError, match="second 0"):
        merger.rows()
    merger.add([second(0, [1000] * 101, 0.6), second(1, [])])
    first, last = merger.rows()
    assert (first.offered, first.engine_cpu_ratio) == (200, 0.6)
    assert first.p50_us == pytest.approx(1.0, rel=0.001)
    assert first.p99_us is not None
    assert last.p99_us is None


def test_an_empty_second_has_no_percentiles() -> None:
    merger = SecondsMerger(1)
    merger.add([second(0, [], None)])
    assert (merger.rows()[0].p50_us, merger.rows()[0].engine_cpu_ratio) == (None, None)


def test_results_survive_msgpack() -> None:
    result = worker_result(3)
    assert WorkerResult.from_wire(msgpack.loads(msgpack.dumps(result.to_wire()))) == result
    progress = Progress(5, 1.0, Histogram.of([1, 2, 3]), (second(4, [7, 8]),))
    assert Progress.from_wire(msgpack.loads(msgpack.dumps(progress.to_wire()))) == progress


def test_a_load_result_survives_the_disk(make_order: Callable[..., LoadOrder], tmp_path: Path) -> None:
    merger = SecondsMerger(1)
    merger.add([second(0, [1000] * 200)])
    result = dataclasses.replace(merge(make_order(80), worker_result(1)), seconds=merger.rows())
    write_load_result(tmp_path, result)
    assert read_load_result(tmp_path) == result
    assert sorted(path.name for path in tmp_path.iterdir()) == [HISTOGRAMS_NAME, JSON_NAME]


def test_a_missing_or_damaged_result_says_so(make_order: Callable[..., LoadOrder], tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="left no result"):
        read_load_result(tmp_path)
    write_load_result(tmp_path, merge(make_order(80), worker_result(1)))
    (tmp_path / HISTOGRAMS_NAME).write_bytes(b"short")
    with pytest.raises(MeasurementError, match="damaged"):
        read_load_result(tmp_path)
