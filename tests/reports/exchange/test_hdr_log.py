"""HDR histogram logs: read back by HdrHistogram's own library, nothing gained, nothing lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from hdrh.log import HistogramLogReader  # type: ignore[import-untyped]

from meshgauge.histogram import BUCKETS, MAX_VALUE_NS, Histogram, bucket_edges_ns
from meshgauge.run import RunRecord
from meshgauge.trial import TrialRecord
from reports.analysis import analyse
from reports.exchange.hdr_log import encode_compressed, hdr_log, zigzag


def _reference() -> HdrHistogram:
    return HdrHistogram(1, MAX_VALUE_NS, 3)


def test_the_layout_is_that_of_hdrhistogram_bucket_for_bucket() -> None:
    theirs = _reference()
    assert theirs.counts_len == BUCKETS
    edges = bucket_edges_ns()[:-1].astype(np.int64)
    sample = [*range(0, BUCKETS, 97), 1, 2047, 2048, 2049, BUCKETS - 1]
    for at in sample:
        assert theirs._counts_index_for(int(edges[at])) == at
        last = int(edges[at + 1]) - 1 if at + 1 < BUCKETS else MAX_VALUE_NS
        assert theirs._counts_index_for(last) == at


@pytest.mark.parametrize(
    "values_ns",
    [
        [0],
        [1, 2, 2],
        [2047, 2048, 2049, 4096],
        [MAX_VALUE_NS],
        [5, MAX_VALUE_NS // 2, MAX_VALUE_NS],
        list(np.random.default_rng(3).lognormal(13, 1.2, 20_000).astype(np.int64)),
    ],
)
def test_every_count_comes_back(values_ns: list[int]) -> None:
    ours = Histogram.of(values_ns)
    theirs = HdrHistogram.decode(encode_compressed(ours))
    assert [theirs.get_count_at_index(at) for at in np.flatnonzero(ours.counts)] == list(ours.counts[ours.counts > 0])
    assert theirs.get_total_count() == ours.total


def test_counts_of_any_size_are_written() -> None:
    counts = np.zeros(BUCKETS, dtype=np.int64)
    sizes = [1, 63, 64, 127, 128, 8191, 8192, 2**31 - 1, 2**40, 2**61]
    counts[100 : 100 + 2 * len(sizes) : 2] = sizes
    theirs = HdrHistogram.decode(encode_compressed(Histogram(counts)))
    assert [theirs.get_count_at_index(100 + 2 * at) for at in range(len(sizes))] == sizes


@pytest.mark.parametrize(
    ("value", "octets"),
    [(0, "00"), (-1, "01"), (1, "02"), (63, "7e"), (-64, "7f"), (64, "8001"), (2**62, "808080808080808080"),
     (2**63 - 1, "feffffffffffffffff"), (-(2**63), "ffffffffffffffffff")],
)  # fmt: skip
def test_numbers_are_folded_and_cut_into_seven_bits_the_ninth_byte_whole(value: int, octets: str) -> None:
    assert zigzag(np.array([value], dtype=np.int64)).hex() == octets


def test_an_empty_histogram_is_one() -> None:
    assert HdrHistogram.decode(encode_compressed(Histogram())).get_total_count() == 0


def test_a_log_is_read_whole_by_hdrhistograms_reader(make_run: Callable[..., RunRecord], tmp_path: Path) -> None:
    run = make_run(blocks=2)
    path = tmp_path / "run.hlog"
    path.write_bytes(hdr_log(analyse(run)))
    reader = HistogramLogReader(str(path), _reference())
    found: dict[str, HdrHistogram] = {}
    with reader.input_file:
        while (histogram := reader.get_next_interval_histogram()) is not None:
            found[histogram.get_tag()] = histogram
    expected = sum(len(trial.load.histograms) for trial in run.trials if trial.load)
    assert len(found) == expected > 0
    trial = run.trials[0]
    assert trial.load is not None
    tag = f"{trial.cell};block={trial.block + 1};replicate=0;state=measured;outcome=ok;clock=net"
    ours = trial.load.clock("net")
    p99_ns = ours.quantile_ns(0.99)
    assert p99_ns is not None
    assert found[tag].get_total_count() == ours.total
    assert found[tag].get_value_at_percentile(99) == pytest.approx(p99_ns, rel=0.001)
    assert found[tag].get_start_time_stamp() == pytest.approx(trial.load.window_start.timestamp() * 1000)


def test_requests_beyond_the_range_are_told_not_dropped_in_silence(make_run: Callable[..., RunRecord]) -> None:
    def slow(trial: TrialRecord) -> TrialRecord:
        load = trial.load
        assert load is not None
        late: Any = {("ok", "net"): Histogram(load.clock("net").counts, overflow=7)}
        return dataclasses.replace(trial, load=dataclasses.replace(load, histograms={**load.histograms, **late}))

    text = hdr_log(analyse(make_run(blocks=1, edit=slow))).decode()
    assert "7 further requests took longer than 68.7 s" in text


def test_a_run_without_measurements_is_a_log_without_intervals(make_run: Callable[..., RunRecord]) -> None:
    text = hdr_log(analyse(make_run(blocks=1, edit=lambda _: None))).decode()
    assert all(line.startswith(("#", '"')) for line in text.splitlines())
