"""How steady the instrument was: A/A results, block by block, and the spread that pairing takes away."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from meshgauge.matrix import Cell as RunCell
from reports.analysis import Analysis, Answer
from reports.chapters.asking import MOST_FIGURES, answer_to, cells_by_scope, listed, of_metric, scopes_of
from reports.chapters.grids import result_grids
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Scope, arm_name, scope_of
from reports.figures.blockwise import MOST_ARMS, BlockLines, blockwise_figure
from reports.figures.canvas import arm_styles
from reports.figures.gallery import file_stem
from reports.figures.twins import excludes_zero, twins_figure
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.readings.metrics import METRIC_OF
from reports.readings.trials import Readings, block_level
from reports.wording import ABSENT, NBSP, percent_of_ln

SLUG = "steadiness"
COLUMNS = (
    "arm",
    "workload, infrastructure, load",
    "blocks",
    "p50 between blocks, sd",
    "p99 between blocks, sd",
    "difference in p50, sd",
    "difference in p99, sd",
)


def steadiness_chapter(analysis: Analysis) -> Chapter | None:
    """Return what tells noise from effect; None where fewer than two blocks were measured."""
    blocks = {turn.trial.block for turn in analysis.readings.trials if turn.trial.load is not None}
    if len(blocks) < 2:
        return None
    parts = tuple(_parts(analysis))
    return Chapter(SLUG, "How steady was the instrument?", _answer(analysis), parts)


def _answer(analysis: Analysis) -> str:
    twins = answer_to(analysis, "aa")
    known = [c for c in (twins.comparisons if twins else ()) if c.metric.primary and c.effect and c.interval]
    if analysis.withheld:
        return f"Not steady: {analysis.withheld}."
    if known:
        outside = [c for c in known if excludes_zero(c)]
        widest = max(percent_of_ln(abs(c.effect.estimate)) for c in known if c.effect)
        expected = f"{known[0].alpha * len(known):.1f}"
        return (
            f"The same thing measured twice: {len(outside)} of {len(known)} intervals miss zero, about {expected} "
            f"would by chance; the largest difference is {widest:.1f}{NBSP}%, which is what noise alone makes here."
        )
    why = "The A/A arm has fewer than two valid blocks" if twins else "No A/A arm was measured"
    none = f"{why}, so nothing shows directly what noise alone makes here."
    return f"{none} {_spread_sentence(analysis)}"


def _spread_sentence(analysis: Analysis) -> str:
    run = analysis.run
    controls = [cell for cell in run.cells if cell.environment.mesh.label == run.plan.baseline] or list(run.cells)
    values = [(sd, cell) for cell in controls if (sd := _sd(_levels(cell, analysis.readings, "p50"))) is not None]
    if not values:
        return "No arm has two valid blocks."
    sd, cell = max(values, key=lambda found: found[0])
    where = f", {scope_of(cell)}" if len(values) > 1 else ""
    return f"Between blocks, p50 of {arm_name(cell)} varied by {_percent(sd)} (standard deviation{where})."


def _parts(analysis: Analysis) -> Iterator[Part]:
    yield Text(
        (
            "Levels drift from block to block, for all arms alike; comparing inside a block takes that away. What is "
            "left, the spread of the differences, decides how small a difference the run can show.",
        )
    )
    twins = answer_to(analysis, "aa")
    if twins:
        yield from _twins(twins)
    yield from _blockwise(analysis)
    yield _spreads(analysis)


def _twins(twins: Answer) -> Iterator[Part]:
    yield Heading("The same thing twice (A/A)", "aa")
    figure = twins_figure(twins.comparisons, "aa-panel")
    if figure:
        yield Picture(figure)
    yield from result_grids("aa", "Comparisons of a thing with itself", twins.comparisons)


def _blockwise(analysis: Analysis) -> Iterator[Part]:
    answer = answer_to(analysis, "baseline")
    medians = of_metric(answer.comparisons, "p50") if answer else ()
    scopes, styles = scopes_of(analysis.run), arm_styles(analysis.run)
    with_blocks = [scope for scope in scopes if any(c.pair.scope == scope and c.blocks for c in medians)]
    if with_blocks:
        yield Heading("Block by block", "blocks")
    for scope in with_blocks[:MOST_FIGURES]:
        lines = [_lines(c, analysis.readings) for c in medians if c.pair.scope == scope]
        figure = blockwise_figure(lines, scope, styles, file_stem("blockwise", "", scope, scopes))
        if figure:
            yield Picture(figure)
        told = [
            f"{line.arm} in block {listed([str(block + 1) for block in line.against_the_rest])}"
            for line in lines
            if 0 < len(line.against_the_rest) <= len(line.blocks) // 4
        ]
        if told:
            yield Text((f"Against the direction of most blocks: {listed(told)}.",), "info")
        if len(lines) > MOST_ARMS:
            yield Text((f"The figure shows the first {MOST_ARMS} of {len(lines)} arms; blocks.csv has all.",))
    if len(with_blocks) > MOST_FIGURES:
        yield Text((f"Drawn for the first {MOST_FIGURES} of {len(with_blocks)} scopes; blocks.csv has all.",), "info")


def _lines(c: Comparison, readings: Readings) -> BlockLines:
    metric = METRIC_OF["p50"]
    arms, controls = readings.blocks_of(c.pair.cell), readings.blocks_of(c.pair.control)
    known = [
        (block, control, arm)
        for block in c.blocks
        if (control := block_level(controls[block], metric)) is not None
        and (arm := block_level(arms[block], metric)) is not None
    ]
    return BlockLines(
        arm_name(c.pair.cell),
        arm_name(c.pair.control),
        tuple(block for block, _, _ in known),
        tuple(math.exp(control) for _, control, _ in known),
        tuple(math.exp(arm) for _, _, arm in known),
    )


def _spreads(analysis: Analysis) -> Grid:
    answer = answer_to(analysis, "baseline")
    paired = {(c.pair.cell.key, c.metric.name): c for c in (answer.comparisons if answer else ())}
    rows = []
    for scope, cells in cells_by_scope(analysis.run.cells).items():
        for cell in cells:
            p50, p99 = (paired.get((cell.key, name)) for name in ("p50", "p99"))
            rows.append(_spread_row(scope, cell, p50, p99, analysis))
    title = "Spread between blocks, and of the differences to the baseline inside blocks"
    return Grid("spread", title, COLUMNS, tuple(rows), frozenset(range(2, 7)), folded=len(rows) > 40)


def _spread_row(
    scope: Scope, cell: RunCell, p50: Comparison | None, p99: Comparison | None, analysis: Analysis
) -> tuple[Cell, ...]:
    levels = {name: _levels(cell, analysis.readings, name) for name in ("p50", "p99")}
    return (
        Cell(arm_name(cell)),
        Cell(str(scope)),
        Cell(str(len(levels["p50"]))),
        *(Cell(_percent(_sd(found))) for found in levels.values()),
        *(Cell(_percent(_sd(c.differences) if c else None)) for c in (p50, p99)),
    )


def _levels(cell: RunCell, readings: Readings, name: str) -> list[float]:
    blocks = readings.blocks_of(cell)
    metric = METRIC_OF[name]
    return [value for block in sorted(blocks) if (value := block_level(blocks[block], metric)) is not None]


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _percent(sd: float | None) -> str:
    return ABSENT if sd is None else f"{percent_of_ln(sd):.1f}{NBSP}%"
