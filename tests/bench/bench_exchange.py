"""What exports cost: milliseconds a trial and bytes a trial of each format, over one synthetic run."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

from reports.analysis import analyse
from reports.exchange.formats import FORMATS, export


def _fixtures() -> ModuleType:
    """Return the synthetic runs that the tests of reports use."""
    path = Path(__file__).parents[1] / "reports" / "conftest.py"
    spec = importlib.util.spec_from_file_location("reports_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Print one line a format."""
    analysis = analyse(_fixtures().RunFactory()(blocks=40))
    trials = len(analysis.run.trials)
    export(analysis, "parquet")  # pyarrow takes its time to load
    for name in FORMATS:
        began_s = time.perf_counter()
        content = export(analysis, name)
        spent_ms = 1000 * (time.perf_counter() - began_s)
        print(f"{name:9} {spent_ms / trials:7.3f} ms a trial, {len(content) / trials:9.0f} bytes a trial")  # noqa: T201


if __name__ == "__main__":
    main()
