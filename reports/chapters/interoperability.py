"""Interoperability: client mesh by server mesh, which work together, and what each combination adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.analysis import Analysis
from reports.chapters.answers import counted, word_of
from reports.chapters.asking import MOST_FIGURES, listed, scopes_of
from reports.chapters.grids import result_grids
from reports.figures.gallery import file_stem
from reports.figures.matrix import field_intervals, field_lines, interoperability_figure
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Picture, Text
from reports.readings.interoperability import Combination, InteroperabilityMatrix, matrices_of

SLUG = "interoperability"
_TONES = {"works": "good", "does not come up": "bad", "check failed": "bad"}


def interoperability_chapter(analysis: Analysis) -> Chapter | None:
    """Return the matrices; None where no pair of two different meshes was planned."""
    matrices = matrices_of(analysis)
    if not matrices:
        return None
    return Chapter(SLUG, "Interoperability of meshes", _answer(matrices), tuple(_parts(analysis, matrices)))


def _answer(matrices: Sequence[InteroperabilityMatrix]) -> str:
    mixed = [field for matrix in matrices for field in matrix.tried if field.mixed]
    if not mixed:
        return "No pair of different meshes has been measured yet."
    broken = [field for field in mixed if field.state != "works"]
    where = f" in {len(matrices)} combinations of profile and load" if len(matrices) > 1 else ""
    pairs = f"pair{'s' if len(mixed) > 1 else ''} of different meshes"
    if broken:
        names = listed(list(dict.fromkeys(f"{f.client} → {f.server}: {f.state}" for f in broken)))
        said = f"{len(mixed) - len(broken)} of {len(mixed)} {pairs} work together{where}; {names}."
    else:
        said = f"All {len(mixed)} {pairs} work together{where}." if len(mixed) > 1 else "The two meshes work together."
    medians = [field.against_none["p50"] for field in mixed if "p50" in field.against_none]
    if not medians:
        return said
    return f"{said} {counted(medians, f'Median request against {matrices[0].against}')}"


def _parts(analysis: Analysis, matrices: Sequence[InteroperabilityMatrix]) -> Iterator[Part]:
    yield Text(
        (
            "Two meshes work together when requests were counted by both proxies in every check and replies came back "
            "as expected. Pairs of one mesh with itself stand on the diagonal, for comparison.",
        )
    )
    scopes = scopes_of(analysis.run)
    for at, matrix in enumerate(matrices, 1):
        yield Heading(f"{matrix.profile}: {matrix.scope}", f"matrix-{at}")
        figure = None
        if at <= MOST_FIGURES:
            stem = file_stem(f"interoperability-{matrix.profile}", "", matrix.scope, scopes)
            figure = interoperability_figure(matrix, stem)
        if figure:
            yield Picture(figure)
        yield _matrix(f"matrix-{at}", matrix)
        yield _list(f"combinations-{at}", matrix)
        comparisons = [c for field in matrix.fields.values() for c in field.against_none.values()]
        yield from result_grids(f"results-{at}", f"Each combination against {matrix.against}", comparisons)


def _matrix(name: str, matrix: InteroperabilityMatrix) -> Grid:
    columns = ("client, towards server", *matrix.servers)
    rows = tuple(
        (Cell(client), *(_field(matrix.fields[client, s]) for s in matrix.servers)) for client in matrix.clients
    )
    return Grid(name, f"Client mesh by server mesh, against {matrix.against or 'nothing'}", columns, rows)


def _field(field: Combination) -> Cell:
    median = field.against_none.get("p50")
    word = word_of(median) if median and field.state == "works" else None
    return Cell("; ".join(field_lines(field)), word or _TONES.get(field.state, ""))


def _list(name: str, matrix: InteroperabilityMatrix) -> Grid:
    rows = tuple(
        (
            Cell(f"{field.client} → {field.server}"),
            Cell(field.state, _TONES.get(field.state, "")),
            Cell(field_intervals(field)),
            Cell(field.reason),
        )
        for field in matrix.fields.values()
        if field.state != "not in the plan"
    )
    return Grid(name, "What became of each combination", ("combination", "state", "seen, with intervals", "why"), rows)
