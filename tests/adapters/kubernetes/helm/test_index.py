from __future__ import annotations

import random

import pytest

from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.helm.index import Entry, find, newest_first, parse, precedence
from meshgauge.errors import ConfigurationError

INDEX = b"""
apiVersion: v1
entries:
  base:
    - {version: 1.9.0, appVersion: 1.9.0, urls: [base-1.9.0.tgz], digest: abc}
    - {version: 1.10.0-rc.1, appVersion: 2024-01-01, urls: [https://example.org/base.tgz], digest: "sha256:def"}
    - {version: 1.10, created: 2026-08-01T00:00:00Z}
  broken: !!python/object:os.system [not, built]
"""


def test_versions_are_in_the_order_of_semantic_versioning() -> None:
    # The example of semver.org, 11, and what chart repositories add: a leading v, fewer than three numbers.
    ordered = ["x", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
               "1.0.0-rc.1", "1.0.0", "v1.0.1", "1.2", "1.10.0", "2026.8.3"]  # fmt: skip
    shuffled = random.Random(4).sample(ordered, len(ordered))
    assert sorted(shuffled, key=precedence) == ordered
    assert precedence("1.0.0+build.7") == precedence("v1.0.0")


def test_an_index_is_read_for_one_chart_newest_first() -> None:
    entries = parse(INDEX, "base", "here")
    assert [entry.version.version for entry in entries] == ["1.10", "1.10.0-rc.1", "1.9.0"]
    assert entries[1] == Entry(ChartVersion("1.10.0-rc.1", "2024-01-01", "", "def"), ("https://example.org/base.tgz",))
    assert entries[0].version.created == "2026-08-01T00:00:00Z"
    assert parse(INDEX, "other", "here") == ()


@pytest.mark.parametrize("text", [b"<html>", b"", b"a: [", b"[1]"])
def test_what_is_no_index_is_refused_with_its_address(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match="https://here is no index of a chart repository"):
        parse(text, "base", "https://here")


def test_a_version_that_is_not_there_names_those_that_are() -> None:
    entries = newest_first(Entry(ChartVersion(version, ""), ()) for version in ("1.0.0", "v2.0.0"))
    assert find(entries, "base", "2.0.0", "here").version.version == "v2.0.0"
    with pytest.raises(ConfigurationError, match=r"here has no chart base 3\.0\.0: it has v2\.0\.0, 1\.0\.0"):
        find(entries, "base", "3.0.0", "here")
    with pytest.raises(ConfigurationError, match="it does not have that chart"):
        find((), "base", "3.0.0", "here")
