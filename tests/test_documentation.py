"""Documentation against code: what is there is told, and what is told is there."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from adapters import registry
from adapters.stage import shipped
from meshgauge.plan import BUILT_IN_PROFILES
from meshgauge.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "deploy" / "settings.md").read_text()
ROOMS = ("adapters", "coordinator", "meshgauge", "reports", "workers")


def test_every_setting_is_documented_as_it_describes_itself() -> None:
    for name, field in Settings.model_fields.items():
        assert f"| `{name.upper()}` | {field.description} |" in SETTINGS


def test_no_setting_is_documented_that_does_not_exist() -> None:
    told = re.findall(r"^\| `([A-Z_]+)`", SETTINGS, re.MULTILINE)
    assert told == [name.upper() for name in Settings.model_fields]


def test_every_adapter_stands_in_the_table_with_its_stage() -> None:
    day = max(result.at.date() for result in shipped())  # the stage of a release: results grow old, its README does not
    for row in registry.adapter_rows(as_of=day):
        line = next((line for line in README.splitlines() if line.startswith(f"| `{row.name}` |")), None)
        assert line is not None, row.name
        assert f"| {row.stage} |" in line


def test_every_built_in_profile_is_named() -> None:
    assert all(f"`{name}`" in README for name in BUILT_IN_PROFILES)


def test_every_plan_is_listed_beside_it() -> None:
    listed = (ROOT / "plans" / "README.md").read_text()
    assert all(plan.name in listed for plan in (ROOT / "plans").glob("*.yaml"))


def test_every_file_the_readme_names_exists() -> None:
    for name in re.findall(r"\(([\w/.-]+\.\w+)\)|(plans/[\w.-]+\.yaml)", README):
        assert (ROOT / (name[0] or name[1])).exists(), name


@pytest.mark.parametrize(
    "folder",
    [
        *ROOMS,
        "adapters/local",
        "adapters/kubernetes",
        "adapters/kubernetes/helm",
        "adapters/kubernetes/meshes",
        "workers/load",
        "meshgauge/store",
        "plans",
        "deploy",
        "tests",
        "tests/kube",
        "tests/cluster",
    ],
)
def test_every_folder_says_what_lives_there_in_fifteen_lines(folder: str) -> None:
    lines = (ROOT / folder / "README.md").read_text().splitlines()
    assert 3 <= len(lines) <= 15


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.splitlines()) <= 150


def test_each_package_name_belongs_to_our_distribution() -> None:
    owners = metadata.packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, ["meshgauge"])) == {"meshgauge"}, f"a foreign distribution shadows {room}"


def test_packages_are_a_docstring_and_nothing_else() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("__init__.py"):
            text = path.read_text().strip()
            assert text.startswith('"""'), path
            assert text.endswith('"""'), path
            assert text.count('"""') == 2, path


def test_nothing_of_this_machine_is_in_the_repository() -> None:
    home = str(Path.home())
    for path in [p for room in (*ROOMS, "plans", "deploy", "tests") for p in (ROOT / room).rglob("*")]:
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".c", ".h", ".j2", ".html", ".css"}:
            text = path.read_text()
            assert str(ROOT) not in text, path
            assert home == "/" or f"{home}/" not in text, path
