"""Configuration side by side: what is set alike, what is not, and which verdicts each difference touches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshgauge.matrix import is_baseline
from meshgauge.plan import Profile
from meshgauge.run import RunRecord
from reports.analysis import Analysis
from reports.chapters.answers import word_of
from reports.chapters.asking import listed
from reports.comparing.comparison import Comparison
from reports.pages.chapter import Cell, Chapter, Grid, Heading, Part, Text
from reports.wording import NBSP

SLUG = "configuration"
MOST_COLUMNS = 8
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Features:
    """The settings of all proxies of one profile: per column (mesh and hop) and feature, its value."""

    profile: str
    columns: tuple[str, ...]
    values: Mapping[str, Mapping[str, str]]

    @property
    def names(self) -> tuple[str, ...]:
        """All features, those that differ first."""
        every = dict.fromkeys(name for column in self.columns for name in self.values[column])
        return tuple(sorted(every, key=lambda name: not self.differs(name)))

    def differs(self, name: str) -> bool:
        """Return whether a feature is not the same everywhere."""
        return len({self.values[column].get(name, NOT_STATED) for column in self.columns}) > 1


def configuration_chapter(analysis: Analysis, mesh_pairs: Sequence[Comparison] = ()) -> Chapter | None:
    """Return the features in play; None where no proxy stated any.

    Args:
        mesh_pairs: comparisons of meshes with each other, beyond those the analysis has.
    """
    tables = features_of(analysis.run)
    if not tables:
        return None
    touched = _touched(analysis, mesh_pairs)
    return Chapter(SLUG, "Configuration side by side", _answer(tables), tuple(_parts(analysis.run, tables, touched)))


def features_of(run: RunRecord) -> tuple[Features, ...]:
    """Return the features per profile: only arms of one profile are meant to be equal."""
    profiles: dict[str, dict[str, Mapping[str, str]]] = {}
    for cell in run.cells:
        environment = cell.environment
        if is_baseline(environment.mesh):
            continue
        found = _columns(environment.mesh.label, run.features.get(environment.key, {}))
        columns = profiles.setdefault(environment.profile.name, {})
        for name, values in found.items():
            columns.setdefault(name, values)
    return tuple(Features(profile, tuple(columns), columns) for profile, columns in profiles.items() if columns)


def _columns(mesh: str, roles: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Return a column for each proxy of a mesh; proxies that are set alike share one."""
    shared: list[tuple[list[str], Mapping[str, str]]] = []
    for role, features in roles.items():
        like = next((names for names, known in shared if known == features), None)
        if like is None:
            shared.append(([role], features))
        else:
            like.append(role)
    return {f"{mesh} ({', '.join(names)})": features for names, features in shared}


def _answer(tables: Sequence[Features]) -> str:
    differing = {name: None for table in tables for name in table.names if table.differs(name)}
    total = len({name for table in tables for name in table.names})
    if not differing:
        return f"All {total} settings in play are the same in every proxy of a profile."
    named = listed([_plain(name) for name in differing], 6)
    return (
        f"{len(differing)} of {total} settings in play are not the same in all proxies of a profile: {named}. "
        "Differences between meshes include what these settings cost."
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _parts(run: RunRecord, tables: Sequence[Features], touched: Mapping[str, Sequence[Comparison]]) -> Iterator[Part]:
    yield Text(
        (
            "Every adapter sets these explicitly, so that no mesh runs on a default the others do not have. Against no "
            "mesh the whole mesh is the difference; between two meshes or releases, what differs here may be part of "
            "the result.",
        )
    )
    yield _profiles(run.plan.profiles)
    if touched:
        yield _touched_grid(touched)
    for at, table in enumerate(tables, 1):
        yield Heading(f"Profile {table.profile}", f"profile-{at}")
        for part, columns in enumerate(_chunks(table.columns), 1):
            yield _feature_grid(f"features-{at}-{part}", table, columns)


def _chunks(columns: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(columns), MOST_COLUMNS):
        yield columns[start : start + MOST_COLUMNS]


def _feature_grid(name: str, table: Features, columns: Sequence[str]) -> Grid:
    rows = []
    for feature in table.names:
        differs = table.differs(feature)
        tone = "warning" if differs else ""
        rows.append(
            (
                Cell(_plain(feature)),
                Cell("differs" if differs else "the same", tone),
                *(Cell(table.values[column].get(feature, NOT_STATED), tone) for column in columns),
            )
        )
    of = f", {columns[0]} to {columns[-1]}" if len(columns) < len(table.columns) else ""
    return Grid(name, f"Settings under {table.profile}{of}", ("setting", "over all", *columns), tuple(rows))


def _profiles(profiles: Sequence[Profile]) -> Grid:
    fields = [name for name in Profile.model_fields if name != "name"]
    rows = []
    for field in fields:
        name, unit = _name_and_unit(field)
        values = [_value(getattr(profile, field), unit) for profile in profiles]
        tone = "warning" if len(set(values)) > 1 else ""
        rows.append((Cell(_plain(name)), *(Cell(value, tone) for value in values)))
    rows.sort(key=lambda row: not row[1].tone)
    columns = ("asked for", *(profile.name for profile in profiles))
    return Grid("profiles", "What the plan's profiles ask of every mesh", columns, tuple(rows))


def _name_and_unit(field: str) -> tuple[str, str]:
    for suffix, unit in (("_s", "s"), ("_bytes", "bytes"), ("_cores", "cores")):
        if field.endswith(suffix):
            return field.removesuffix(suffix), f"{NBSP}{unit}"
    return field, ""


def _value(value: object, unit: str) -> str:
    if value is None:
        return "no limit"  # of CPU and memory: every other field has a value
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{f'{value:g}' if isinstance(value, float) else value}{unit}"


def _touched(analysis: Analysis, more: Sequence[Comparison]) -> Mapping[str, Sequence[Comparison]]:
    """Return per setting the judged comparisons of two meshes in which it differs."""
    features = analysis.run.features
    differing: dict[tuple[str, str], list[str]] = {}
    touched: dict[str, list[Comparison]] = {}
    known = [c for answer in analysis.answers if answer.question.key != "profile" for c in answer.comparisons]
    for c in (*known, *more):
        arm, control = c.pair.cell.environment, c.pair.control.environment
        if c.verdict is None or is_baseline(arm.mesh) or is_baseline(control.mesh):
            continue
        key = (arm.key, control.key)
        if key not in differing:
            differing[key] = _unequal(features.get(arm.key, {}), features.get(control.key, {}))
        for name in differing[key]:
            touched.setdefault(name, []).append(c)
    return touched


def _unequal(arm: Mapping[str, Mapping[str, str]], control: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the settings that both sides state for the same hop, and state differently (measurement.md 7)."""
    names = {
        name: None
        for role in arm
        if role in control
        for name, value in arm[role].items()
        if control[role].get(name, value) != value
    }
    return list(names)


def _touched_grid(touched: Mapping[str, Sequence[Comparison]]) -> Grid:
    rows = []
    for name, comparisons in touched.items():
        words: dict[str, int] = {}
        for c in comparisons:
            words[word_of(c) or "not judged"] = words.get(word_of(c) or "not judged", 0) + 1
        pairs = list(dict.fromkeys(c.pair.label for c in comparisons))
        rows.append(
            (
                Cell(_plain(name)),
                Cell(str(len(comparisons))),
                Cell(", ".join(f"{count} {word}" for word, count in words.items())),
                Cell(listed(pairs, 6)),
            )
        )
    columns = ("setting that differs", "verdicts touched", "their words", "comparisons")
    title = "Which verdicts between meshes or releases each difference touches"
    return Grid("touched", title, columns, tuple(rows), frozenset({1}))
