"""The trial diary: every trial in the order it was made, and why some are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from meshgauge.run import RunRecord
from reports.analysis import Analysis
from reports.chapters.asking import listed
from reports.chapters.grids import texts
from reports.comparing.questions import arm_name, scope_of
from reports.figures.canvas import arm_styles
from reports.figures.diary import diary_figure, why_invalid
from reports.pages.chapter import Cell, Chapter, Grid, Part, Picture, Text
from reports.readings.metrics import METRIC_OF
from reports.readings.trials import MeasuredTrial
from reports.wording import level

SHOWN = ("p50", "p99", "achieved_rps", "errors", "cpu_data_plane", "cpu")
TRIALS_ON_A_PAGE = 500
COLUMNS = (
    "block",
    "turn",
    "arm",
    "workload, infrastructure, load",
    "started (UTC)",
    "state",
    *(f"{METRIC_OF[name].title}, {METRIC_OF[name].unit}" for name in SHOWN),
    "gates and reasons",
)
NUMERIC = frozenset({0, 1, *range(6, 6 + len(SHOWN))})


def diary_chapters(analysis: Analysis) -> Iterator[Chapter]:
    """Yield the diary: one chapter, or more where the trials fill several pages; whole blocks stay together."""
    turns = analysis.readings.trials
    pages = list(_pages(turns)) or [()]
    for at, page in enumerate(pages):
        slug = "diary" if at == 0 else f"diary-{at + 1}"
        blocks = sorted({turn.trial.block + 1 for turn in page})
        where = f", blocks {blocks[0]} to {blocks[-1]}" if len(pages) > 1 else ""
        parts = (*(_overview(analysis) if at == 0 else ()), _trials(slug, f"Every trial{where}", page))
        if len(pages) > 1:
            kept = f"Page {at + 1} of {len(pages)}: blocks {blocks[0]} to {blocks[-1]}."
            parts = (Text((kept,)), *parts)
        yield Chapter(slug, f"Trial diary{where}", _answer(turns, analysis.run), parts if page else parts[:-1])


def _pages(turns: Sequence[MeasuredTrial]) -> Iterator[Sequence[MeasuredTrial]]:
    """Yield runs of whole blocks of about TRIALS_ON_A_PAGE trials."""
    blocks: dict[int, list[MeasuredTrial]] = {}
    for turn in turns:
        blocks.setdefault(turn.trial.block, []).append(turn)
    page: list[MeasuredTrial] = []
    for _, members in sorted(blocks.items()):
        if page and len(page) + len(members) > TRIALS_ON_A_PAGE:
            yield page
            page = []
        page = [*page, *members]
    if page:
        yield page


def _answer(turns: Sequence[MeasuredTrial], run: RunRecord) -> str:
    measured = [turn for turn in turns if turn.trial.load is not None]
    if not measured:
        waiting = "no trial has been measured yet" if run.state in {"queued", "running"} else "no trial was measured"
        return f"There are no results: {waiting}."
    spoiled = [turn for turn in turns if turn.spoiled and turn.trial.state not in {"pending", "running", "cancelled"}]
    blocks = len({turn.trial.block for turn in measured})
    made = f"{len(measured)} trials were measured in {blocks} block{'s' if blocks > 1 else ''}"
    if not spoiled:
        return f"{made}; all of them are valid."
    causes = Counter(cause for turn in spoiled for cause in _causes(turn))
    named = [f"{cause} {count}x" for cause, count in causes.most_common(3)]
    return f"{made}; {len(spoiled)} trials are left out of some or all verdicts ({listed(named)})."


def _causes(turn: MeasuredTrial) -> Sequence[str]:
    names = [gate.gate.replace("_", " ") for gate in turn.trial.gates if gate.status == "invalid"]
    return list(dict.fromkeys(names)) or [turn.trial.reason or f"trial {turn.trial.state}"]


def _overview(analysis: Analysis) -> tuple[Part, ...]:
    run = analysis.run
    parts: list[Part] = []
    figure = diary_figure(run, analysis.readings, arm_styles(run), "diary")
    if figure:
        parts.append(Picture(figure))
    failed = [e for e in run.environments if e.outcome not in {"done", None}]
    if failed:
        rows = tuple(
            texts(
                str(e.block + 1),
                e.key,
                str(e.attempt),
                e.outcome or "",
                e.reason or "no reason was recorded",
                e.worker,
                f"{e.started_at:%Y-%m-%d %H:%M:%S}",
            )
            for e in failed
        )
        columns = ("block", "environment", "attempt", "how it ended", "why", "worker", "started (UTC)")
        parts.append(Grid("environments", "Environments that came to a bad end", columns, rows, frozenset({0, 2})))
    parts.append(
        Text(
            (
                "A trial that fails a gate is kept, shown here, and left out of the verdicts on what the gate spoils. "
                "No gate reads how fast an arm is. A degraded trial counts, and makes the verdict indicative.",
            )
        )
    )
    return tuple(parts)


def _trials(name: str, title: str, turns: Sequence[MeasuredTrial]) -> Grid:
    return Grid(f"{name}-trials", title, COLUMNS, tuple(map(_row, turns)), NUMERIC)


def _row(turn: MeasuredTrial) -> tuple[Cell, ...]:
    trial = turn.trial
    bad = sorted((gate for gate in trial.gates if gate.status != "ok"), key=lambda gate: gate.status != "invalid")
    notes = [f"{gate.status}: {gate.message}" for gate in bad]
    reason = why_invalid(turn)
    if reason and not any(gate.status == "invalid" for gate in bad):
        notes.insert(0, reason)
    tone = "bad" if turn.spoiled else "warning" if bad else "good"
    state = {"bad": "invalid", "warning": "degraded", "good": "valid"}[tone] if trial.load else trial.state
    return (
        Cell(str(trial.block + 1)),
        Cell(str(trial.position + 1)),
        Cell(arm_name(turn.cell) + (" (second turn)" if trial.replicate else "")),
        Cell(str(scope_of(turn.cell))),
        Cell(f"{trial.started_at:%m-%d %H:%M:%S}" if trial.started_at else "not started"),
        Cell(state, tone if trial.load else "warning"),
        *(Cell(level(turn.reading[name])) for name in SHOWN),
        Cell("; ".join(notes)),
    )
