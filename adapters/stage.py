"""Stages: how mature an adapter is, read from dated results of the contract suite. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from importlib import resources
from typing import Final, Literal

from packaging.version import InvalidVersion, Version

from meshgauge.conformance import ConformanceResult

Stage = Literal["stable", "beta", "alpha"]

# One version shows that an adapter works; a second minor line that its next release has a good chance to.
STABLE_MINORS: Final = 2
# Meshes make a minor release a quarter or so: what was proven a year ago says little of today's.
FRESH_DAYS: Final = 365

SHIPPED: Final = "conformance.json"


def stage_of(adapter: str, provider: str, results: Iterable[ConformanceResult], as_of: dt.date) -> Stage:
    """Return the stage ``adapter`` has earned on ``provider``.

    Of each version its newest result counts, and only while it is FRESH_DAYS old or younger at ``as_of``.

    - ``stable``: no counting result has a failed check, and versions of STABLE_MINORS minor lines passed;
    - ``beta``: the newest version that was checked passed;
    - ``alpha``: everything else, above all an adapter nobody has checked.
    """
    counting = _counting(adapter, provider, results, as_of)
    if not counting:
        return "alpha"
    minors = {_minor(result.version) for result in counting}
    if len(minors) >= STABLE_MINORS and all(result.passed for result in counting):
        return "stable"
    newest = max(counting, key=lambda result: _order(result.version))
    return "beta" if newest.passed else "alpha"


def checked_on(adapter: str, provider: str, results: Iterable[ConformanceResult], as_of: dt.date) -> dt.date | None:
    """Return the day of the newest result the stage was read from; None: there is none."""
    days = [result.at.date() for result in _counting(adapter, provider, results, as_of)]
    return max(days, default=None)


def shipped() -> tuple[ConformanceResult, ...]:
    """Return the results that come with this release, written by ``meshgauge adapters conformance --into``."""
    text = (resources.files("adapters") / SHIPPED).read_text(encoding="utf-8")
    return tuple(ConformanceResult.of_json(item) for item in json.loads(text))


def _counting(
    adapter: str, provider: str, results: Iterable[ConformanceResult], as_of: dt.date
) -> list[ConformanceResult]:
    newest: dict[str, ConformanceResult] = {}
    for result in sorted(results, key=lambda one: one.at):
        if (result.adapter, result.provider) == (adapter, provider):
            newest[result.version] = result
    return [result for result in newest.values() if (as_of - result.at.date()).days <= FRESH_DAYS]


def _minor(version: str) -> tuple[int, ...] | str:
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return version


def _order(version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0")
