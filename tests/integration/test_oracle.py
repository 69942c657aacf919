"""An oracle of its own: numpy and scipy alone recompute a result table from the bytes in Postgres.

Nothing of ``reports`` or of our histogram is imported here: layout, rank rule, metrics and statistics are written a
second time, from measurement.md and reference/statistics.md, and have to give the same numbers everywhere.
"""

from __future__ import annotations

import csv
import io
import math
import re
import struct
import uuid
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from live_instance import LiveInstance, plan
from scipy import stats

from meshgauge.store import events
from meshgauge.store.database import transaction

PLANNED = 6
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
MARGINS = {"p50": math.log(1.03), "p99": math.log(1.05), "cpu": math.log(1.03)}
WORDS = {"p50": ("slower", "faster"), "p99": ("slower", "faster"), "cpu": ("more", "less")}
KIND = {
    **dict.fromkeys(PERCENTILES, "latency"),
    **dict.fromkeys(("cpu", "cpu_data_plane", "cpu_control_plane", "cpu_host"), "cpu"),
    "memory_data_plane": "memory",
    "achieved_rps": "throughput",
    "errors": "errors",
}
DIFFERENCES = {"cpu_data_plane": 1e-4, "cpu_control_plane": 1e-4, "memory_data_plane": 4096 / 2**20, "errors": 1e-3}
TITLES = {"p50": "median latency (p50)", "p99": "tail latency (p99)", "cpu": "CPU of app and data plane"}


@dataclass(frozen=True)
class Trial:
    """One trial as the tables hold it."""

    mesh: str
    block: int
    spoiled: frozenset[str]
    values: Mapping[str, float | None]


def _counts(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return (bucket, count) pairs and the overflow of a stored histogram."""
    assert data[:4] == b"MGH1"
    (overflow,) = struct.unpack("<Q", data[4:12])
    numbers = np.frombuffer(zlib.decompress(data[12:]), dtype="<i8")
    half = len(numbers) // 2
    return list(zip(np.cumsum(numbers[:half]).tolist(), numbers[half:].tolist(), strict=True)), int(overflow)


def _edge_ns(bucket: int) -> int:
    """Return the lower edge of a bucket: 2048 of 1 ns, then 1024 to every doubling."""
    if bucket < 2048:
        return bucket
    octave, within = divmod(bucket - 2048, 1024)
    return (1024 + within) << (octave + 1)


def _percentile_ms(data: bytes, p: float) -> float | None:
    pairs, overflow = _counts(data)
    total = sum(count for _, count in pairs) + overflow
    if total * (1 - p) < 100:
        return None
    rank, below = p * total, 0
    for bucket, count in pairs:
        if below + count >= rank:
            low, high = _edge_ns(bucket), _edge_ns(bucket + 1)
            return (low + (rank - below) / count * (high - low)) / 1e6
        below += count
    return None


def _read_trials(live: LiveInstance, run_id: uuid.UUID) -> list[Trial]:
    rows = live.rows(
        "SELECT t.id, t.state, t.attempt, e.block, e.labels[1] AS mesh, a.summary FROM trial t"
        " JOIN environment e ON e.id = t.environment_id"
        " LEFT JOIN trial_attempt a ON a.trial_id = t.id AND a.attempt = t.attempt WHERE t.run_id = :id",
        id=run_id,
    )
    return [Trial(row.mesh, row.block, _spoiled(live, row), _values(live, row)) for row in rows]


def _spoiled(live: LiveInstance, row: Any) -> frozenset[str]:
    everything = frozenset(KIND.values())
    if row.state not in ("measured", "invalid"):
        return everything
    gates = live.rows(
        "SELECT spoils FROM gate WHERE trial_id = :t AND attempt = :a AND status = 'invalid'", t=row.id, a=row.attempt
    )
    kinds = frozenset(kind for gate in gates for kind in gate.spoils)
    return everything if row.state == "invalid" and not kinds else kinds


def _values(live: LiveInstance, row: Any) -> dict[str, float | None]:
    if row.summary is None:
        return dict.fromkeys(KIND)
    key = {"t": row.id, "a": row.attempt}
    histogram = live.rows(
        "SELECT counts FROM histogram WHERE trial_id = :t AND attempt = :a AND outcome = 'ok' AND clock = 'net'", **key
    )
    usage = live.rows(
        "SELECT component, (cpu_user_s + cpu_system_s) / window_s AS cores, memory_mean_bytes AS memory"
        " FROM component_usage WHERE trial_id = :t AND attempt = :a",
        **key,
    )
    cores = {part.component: part.cores for part in usage}
    memory = {part.component: part.memory for part in usage}
    done, ok = row.summary["done"], row.summary["outcomes"].get("ok", 0)
    rps = done / row.summary["window_s"]

    def per_krps(value: float | None) -> float | None:
        return None if value is None else 1000 * value / rps

    def proxies(parts: Mapping[str, float | None]) -> float | None:
        if row.mesh == "none":
            return 0.0
        found = [value for name, value in parts.items() if name.startswith("data_plane")]
        known = [value for value in found if value is not None]
        return sum(known) if found and len(known) == len(found) else None

    app, plane, held = cores.get("app"), proxies(cores), proxies(memory)
    return {
        **{
            name: _percentile_ms(bytes(histogram[0].counts), p) if histogram else None
            for name, p in PERCENTILES.items()
        },
        "cpu": None if app is None or plane is None else per_krps(app + plane),
        "cpu_data_plane": per_krps(plane),
        "cpu_control_plane": per_krps(cores.get("control_plane")),
        "cpu_host": per_krps(cores.get("host")),
        "memory_data_plane": None if held is None else held / 2**20,
        "achieved_rps": rps,
        "errors": 100 * (done - ok) / done,
    }


def _expected(trials: Sequence[Trial], mesh: str, metric: str) -> dict[str, Any]:
    """Return level, difference, interval, p and n of one metric, from the formulas of the protocol."""
    is_ratio = metric not in DIFFERENCES
    sides: dict[str, dict[int, float]] = defaultdict(dict)
    for trial in trials:
        value = trial.values[metric]
        if value is not None and KIND[metric] not in trial.spoiled and (value > 0 or not is_ratio):
            sides[trial.mesh][trial.block] = math.log(value) if is_ratio else value
    blocks = sorted(set(sides[mesh]) & set(sides["none"]))
    found: dict[str, Any] = {"n": len(blocks), "p": None, "low": None, "high": None}
    if not blocks:
        return found | {"value": None, "against_value": None, "difference": None}
    level = (lambda xs: math.exp(np.mean(xs))) if is_ratio else np.mean
    shown = (lambda x: 100 * math.expm1(x)) if is_ratio else float
    x = np.array([sides[mesh][block] - sides["none"][block] for block in blocks])
    found |= {
        "value": level([sides[mesh][block] for block in blocks]),
        "against_value": level([sides["none"][block] for block in blocks]),
        "difference": shown(x.mean()),
    }
    if len(x) > 1:
        sd = max(float(x.std(ddof=1)), 0.0005 if is_ratio else DIFFERENCES[metric])
        error = sd / math.sqrt(len(x))
        low, high = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=error)
        found |= {"low": shown(low), "high": shown(high), "p": 2 * stats.t.sf(abs(x.mean()) / error, len(x) - 1)}
        found["narrow"] = stats.t.interval(0.90, len(x) - 1, loc=x.mean(), scale=error)
    return found


def _unequal(trials: Sequence[Trial], mesh: str, metric: str) -> bool:
    """Return whether one side lost clearly more trials than the other: that alone makes a result invalid."""
    counts = []
    for side in (mesh, "none"):
        lost = [KIND[metric] in trial.spoiled for trial in trials if trial.mesh == side]
        counts.append([sum(lost), len(lost) - sum(lost)])
    return sum(counts[0]) >= 6 and stats.fisher_exact(np.array(counts)).pvalue < 0.01


def _with_verdicts(trials: Sequence[Trial], mesh: str) -> dict[str, dict[str, Any]]:
    found = {metric: _expected(trials, mesh, metric) for metric in KIND}
    judged = [m for m in MARGINS if found[m]["n"] >= PLANNED and not _unequal(trials, mesh, m)]
    adjusted: Any = stats.false_discovery_control([found[m]["p"] for m in judged]) if judged else []
    for metric in found:
        found[metric] |= {"p_adjusted": None, "verdict": "invalid" if metric in MARGINS else None}
    for metric, q in zip(judged, adjusted, strict=True):
        low, high = found[metric]["narrow"]
        inside = -MARGINS[metric] <= low and high <= MARGINS[metric]
        more, less = WORDS[metric]
        word = "equivalent" if inside else "inconclusive"
        if q <= 0.05 and not inside:
            word = more if found[metric]["difference"] > 0 else less
        found[metric] |= {"p_adjusted": q, "verdict": word}
    return found


NUMBERS = ("value", "against_value", "difference", "low", "high", "n", "p", "p_adjusted")


@pytest.fixture(scope="session")
def measured_run(shared_instance: LiveInstance) -> uuid.UUID:
    """A run of six blocks, with enough requests in a trial for its p99."""
    run_id = shared_instance.submit(plan(window_s=4, blocks=PLANNED, rate_rps=2600))
    shared_instance.finish(run_id, within_s=600)
    return run_id


@pytest.fixture(scope="session", params=["as measured", "as on a quiet host"])
def compared_run(request: pytest.FixtureRequest, shared_instance: LiveInstance, measured_run: uuid.UUID) -> uuid.UUID:
    """The run with the gates' answers it got; then with all of them ok, as a quiet host would have had them.

    A busy test host spoils latencies, and arithmetic is what is tested here: it must have all its blocks once.
    """
    if request.param == "as on a quiet host":
        with transaction(shared_instance.engine) as connection:
            of_run = "trial_id IN (SELECT id FROM trial WHERE run_id = :id)"
            for statement in (
                f"UPDATE gate SET status = 'ok' WHERE {of_run}",  # noqa: S608 - no value of anybody's in it
                "UPDATE trial SET state = 'measured' WHERE run_id = :id AND state = 'invalid'",
            ):
                connection.execute(sa.text(statement), {"id": measured_run})
            events.append(connection, measured_run, "edited", {"by": "the test"})  # pages are made anew
    return measured_run


@pytest.fixture(scope="session")
def oracle(shared_instance: LiveInstance, compared_run: uuid.UUID) -> dict[str, dict[str, Any]]:
    """What the numbers have to be, per metric."""
    return _with_verdicts(_read_trials(shared_instance, compared_run), "nginx-1.31.3")


def test_the_oracle_has_something_to_say(request: pytest.FixtureRequest, oracle: dict[str, dict[str, Any]]) -> None:
    assert oracle["errors"]["n"] >= 2
    assert sum(found["difference"] is not None for found in oracle.values()) >= 4
    if "quiet" in request.node.name:
        assert oracle["p50"]["n"] >= PLANNED
        assert {oracle[metric]["verdict"] for metric in ("p50", "cpu")} <= {
            "slower",
            "more",
            "inconclusive",
            "equivalent",
        }


def test_every_number_of_the_summary_is_the_oracles(
    instance: LiveInstance, compared_run: uuid.UUID, oracle: dict[str, dict[str, Any]]
) -> None:
    summary = instance.http.get(f"/api/v1/runs/{compared_run}/summary").json()
    rows = {row["metric"]: row for row in summary["results"] if row["question"] == "baseline"}
    assert set(rows) >= {m for m, found in oracle.items() if found["n"] or m in MARGINS}
    for metric, row in rows.items():
        for name in NUMBERS:
            expected = oracle[metric][name]
            assert row[name] == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-12)), (
                metric,
                name,
            )
        assert row["verdict"] == oracle[metric]["verdict"], metric


def test_every_number_of_the_csv_is_the_oracles(
    instance: LiveInstance, compared_run: uuid.UUID, oracle: dict[str, dict[str, Any]]
) -> None:
    text = instance.http.get(f"/api/v1/runs/{compared_run}/tables/comparisons.csv").text
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(text)) if row["question"] == "baseline"}
    assert set(rows) >= {m for m, found in oracle.items() if found["n"] or m in MARGINS}
    for metric, row in rows.items():
        for name in NUMBERS:
            expected = oracle[metric][name]
            if expected is None:
                assert row[name] == "", (metric, name)
            else:
                assert float(row[name]) == pytest.approx(expected, rel=1e-6, abs=1e-9), (metric, name)
        assert row["verdict"] == (oracle[metric]["verdict"] or "")


class _Tables(HTMLParser):
    """Collects the texts of all table rows of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def _numbers(text: str) -> list[tuple[float, float]]:
    """Return the numbers of a text with what half of their last digit is worth."""
    plain = text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    return [(float(n), 0.5 * 10.0 ** -len(n.partition(".")[2])) for n in re.findall(r"[-+]?\d+(?:\.\d+)?", plain)]


def _shows(cells: Sequence[str], wanted: Sequence[float]) -> bool:
    """Return whether some cell shows exactly these numbers, each rounded to the digits it is printed with."""
    for cell in cells:
        found = _numbers(cell)
        if len(found) == len(wanted) and all(
            abs(n - w) <= half * 1.0001 for (n, half), w in zip(found, wanted, strict=True)
        ):
            return True
    return False


def test_the_page_shows_the_oracles_differences_intervals_and_words(
    instance: LiveInstance, compared_run: uuid.UUID, oracle: dict[str, dict[str, Any]]
) -> None:
    parser = _Tables()
    parser.feed(instance.http.get(f"/runs/{compared_run}/report").text)
    for metric, title in TITLES.items():
        found = oracle[metric]
        if found["difference"] is None:
            continue
        rows = [row for row in parser.rows if any(cell.strip() == title for cell in row)]
        assert rows, f"no row of the page is about {title}"
        right = [row for row in rows if _shows(row, [found["difference"]])]
        assert right, (metric, found["difference"], rows)
        if found["low"] is not None:  # one valid block has a difference and no interval
            assert any(_shows(row, [found["low"], found["high"]]) for row in right), (metric, found["low"], right)
        assert any(cell.strip().startswith(found["verdict"]) for row in right for cell in row), (
            found["verdict"],
            right,
        )
