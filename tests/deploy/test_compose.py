"""Deployment files: everything they name exists, as far as that can be seen without a container engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from coordinator.cli import app
from meshgauge.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compose() -> dict[str, dict[str, dict[str, object]]]:
    """The compose file as data."""
    loaded: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    return loaded


def test_every_setting_in_the_compose_file_exists(compose: dict[str, dict[str, dict[str, object]]]) -> None:
    environment = compose["services"]["meshgauge"]["environment"]
    assert isinstance(environment, dict)
    known = {f"MESHGAUGE_{name.upper()}" for name in Settings.model_fields}
    assert set(environment) <= known
    assert {"MESHGAUGE_DATABASE_URL", "MESHGAUGE_BROKER_URL"} <= set(environment)


def test_no_service_is_published_beyond_loopback(compose: dict[str, dict[str, dict[str, object]]]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]  # type: ignore[attr-defined]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_the_image_copies_files_that_exist_and_starts_a_command_that_exists() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split()[:-1]), line
    assert 'CMD ["up", "--foreground"]' in text
    assert "USER 10001" in text
    answer = CliRunner().invoke(app, ["up", "--help"])
    assert "--foreground" in answer.output


def test_the_image_has_the_versions_that_are_tested() -> None:
    def pins(path: str) -> dict[str, str]:
        lines = re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / path).read_text(), re.MULTILINE)
        return dict(lines)

    image, tested = pins("deploy/requirements.lock"), {**pins("requirements-dev.lock"), **pins("requirements.lock")}
    assert {"helm-python-sdk", "pyarrow"} <= set(image)
    assert {name: version for name, version in image.items() if tested.get(name) != version} == {}
