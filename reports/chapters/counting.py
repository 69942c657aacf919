"""Who counted CPU and memory, and what was not counted and why: where it was not the host's own kernel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from meshgauge.trial import ComponentUsage, TrialRecord
from reports.chapters.asking import listed
from reports.chapters.grids import texts
from reports.pages.chapter import Grid, Part, Text

_UNMEASURED_COLUMNS = ("component", "trials", "why, in the first of them")


def counting_parts(trials: Sequence[TrialRecord]) -> Iterator[Part]:
    """Yield who counted, and a table of components without CPU; nothing where our own kernel counted everything."""
    by_source: dict[str, set[str]] = defaultdict(set)
    unmeasured: dict[str, list[str]] = defaultdict(list)
    for usage in _usages(trials):
        if usage.source is not None:
            by_source[usage.source].add(usage.component)
        if usage.cores is None and usage.note is not None:
            unmeasured[usage.component].append(usage.note)
    if by_source:
        yield Text(_who_counted(by_source))
    if unmeasured:
        rows = tuple(texts(name, str(len(notes)), notes[0]) for name, notes in sorted(unmeasured.items()))
        yield Grid("unmeasured", "CPU and memory that were not measured", _UNMEASURED_COLUMNS, rows, frozenset({1}))


def _usages(trials: Sequence[TrialRecord]) -> Iterator[ComponentUsage]:
    for trial in trials:
        yield from trial.usage


def _who_counted(by_source: Mapping[str, set[str]]) -> tuple[str, ...]:
    told = [
        f"{source} counted {listed(sorted(names), most=len(names))}." for source, names in sorted(by_source.items())
    ]
    return (
        " ".join(told) + " Every container is counted at instants of its own, some 10 to 20 s apart; a component is "
        "the sum of its containers at instants all of them have passed inside the window.",
        "Memory counted so is the working set, which holds page cache in use: more than the resident memory of "
        "processes. Compare it with results that were counted the same way.",
    )
