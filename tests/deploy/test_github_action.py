"""The GitHub Action: what it names exists, and its shell is shell that takes nothing from others as text."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from coordinator.cli import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "github-action"
TEXT = (FOLDER / "action.yml").read_text()
ACTION: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
SCRIPTS = [step for step in STEPS if "run" in step]


def test_it_is_a_composite_action_whose_steps_either_run_or_use() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert all(("run" in step) != ("uses" in step) for step in STEPS)
    assert all(step["shell"] == "bash" for step in SCRIPTS)
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in STEPS if "uses" in step)


@pytest.mark.parametrize("step", SCRIPTS, ids=lambda step: step["id"])
def test_its_shell_is_shell_and_interpolates_nothing(step: dict[str, Any]) -> None:
    subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)
    assert "${{" not in step["run"], "inputs go through env: they could hold shell"
    assert all(f"${name}" in step["run"] for name in step["env"])


def test_every_input_is_used_and_every_used_one_is_declared() -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", TEXT))
    assert used == set(ACTION["inputs"])
    assert all(entry.get("required") or "default" in entry for entry in ACTION["inputs"].values())


def test_every_output_is_written() -> None:
    gate = next(step["run"] for step in SCRIPTS if step["id"] == "gate")
    for name, output in ACTION["outputs"].items():
        assert output["value"] == f"${{{{ steps.gate.outputs.{name} }}}}"
        assert f'echo "{name}=' in gate


def test_options_settings_and_files_exist() -> None:
    gate = typer.main.get_group(app).commands["gate"]
    known = {option for parameter in gate.params for option in (*parameter.opts, *parameter.secondary_opts)}
    script = next(step["run"] for step in SCRIPTS if step["id"] == "gate")
    assert set(re.findall(r"--[a-z][\w-]*", script)) <= known
    assert (ROOT / "requirements.lock").exists()
    assert (FOLDER / "../..").resolve() == ROOT


def test_the_readme_uses_it_as_it_is() -> None:
    readme = (FOLDER / "README.md").read_text()
    uses = re.search(r"with:\n(.*?)\n\s+- if", readme, re.DOTALL)
    assert uses is not None
    assert set(re.findall(r"^\s+#?\s*([\w-]+): ", uses[1], re.MULTILINE)) <= set(ACTION["inputs"])
    assert all(f"`{name}`" in readme for name in ACTION["outputs"])
    assert all(f"`{name}: " in readme or f"{name}: " in readme for name in ("undecided", "confirm", "fail-job"))
    for name in re.findall(r"`(tests/[\w/.]+|plans/[\w.-]+\.yaml)`", readme):
        assert (ROOT / name).exists(), name
