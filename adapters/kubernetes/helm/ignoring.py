"""``.helmignore``: which files of an unpacked chart are no part of it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_ALWAYS = "templates/.?*"  # source: helm pkg/ignore/rules.go, AddDefaults


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    is_negated: bool
    folders_only: bool

    @classmethod
    def of(cls, line: str) -> _Rule:
        is_negated = line.startswith("!")
        line = line.removeprefix("!")
        return cls(line.rstrip("/"), is_negated, line.endswith("/"))

    def decides(self, path: str, is_folder: bool) -> bool:
        """Say whether this rule leaves ``path`` out; a negated one leaves out all that it does not name."""
        if self.is_negated:
            return (self.folders_only and not is_folder) or not self._matches(path)
        return not (self.folders_only and not is_folder) and self._matches(path)

    def _matches(self, path: str) -> bool:
        if "/" not in self.pattern:
            return fnmatch.fnmatchcase(path.rpartition("/")[2], self.pattern)
        wanted, parts = self.pattern.removeprefix("/").split("/"), path.split("/")
        return len(wanted) == len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted))


def files(chart: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of an unpacked chart by relative path, sorted; links that lead to files count as files."""
    listed = chart / ".helmignore"
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    told = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    yield from _walk(chart, "", [_Rule.of(line) for line in (_ALWAYS, *told)])


def _walk(folder: Path, prefix: str, rules: Sequence[_Rule]) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        name = prefix + path.name
        if any(rule.decides(name, path.is_dir()) for rule in rules):
            continue
        if path.is_dir():
            yield from _walk(path, f"{name}/", rules)
        elif path.is_file():
            yield name, path
