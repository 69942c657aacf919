"""Counters out of a proxy's metrics, in Prometheus text. Reads only the lines asked for: Envoy's pages are long."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of an exposition."""

    labels: Labels
    value: float


def samples(text: str, name: str) -> Iterator[Sample]:
    """Yield the samples of metric ``name``, in the order of ``text``.

    Source: Prometheus text format 0.0.4, "Line format": name, labels in braces, value, perhaps a timestamp.
    """
    for line in text.splitlines():
        if not line.startswith(name):
            continue
        rest = line[len(name) :]
        labels, numbers = "", rest
        if rest.startswith("{"):
            labels, _, numbers = rest[1:].rpartition("}")
        elif not rest.startswith((" ", "\t")):
            continue  # a longer name
        yield Sample({key: _unescaped(value) for key, value in _LABEL.findall(labels)}, float(numbers.split()[0]))


def total(text: str, name: str, keep: Callable[[Labels], bool] = lambda _: True) -> float | None:
    """Return the sum over the samples of ``name`` whose labels ``keep`` accepts; None when there is none."""
    kept = [sample.value for sample in samples(text, name) if keep(sample.labels)]
    return sum(kept) if kept else None


def count(text: str, name: str, keep: Callable[[Labels], bool] = lambda _: True) -> float:
    """Return the sum over the samples of a counter that appears with its first increment: without one, 0."""
    return total(text, name, keep) or 0.0


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value) if "\\" in value else value
