"""How to read a run's pages, what their numbers do not say, and the data behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reports.analysis import Analysis
from reports.comparing.verdict import FLAG_MEANINGS
from reports.gates import THRESHOLDS
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Listing, Text

TABLE_TITLES: Mapping[str, str] = {
    "comparisons": "every comparison with effect, interval, p, n and verdict",
    "blocks": "block differences behind each effect",
    "trials": "every trial with all metrics and clocks",
    "gates": "every gate of every trial",
    "seconds": "every second of every trial",
}

_WORDS = (
    (
        "What is compared",
        "A block brings up every arm once, in random order, and measures it. Arm and control are compared inside each "
        "block; the effect is the 10 % trimmed mean of the block differences, the interval Yuen's t interval (95 %, "
        "or what the table says). The number of requests adds no certainty: n is the number of blocks.",
    ),
    (
        "slower, faster, more, less",
        "The difference is significant (false discoveries are held at 5 % over all main results of a question) and "
        "reaches beyond the margin.",
    ),
    ("equivalent", "The 90 % interval lies inside the margin: the difference, if any, is too small to matter."),
    (
        "inconclusive",
        "Neither is shown. It does not mean “the same”: the remark says what these blocks could have shown, and how "
        "many would be needed.",
    ),
    ("invalid", "Too few valid blocks, or a reason not to compare; the remark says which."),
)
_FIGURES = (
    (
        "Forest plot",
        "Dot: the estimate. Thick line: the interval of this result alone. Thin line: the wider interval that stays "
        "honest for results picked because they are significant. Grey strip: differences too small to matter. Hollow "
        "dots are no evidence of a difference.",
    ),
    (
        "CPU of app and data plane",
        "Cores in use by the application and all proxies for 1000 replies a second, at the rate of this load: the "
        "cost of a request falls with the rate. It is compared as a ratio. The data plane alone is shown as a plain "
        "difference, because without a mesh there is none.",
    ),
)
_LIMITS = (
    "These numbers hold for this host, these versions, this load and these settings, on this day. Ratios carry over to "
    "other machines better than milliseconds do, and neither carries over without measuring.",
    "On one host over loopback there is no network: a mesh between machines adds its hops on top, and its share of the "
    "whole is smaller.",
    "A claim beyond this host needs blocks on fresh hosts; a difference is confirmed only when a second run agrees.",
    "Percentiles with fewer than 100 slower requests in a trial are not shown.",
)
_GATES_WITHOUT_NUMBER = (
    ("dropped", "arrivals that were never sent", "never", "any", "cpu, latency, throughput"),
    (
        "treatment",
        "did the requests really take the path they should, encrypted as they should",
        "never",
        "any failed check",
        "everything",
    ),
    (
        "components",
        "proxies, application or control plane that died or restarted",
        "never",
        "any",
        "everything but errors",
    ),
    ("throttling", "components held back by a CPU limit", "never", "any", "cpu, latency, throughput"),
    (
        "nodes",
        "application and load on the same nodes of their cluster as the first of their block",
        "never",
        "any other",
        "everything",
    ),
)
_GATE_COLUMNS = ("Gate", "What it looks at", "Degraded beyond", "Invalid beyond", "Leaves out of verdicts")


def reading_chapter(analysis: Analysis) -> Chapter:
    """Return how to read the pages: the same for every run, but for what its verdicts share."""
    flags = tuple((flag, f"{meaning[0].upper()}{meaning[1:]}.") for flag, meaning in FLAG_MEANINGS.items())
    return Chapter(
        "reading",
        "How to read these pages",
        f"A verdict is one of five kinds, always with its interval and n; here n counts blocks, "
        f"and {analysis.run.plan.blocks} were planned.",
        (
            Heading("Verdicts", "verdicts"),
            Listing(_WORDS),
            Text(("Some verdicts carry a flag. “Unconfirmed” holds for every difference seen in one run alone.",)),
            Listing(flags),
            Heading("Figures", "figures"),
            Listing(_FIGURES),
            Heading("What the gates check", "gates"),
            _gates(),
            Heading("Limits", "limits"),
            Listing(tuple(("", limit) for limit in _LIMITS)),
        ),
    )


def data_chapter(analysis: Analysis, folder: str) -> Chapter:
    """Return the links to the run's tables, which lie in ``data/`` of its folder."""
    rows = tuple(
        (Cell(f"{name}.csv", link=f"{folder}/data/{name}.csv"), Cell(title)) for name, title in TABLE_TITLES.items()
    )
    return Chapter(
        "data",
        "Data",
        f"All that was measured in {len(analysis.readings.trials)} trials can be saved as CSV.",
        (
            Grid("tables", "Tables of the run", ("File", "What is in it"), rows),
            Text(
                (
                    "The data of each figure and each table is linked beneath it. A text that begins like a formula "
                    "has an apostrophe before it, so that no spreadsheet runs it.",
                    "For other tools: meshgauge export RUN --format json (everything in one document), parquet (typed, "
                    "with units), hdr (every histogram, nanoseconds), smp (Service Mesh Performance) or meshmark.",
                )
            ),
        ),
    )


def _gates() -> Grid:
    rows = [
        (
            name.replace("_", " "),
            bound.what,
            f"{bound.degraded:g} {bound.unit}".strip(),
            f"{bound.invalid:g} {bound.unit}".strip() if math.isfinite(bound.invalid) else "never",
            ", ".join(sorted(bound.spoils)),
        )
        for name, bound in THRESHOLDS.items()
    ]
    cells = tuple(tuple(map(Cell, row)) for row in (*rows, *_GATES_WITHOUT_NUMBER))
    return Grid("gates", "Gates of a trial; none looks at how fast an arm was", _GATE_COLUMNS, cells)
