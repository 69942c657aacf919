"""A report over 1000 cells x 10 blocks x 3 primary metrics, from Postgres to pages, held against its bars.

Run: python tests/bench/bench_report.py [cells] [blocks]

Prints seconds and per-item costs, and for each stage a reference measured in the same run, because hosts differ:
reading against the bare driver, statistics against SciPy called pair by pair, figures against drawing them here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from scipy import stats

from coordinator.embedded.bootstrap import down, up
from meshgauge.histogram import Histogram
from meshgauge.matrix import Matrix
from meshgauge.resolved import ResolvedPlan
from meshgauge.run import RunRecord
from meshgauge.settings import Settings
from meshgauge.store import records, runs, schema
from meshgauge.store.bulk import copy_rows
from meshgauge.store.database import connect, migrate, transaction
from meshgauge.store.results import load_summary
from meshgauge.trial import CLOCKS, LoadResult, TrialRecord
from reports.analysis import Analysis, analyse
from reports.figures.canvas import FigurePage
from reports.figures.render import render_figures
from reports.pages.book import run_book
from reports.pages.code_key import code_key
from reports.pages.files import write_whole
from reports.pages.site import RunLine, RunSource, index_files, write_book, write_site

Result = TypeVar("Result")
ARMS = 9  # under two profiles each, beside the baseline
STATISTICS_BAR_S, PAGES_BAR_S, INDEX_BAR_BYTES = 5.0, 60.0, 300_000
RUNS_IN_THE_INDEX = 1000
SAMPLE = 24  # figures, and comparisons a metric, for the references


def say(text: str) -> None:
    """Print one line now."""
    print(text, flush=True)  # noqa: T201


def timed(stage: str, work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result of a stage and its seconds; print those, and the CPU used here and by its processes."""
    started, used = time.perf_counter(), _cpu_s()
    result = work()
    elapsed = time.perf_counter() - started
    say(f"{stage:<42} {elapsed:7.2f} s, {_cpu_s() - used:7.2f} s of CPU")
    return result, elapsed


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _factory() -> ModuleType:
    """Return the synthetic run factory of the report tests."""
    path = Path(__file__).parent.parent / "reports" / "conftest.py"
    spec = importlib.util.spec_from_file_location("report_factory", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_factory"] = module
    spec.loader.exec_module(module)
    return module


def synthetic_run(cells: int, blocks: int) -> RunRecord:
    """Return a run of lognormal latencies, 20 000 requests a trial, in four histograms each."""
    factory = _factory()
    arms = [factory.arm("none")]
    arms += [factory.arm(f"mesh-{at}", ("envoy", "nginx", "haproxy")[at % 3], f"1.{at}.0") for at in range(ARMS)]
    loads = [{"rate_rps": 500.0 + at, "window_s": 20} for at in range(-(-cells // (2 * ARMS + 1)))]
    shape = np.random.default_rng(5).lognormal(0, 0.35, 20_000)
    ratio = {f"mesh-{at}": 1.2 + 0.01 * at for at in range(ARMS)}

    def with_four_clocks(trial: TrialRecord) -> TrialRecord:
        if trial.load is None:
            raise RuntimeError("the factory made a trial without load")
        median_ns = trial.load.clock("net").quantile_ns(0.5) or 0.0
        packed = Histogram.of((shape * median_ns).astype(np.int64)).encode()
        # Copies, so that each histogram takes the memory of its own that it has after reading.
        histograms: dict[Any, Histogram] = {
            ("ok", clock): Histogram.stored(bytes(bytearray(packed))) for clock in CLOCKS
        }
        return dataclasses.replace(trial, load=dataclasses.replace(trial.load, histograms=histograms))

    made = factory.RunFactory()(
        arms, profiles=["plain", "mtls"], loads=loads, blocks=blocks, ratio=ratio, edit=with_four_clocks
    )
    if not isinstance(made, RunRecord):
        raise TypeError(type(made))
    return made


def store(engine: sa.Engine, run: RunRecord) -> uuid.UUID:
    """Put a whole run into Postgres by COPY, as its trials would have left it; return its id."""
    plan = ResolvedPlan("synthetic", run.plan, run.arms, Matrix(run.cells, run.skipped), run.seed, run.features)
    with transaction(engine) as connection:
        run_id, _ = runs.submit(
            connection, runs.Submission(plan, "k", "bench", 1.0, run.provenance), lambda place: place.name
        )
        _copy_environments(connection, run, run_id)
        _copy_trials(connection, run, run_id)
        connection.execute(
            sa.update(schema.run).values(state="done", started_at=run.started_at, finished_at=run.finished_at)
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))  # autovacuum does it within a minute
    return run_id


def _copy_environments(connection: sa.Connection, run: RunRecord, run_id: uuid.UUID) -> None:
    environment = schema.environment
    columns = (environment.c.key, environment.c.block, environment.c.replicate, environment.c.id)
    at = {(key, block, turn): found for key, block, turn, found in connection.execute(sa.select(*columns))}
    names = ("environment_id", "attempt", "epoch", "worker", "host", "started_at", "finished_at", "outcome")
    copy_rows(
        connection, schema.environment_attempt, (*names, "provenance"),
        ((at[e.key, e.block, e.replicate], 1, 1, e.worker, e.host, e.started_at, e.finished_at, e.outcome, "{}")
         for e in run.environments),
    )  # fmt: skip
    connection.execute(sa.update(environment).where(environment.c.run_id == run_id).values(attempt=1))


def _copy_trials(connection: sa.Connection, run: RunRecord, run_id: uuid.UUID) -> None:
    trial, environment = schema.trial, schema.environment
    rows = connection.execute(
        sa.select(trial.c.cell, environment.c.block, environment.c.replicate, trial.c.id)
        .join(environment, environment.c.id == trial.c.environment_id)
        .where(trial.c.run_id == run_id)
    )
    at = {(cell, block, replicate): trial_id for cell, block, replicate, trial_id in rows}
    known = [(at[t.cell, t.block, t.replicate], t, t.load) for t in run.trials if t.load is not None]
    copy_rows(
        connection, schema.trial_attempt,
        ("trial_id", "attempt", "epoch", "state", "started_at", "finished_at", "summary"),
        ((key, 1, 1, t.state, t.started_at, t.finished_at, json.dumps(load_summary(load))) for key, t, load in known),
    )  # fmt: skip
    connection.execute(sa.update(trial).where(trial.c.run_id == run_id).values(state="measured", attempt=1))
    copy_rows(
        connection, schema.histogram, ("trial_id", "attempt", "outcome", "clock", "total", "counts"),
        ((key, 1, *name, h.total, h.encode()) for key, _, load in known for name, h in load.histograms.items()),
    )  # fmt: skip
    _copy_records(connection, schema.second, ((key, load.seconds) for key, _, load in known))
    _copy_records(connection, schema.component_usage, ((key, t.usage) for key, t, _ in known))
    _copy_records(connection, schema.gate, ((key, t.gates) for key, t, _ in known))


def _copy_records(connection: sa.Connection, table: sa.Table, rows: Iterator[tuple[uuid.UUID, Sequence[Any]]]) -> None:
    listed = [(key, record) for key, records_of_one in rows for record in records_of_one]
    names = [field.name for field in dataclasses.fields(listed[0][1])]

    def values(record: Any) -> list[Any]:
        found = [getattr(record, name) for name in names]
        return [sorted(value) if isinstance(value, frozenset) else value for value in found]

    copy_rows(connection, table, ("trial_id", "attempt", *names), ((key, 1, *values(record)) for key, record in listed))


def bare_driver_s(engine: sa.Engine) -> float:
    """Return the seconds that psycopg2 alone takes to fetch the same rows, nothing made of them."""
    began = time.perf_counter()
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        for table in (schema.histogram, schema.second, schema.component_usage, schema.gate):
            with driver.cursor(f"bare_{table.name}") as cursor:
                cursor.itersize = 2000
                cursor.execute(f'SELECT * FROM "{table.name}"')  # noqa: S608 - our own table
                for _ in cursor:
                    pass
    return time.perf_counter() - began


def scipy_s_per_comparison(analysis: Analysis) -> float:
    """Return the seconds of SciPy's own t interval and signed-rank test for one pair, called one by one."""
    found = [c for answer in analysis.answers for c in answer.comparisons if c.metric.primary][: 3 * SAMPLE]
    began = time.perf_counter()
    for c in found:
        stats.ttest_1samp(c.differences, 0).confidence_interval(0.95)
        stats.wilcoxon(c.differences, method="exact")
    return (time.perf_counter() - began) / len(found)


def _loads(run: RunRecord) -> list[LoadResult]:
    return [trial.load for trial in run.trials if trial.load is not None]


def memory_mb() -> float:
    """Return the most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def read_back(cells: int, blocks: int) -> RunRecord:
    """Store a synthetic run, and return it as read from Postgres by a process that never made it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", database_url=None, broker_url=None)
        state = up(settings, lambda _: None, "coordinator.embedded.services:servers_only")
        try:
            migrate(state.database_url)
            engine = connect(state.database_url)
            making = get_context("spawn").Process(target=_make_and_store, args=(state.database_url, cells, blocks))
            making.start()
            making.join()
            if making.exitcode != 0:
                raise RuntimeError("the run could not be stored")
            before_mb = memory_mb()
            with transaction(engine) as connection:
                run_id = connection.execute(sa.select(schema.run.c.id)).scalar_one()
                run, read_s = timed("reading the run from Postgres", lambda: records.read_run(connection, run_id))
            bare_s = bare_driver_s(engine)
            engine.dispose()
        finally:
            down(settings, lambda _: None)
    packed = sum(len(h.encode()) for load in _loads(run) for h in load.histograms.values())
    say(
        f"  {1e3 * read_s / len(run.trials):.2f} ms a trial, {read_s / bare_s:.1f} x the bare driver; "
        f"{packed / 1e6:.0f} MB of histograms; memory {before_mb:.0f} -> {memory_mb():.0f} MB"
    )
    return run


def _make_and_store(database_url: str, cells: int, blocks: int) -> None:
    engine = connect(database_url)
    run, _ = timed("making a synthetic run", lambda: synthetic_run(cells, blocks))
    timed("storing it by COPY", lambda: store(engine, run))
    engine.dispose()


def statistics(run: RunRecord) -> Analysis:
    """Print what the analysis costs; return it."""
    analysis, seconds = timed("statistics", lambda: analyse(run))
    count = sum(len(answer.comparisons) for answer in analysis.answers)
    reference = scipy_s_per_comparison(analysis)
    say(
        f"  {count} comparisons, {1e6 * seconds / count:.0f} us each, trials read and remarks included; "
        f"SciPy pair by pair: {1e6 * reference:.0f} us; {_bar(seconds, STATISTICS_BAR_S, 's')}"
    )
    return analysis


def pages(run: RunRecord, analysis: Analysis) -> None:
    """Print what the pages and figures of one run cost, and what they cost again when nothing changed."""
    book, made_s = timed("chapters as data", lambda: run_book(analysis))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / book.folder
        _, written_s = timed(f"pages, data, {len(book.figures)} figures", lambda: write_book(Path(folder), book))
        say(f"  pages and figures {made_s + written_s:.1f} s, {_bar(made_s + written_s, PAGES_BAR_S, 's')}")
        found = sorted((path.stat().st_size, path.name) for path in root.rglob("*.html"))
        total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        say(f"  {len(found)} pages, the largest {found[-1][1]} with {found[-1][0] / 1e3:.0f} kB; {total / 1e6:.0f} MB")
        _, kept_s = timed("figures again, nothing changed", lambda: render_figures(book.figures, root / "figures"))
        _, again_s = timed("pages again, figures kept", lambda: write_book(Path(folder), book))
        say(f"  {again_s / written_s:.3f} of the first time, looking at figures {kept_s / written_s:.4f}")
        _index_size(f"the run's first of {len(found)} pages", root / "index.html")
    _site(run, book.chapters[0].answer)
    _beside_drawing_here(book.figures)


def _site(run: RunRecord, finding: str) -> None:
    """Print what it costs to look through a site in which nothing changed, and the size of a large index."""
    line = RunLine(run.run_id, run.plan.name, run.state, "2026-07-01 22:00", finding)
    with tempfile.TemporaryDirectory() as folder:
        # A small run stands for the large one, whose pages were just timed: unchanged runs are not read at all.
        small = dataclasses.replace(run, trials=(), cells=run.cells[:1])
        source = RunSource(line, "1", lambda: small)
        write_site(Path(folder), [source], [], code_key())
        timed("the site again, nothing changed", lambda: write_site(Path(folder), [source], [], code_key()))
        lines = [dataclasses.replace(line, run_id=str(uuid.UUID(int=at))) for at in range(RUNS_IN_THE_INDEX)]
        for name, content in index_files(lines, []).items():
            write_whole(Path(folder) / name, content)
        _index_size(f"index of {RUNS_IN_THE_INDEX} runs", Path(folder) / "index.html")


def _index_size(what: str, path: Path) -> None:
    size = path.stat().st_size
    say(f"{what}: {size / 1e3:.0f} kB, {_bar(size, INDEX_BAR_BYTES, 'bytes')}")


def _beside_drawing_here(figures: Sequence[FigurePage]) -> None:
    """Print what a figure costs in processes, with their start, and one after the other in this one."""
    sample = figures[:: max(len(figures) // SAMPLE, 1)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        render_figures(sample, Path(folder))
        there_s = (time.perf_counter() - began) / len(sample)
    began = time.perf_counter()
    for figure in sample:
        figure.png()
        figure.svg()
    here_s = (time.perf_counter() - began) / len(sample)
    say(
        f"a figure of {len(sample)} takes {1e3 * there_s:.0f} ms in processes; "
        f"drawn here, PNG, then SVG: {1e3 * here_s:.0f} ms"
    )


def _bar(value: float, bar: float, unit: str) -> str:
    return f"bar {bar:g} {unit}: {'held' if value < bar else 'MISSED'}"


def main(cells: int = 1000, blocks: int = 10) -> None:
    """Print what a report over ``cells`` cells costs."""
    run = read_back(cells, blocks)
    say(f"{len(run.cells)} cells x {blocks} blocks = {len(run.trials)} trials")
    pages(run, statistics(run))
    say(f"most memory {memory_mb():.0f} MB here; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
