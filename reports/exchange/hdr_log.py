"""HDR histogram logs: our histograms in the format HdrHistogram's tools read, bucket for bucket the same.

Our layout (meshgauge.histogram) is HdrHistogram's for lowest discernible value 1, highest MAX_VALUE_NS and three
significant digits: 2048 sub-buckets, the same edges, the same order. So nothing is re-bucketed, and nothing is lost.

Sources: HdrHistogram (github.com/HdrHistogram/HdrHistogram), AbstractHistogram.encodeIntoByteBuffer (V2),
ZigZagEncoding, HistogramLogWriter (log format 1.3).
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from meshgauge.histogram import MAX_VALUE_NS, Histogram, bucket_edges_ns
from meshgauge.trial import LoadResult, TrialRecord
from reports.analysis import Analysis

SIGNIFICANT_DIGITS = 3
LOWEST_DISCERNIBLE_NS = 1
NS_PER_MS = 1e6

_MOST_BYTES = 9  # of one number
_V2_COOKIE = 0x1C849303 | 0x10
_V2_COMPRESSED_COOKIE = 0x1C849304 | 0x10
_HEADER = struct.Struct(">iiiiqqd")  # cookie, payload bytes, index offset, digits, lowest, highest, value ratio
_COMPRESSED_HEADER = struct.Struct(">ii")  # cookie, compressed bytes
_EDGES_NS = bucket_edges_ns()


def encode_v2(histogram: Histogram) -> bytes:
    """Return the counts of ``histogram`` as a V2 payload, not compressed. Requests beyond the range are not in it."""
    counts = _zigzag_counts(histogram)
    head = _HEADER.pack(
        _V2_COOKIE, len(counts), 0, SIGNIFICANT_DIGITS, LOWEST_DISCERNIBLE_NS, MAX_VALUE_NS, 1.0
    )  # fmt: skip
    return head + counts


def encode_compressed(histogram: Histogram) -> str:
    """Return ``histogram`` as in a log line: V2, zlib, base64 (it begins with HISTF)."""
    packed = zlib.compress(encode_v2(histogram), 6)
    return base64.b64encode(_COMPRESSED_HEADER.pack(_V2_COMPRESSED_COOKIE, len(packed)) + packed).decode("ascii")


def hdr_log(analysis: Analysis) -> bytes:
    """Return every histogram of a run as one HDR histogram log, tagged by cell, block, outcome and clock.

    Values are latencies in ns; Interval_Max is in ms. Failed and invalid trials are in it, and say so in their tag.
    """
    trials = sorted(
        ((trial, trial.load) for trial in analysis.run.trials if trial.load is not None),
        key=lambda pair: pair[1].window_start,
    )
    lines = list(_head(analysis, trials[0][1].window_start.timestamp() if trials else 0.0))
    if trials:
        began = trials[0][1].window_start
        for trial, load in trials:
            at_s = (load.window_start - began).total_seconds()
            lines += _lines_of(trial, load, at_s)
    return ("\n".join(lines) + "\n").encode("ascii")


def _head(analysis: Analysis, began_s: float) -> Iterator[str]:
    run = analysis.run
    first = run.started_at or run.created_at
    yield f"#[Logged with Meshgauge {run.provenance.get('meshgauge', 'of unknown version')}, run {run.run_id}]"
    yield "#[Values: latencies in nanoseconds; Interval_Max: milliseconds; timestamps and lengths: seconds]"
    yield "#[Tags: cell;block;replicate;state;outcome;clock. Clocks: net is what verdicts use; response, service, lag]"
    yield "#[Counts are those measured, bucket for bucket: 3 significant digits, lowest 1 ns, highest 68719476735 ns]"
    yield "#[Histogram log format version 1.3]"
    yield f"#[StartTime: {began_s:.3f} (seconds since epoch), {first.isoformat(timespec='milliseconds')}]"
    yield f"#[BaseTime: {began_s:.3f} (seconds since epoch)]"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'


def _lines_of(trial: TrialRecord, load: LoadResult, at_s: float) -> Iterator[str]:
    for (outcome, clock), histogram in sorted(load.histograms.items()):
        tag = (
            f"{trial.cell};block={trial.block + 1};replicate={trial.replicate};state={trial.state};"
            f"outcome={outcome};clock={clock}"
        )
        if histogram.overflow:
            yield f"#[{tag}: {histogram.overflow} further requests took longer than 68.7 s and are not in it]"
        yield f"Tag={tag},{at_s:.3f},{load.window_s:.3f},{_max_ms(histogram):.3f},{encode_compressed(histogram)}"


def _max_ms(histogram: Histogram) -> float:
    """Return the highest value equivalent to the highest count, as HdrHistogram does; 0 for an empty histogram."""
    used, _ = histogram.pairs()
    return float(_EDGES_NS[used[-1] + 1] - 1) / NS_PER_MS if used.size else 0.0


def _zigzag_counts(histogram: Histogram) -> bytes:
    """Return the counts up to the last used bucket; a run of zeros is written as its negative length."""
    used, counts = histogram.pairs()
    zeros = np.diff(used, prepend=-1) - 1  # empty buckets before each used one
    values = np.stack([np.where(zeros == 1, 0, -zeros), counts], axis=1)
    is_written = np.stack([zeros > 0, np.ones(used.size, dtype=np.bool_)], axis=1)
    return zigzag(values[is_written])


def zigzag(values: npt.NDArray[np.int64]) -> bytes:
    """Return signed integers as ZigZag LEB128-64b9B: seven bits a byte, lowest first, the ninth byte whole."""
    folded = ((values << 1) ^ (values >> 63)).astype(np.uint64)
    places = np.arange(_MOST_BYTES)
    beyond = folded[:, None] >> (7 * places[1:]).astype(np.uint64) > 0
    lengths = 1 + np.count_nonzero(beyond, axis=1)
    octets = folded[:, None] >> (7 * places).astype(np.uint64)
    octets[:, :-1] &= np.uint64(0x7F)
    octets[places < lengths[:, None] - 1] |= np.uint64(0x80)
    return bytes(octets[places < lengths[:, None]].astype(np.uint8).tobytes())
