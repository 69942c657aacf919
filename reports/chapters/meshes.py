"""Mesh against mesh: every pair that shares profile and scope, ranked only as far as verdicts allow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshgauge.matrix import Cell as RunCell
from reports.analysis import Analysis, Answer
from reports.chapters.answers import common_refusal, word_of
from reports.chapters.asking import MOST_FIGURES, MOST_PAIRS, asked, by_pair, listed, of_metric, scopes_of
from reports.chapters.grids import MOST_RESULTS, result_csv, result_grids
from reports.chapters.ladders import ladders
from reports.chapters.ranking import Standing, standings
from reports.comparing.comparison import Comparison
from reports.comparing.questions import Pair, Question, Scope
from reports.figures.forest import forest_plot
from reports.figures.gallery import file_stem
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.readings.metrics import METRIC_OF
from reports.readings.trials import Readings, block_level, mean_level
from reports.wording import NBSP, difference, level, on_scale, percent_of_ln, signed

SLUG = "mesh-against-mesh"
FILE = f"{SLUG}.csv"
MOST_ROWS_DRAWN = 10
_MIRRORED = {"slower": "faster", "faster": "slower", "more": "less", "less": "more"}


@dataclass(frozen=True, slots=True)
class Group:
    """The meshes of one profile in one scope: the newest release of each."""

    scope: Scope
    profile: str
    cells: tuple[RunCell, ...]


@dataclass(frozen=True, slots=True)
class Duels:
    """All pairs of meshes that were compared.

    Attributes:
        results: per group its comparisons, pair by pair; groups nothing was measured of are not there.
        left_out: groups there was no room for.
    """

    question: Question
    results: tuple[tuple[Group, tuple[Comparison, ...]], ...]
    left_out: tuple[Group, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All comparisons of all groups."""
        return tuple(c for _, comparisons in self.results for c in comparisons)


def duels_of(analysis: Analysis) -> Duels | None:
    """Return the comparison of all meshes with each other; None where no two have been measured."""
    groups = _groups(analysis)
    if not groups:
        return None
    kept, left_out = _within_limit(groups)
    pairs = {id(group): tuple(_pairs(group)) for group in kept}
    question = Question(
        "meshes", "Mesh against mesh", "the other mesh", tuple(itertools.chain.from_iterable(pairs.values()))
    )
    of_pair = {id(members[0].pair): members for members in by_pair(asked(analysis, question).comparisons)}
    found = ((group, tuple(c for pair in pairs[id(group)] for c in of_pair.get(id(pair), ()))) for group in kept)
    results = tuple((group, comparisons) for group, comparisons in found if comparisons)
    if not results:
        return None
    return Duels(question, results, tuple(left_out))


def meshes_chapter(analysis: Analysis, duels: Duels | None) -> Chapter | None:
    """Return the chapter on these pairs; None where there are none."""
    if duels is None:
        return None
    parts = (_introduction(duels), *_parts(analysis, duels))
    files = {FILE: result_csv(duels.comparisons)}
    left = len(duels.left_out)
    of_all = f" Of {left + len(duels.results)} combinations, {len(duels.results)} are compared here." if left else ""
    return Chapter(SLUG, "Mesh against mesh", f"{_answer(duels.results)}{of_all}", parts, files)


def _groups(analysis: Analysis) -> tuple[Group, ...]:
    """Return the groups with at least two meshes; of each mesh its newest release, older ones have their chapter."""
    groups: dict[tuple[Scope, str], list[RunCell]] = {}
    for ladder in ladders(analysis.run.cells):
        groups.setdefault((ladder.scope, ladder.profile), []).append(ladder.cells[-1])
    return tuple(Group(*key, tuple(cells)) for key, cells in groups.items() if len(cells) > 1)


def _within_limit(groups: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    kept: list[Group] = []
    room = MOST_PAIRS
    for at, group in enumerate(groups):
        size = len(group.cells) * (len(group.cells) - 1) // 2
        if kept and size > room:
            return kept, list(groups[at:])
        kept.append(group)
        room -= size
    return kept, []


def _pairs(group: Group) -> Iterator[Pair]:
    for control, cell in itertools.combinations(group.cells, 2):
        label = f"{_name(cell)} vs {_name(control)} · {group.profile}"
        yield Pair(cell, control, label, group.scope)


def _name(cell: RunCell) -> str:
    return cell.environment.mesh.label


def _introduction(duels: Duels) -> Text:
    left_out = duels.left_out
    said = [
        "Each pair is compared directly, block by block, not by way of the run without a mesh. "
        "Of a mesh with several releases the newest stands here. A rank is given only as far as verdicts carry it: "
        "“1 to 3” means that at most two meshes could be ahead."
    ]
    if left_out:
        where = listed([f"{group.profile} in {group.scope}" for group in left_out])
        said.append(
            f"For their number, pairs of {len(left_out)} more combinations are not compared here: {where}. "
            "Their levels and comparisons with the baseline are in the result tables of the run and in trials.csv; "
            "a plan with `include` compares them pair by pair."
        )
    if len(duels.comparisons) > MOST_RESULTS:
        said.append(f"Metrics without a verdict (p90, memory ...) of these pairs are in {FILE}.")
    return Text(tuple(said))


def _answer(results: Sequence[tuple[Group, Sequence[Comparison]]]) -> str:
    medians = [(group, of_metric(comparisons, "p50")) for group, comparisons in results]
    if len(medians) == 1:
        group, comparisons = medians[0]
        return _leader_sentence(group, comparisons)
    everything = [c for _, comparisons in medians for c in comparisons]
    refusal = common_refusal(everything)
    if refusal:
        return f"No ranking: {refusal}."
    alone: dict[str, int] = {}
    for _, comparisons in medians:
        first = _alone_in_front(standings(comparisons))
        if first:
            alone[_name(first.cell)] = alone.get(_name(first.cell), 0) + 1
    led, several = sum(alone.values()), "combinations of profile, workload and load"
    if not led:
        return f"Not separable: in none of {len(medians)} {several} is one mesh shown to be faster than all others."
    names = listed([f"{name} in {count}" for name, count in sorted(alone.items(), key=lambda item: -item[1])])
    rest = len(medians) - led
    tail = f"; in {rest} the leaders are not separable" if rest else ""
    return (
        f"On the median request one mesh is faster than all others in {led} of {len(medians)} {several}: {names}{tail}."
    )


def _alone_in_front(ranked: Sequence[Standing]) -> Standing | None:
    return ranked[0] if ranked and ranked[0].is_ranked and ranked[0].worst == 1 else None


def _leader_sentence(group: Group, medians: Sequence[Comparison]) -> str:
    refusal = common_refusal(medians)
    if refusal or not medians:
        return f"No ranking: {refusal or 'nothing was compared'}."
    ranked = [standing for standing in standings(medians) if standing.is_ranked]
    absent = [_name(standing.cell) for standing in standings(medians) if not standing.is_ranked]
    rest = f" No verdict on {listed(absent)}." if absent else ""
    return f"{_leaders(group, medians, ranked)}{rest}"


def _leaders(group: Group, medians: Sequence[Comparison], ranked: Sequence[Standing]) -> str:
    first = _alone_in_front(ranked)
    judged = [c for c in medians if word_of(c) not in {None, "invalid"}]
    if first:
        gaps = [f"{_gap(c, first.cell)} than {_name(_other(c, first.cell))}" for c in judged if first.cell in _sides(c)]
        return f"{_name(first.cell)} answers the median request fastest, under {group.profile}: {listed(gaps)}."
    if all(word_of(c) == "equivalent" for c in judged):
        names = listed([_name(standing.cell) for standing in ranked])
        return (
            f"{names} are equivalent on the median request, within ±{on_scale(medians[0].metric, medians[0].margin)}."
        )
    leaders = [standing for standing in ranked if standing.best == 1]
    names = listed([_name(standing.cell) for standing in leaders])
    behind = [_name(standing.cell) for standing in ranked if standing.best > 1]
    tail = (
        f"; {listed(behind)} {'is' if len(behind) == 1 else 'are'} slower than at least one of them" if behind else ""
    )
    if len(leaders) == 1:
        unsure = [*leaders[0].open_to, *leaders[0].equal_to, *leaders[0].refused]
        return (
            f"Not separable: no mesh is shown to be faster than {names}, and {names} is not shown to be faster than "
            f"{listed([_name(cell) for cell in unsure])} (median request, {group.profile})."
        )
    return f"Not separable: {names} could each be the fastest on the median request, under {group.profile}{tail}."


def _sides(c: Comparison) -> tuple[RunCell, RunCell]:
    return c.pair.cell, c.pair.control


def _other(c: Comparison, cell: RunCell) -> RunCell:
    return c.pair.control if c.pair.cell is cell else c.pair.cell


def _gap(c: Comparison, fast: RunCell) -> str:
    if c.effect is None:
        return "faster"
    estimate = c.effect.estimate if c.pair.cell is fast else -c.effect.estimate
    return f"{abs(percent_of_ln(estimate)):.1f}{NBSP}% faster"


def _parts(analysis: Analysis, duels: Duels) -> Iterator[Part]:
    results, everything = duels.results, len(duels.comparisons) <= MOST_RESULTS
    scopes = scopes_of(analysis.run)
    drawn = 0
    for at, (group, comparisons) in enumerate(results, 1):
        yield Heading(f"{group.profile}: {group.scope}", f"group-{at}")
        medians = of_metric(comparisons, "p50")
        if len(results) > 1:
            yield Text((_leader_sentence(group, medians),))
        yield _ranks(f"ranks-{at}", group, medians, analysis.readings)
        if len(group.cells) > 2:
            yield _matrix(f"pairs-{at}", group, medians)
        primary = [c for c in comparisons if c.metric.primary]
        if primary and len(medians) <= MOST_ROWS_DRAWN and drawn < MOST_FIGURES:
            name = file_stem(f"forest-meshes-{group.profile}", "", group.scope, scopes)
            yield Picture(forest_plot(Answer(duels.question, comparisons), group.scope, name))
            drawn += 1
        title = f"Every pair under {group.profile}, {group.scope}"
        yield from result_grids(f"results-{at}", title, comparisons, all_metrics=everything)


RANK_COLUMNS = (
    "mesh",
    "rank",
    "median latency (p50)",
    "blocks",
    "faster than",
    "slower than",
    "not separable from",
    "no verdict against",
)


def _ranks(name: str, group: Group, medians: Sequence[Comparison], readings: Readings) -> Grid:
    rows = []
    for standing in standings(medians):
        levels = [
            value
            for _, turns in sorted(readings.blocks_of(standing.cell).items())
            if (value := block_level(turns, METRIC_OF["p50"])) is not None
        ]
        named = (
            standing.better_than,
            standing.worse_than,
            [*standing.equal_to, *standing.open_to],
            [*standing.refused, *standing.unranked],
        )
        rows.append(
            (
                Cell(_name(standing.cell)),
                Cell(standing.rank),
                Cell(level(mean_level(levels, METRIC_OF["p50"]), "ms")),
                Cell(str(len(levels))),
                *(Cell(", ".join(map(_name, cells))) for cells in named),
            )
        )
    title = f"Ranks on the median request under {group.profile}"
    return Grid(name, title, RANK_COLUMNS, tuple(rows), frozenset({2, 3}))


def _matrix(name: str, group: Group, medians: Sequence[Comparison]) -> Grid:
    found = {(c.pair.cell.key, c.pair.control.key): c for c in medians}
    rows = []
    for row in group.cells:
        fields = [Cell(_name(row))]
        for column in group.cells:
            one, other = found.get((row.key, column.key)), found.get((column.key, row.key))
            fields.append(_field(one) if one else _mirrored(other) if other else Cell("–"))
        rows.append(tuple(fields))
    columns = ("this mesh, against", *map(_name, group.cells))
    return Grid(name, "Median latency of the row's mesh against the column's", columns, tuple(rows))


def _field(c: Comparison) -> Cell:
    word = word_of(c)
    return Cell(f"{difference(c)} {word or ''}".strip(), word or "")


def _mirrored(c: Comparison) -> Cell:
    """Return the field of the opposite direction: the ratio inverted, the word turned round."""
    word = word_of(c)
    turned = _MIRRORED.get(word or "", word or "")
    if c.effect is None:
        return Cell(f"{difference(c)} {turned}".strip(), turned)
    decimals = len(difference(c).split(NBSP)[0].partition(".")[2])
    return Cell(f"{signed(percent_of_ln(-c.effect.estimate), decimals)}{NBSP}% {turned}".strip(), turned)
