"""How long a report over 200 cells x 10 blocks takes: prints seconds per stage, asserts nothing.

Run: python tests/bench/bench_report.py [cells] [blocks]
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from reports.analysis import analyse
from reports.book import run_book
from reports.csv_text import to_csv
from reports.site import write_book
from reports.tables import tables_of

Result = TypeVar("Result")
ARMS = 9  # under two profiles each, beside the baseline


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


def _timed(stage: str, work: Callable[[], Result]) -> Result:
    started, used = time.perf_counter(), time.process_time()
    result = work()
    elapsed, used = time.perf_counter() - started, time.process_time() - used
    print(f"{stage:<28} {elapsed:7.2f} s, {used:7.2f} s of CPU")  # noqa: T201
    return result


def main(cells: int = 200, blocks: int = 10) -> None:
    """Print what a report over ``cells`` cells costs."""
    factory = _factory()
    arms = [factory.arm("none")]
    arms += [factory.arm(f"mesh-{at}", ("envoy", "nginx", "haproxy")[at % 3], f"1.{at}.0") for at in range(ARMS)]
    loads = [{"rate_rps": 500.0 + at, "window_s": 20} for at in range(-(-cells // (2 * ARMS + 1)))]
    run = _timed(
        "make the synthetic run",
        lambda: factory.RunFactory()(arms, profiles=["plain", "mtls"], loads=loads, blocks=blocks),
    )
    print(f"{len(run.cells)} cells x {blocks} blocks = {len(run.trials)} trials")  # noqa: T201
    started = time.perf_counter()
    analysis = _timed("statistics", lambda: analyse(run))
    book = _timed("chapters", lambda: run_book(analysis))
    pages = _timed(f"{len(book.page_names)} pages", lambda: {name: book.file(name) for name in book.page_names})
    _timed(f"{len(book.figures)} figures", lambda: {figure.name: figure.png() for figure in book.figures})
    _timed("tables", lambda: tables_of(analysis))
    total = time.perf_counter() - started
    print(f"largest page {max(map(len, pages.values())) / 1e3:.0f} kB")  # noqa: T201
    print(f"report {total:.1f} s, {1000 * total / len(run.cells):.0f} ms a cell")  # noqa: T201
    print(f"data of figures {sum(len(to_csv(figure.rows)) for figure in book.figures) / 1e6:.1f} MB")  # noqa: T201
    with tempfile.TemporaryDirectory() as directory:
        _timed("the whole folder, once more", lambda: write_book(Path(directory), book))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
