from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.kubernetes.helm import backend as module
from adapters.kubernetes.helm.backend import backend
from meshgauge.errors import ConfigurationError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "helm"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("helm") == str(path)
    return path


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)


@pytest.mark.skipif(importlib.util.find_spec("helm_python") is None, reason="needs the extra 'helm'")
def test_the_wheel_comes_first(program: Path) -> None:
    assert backend().name == "sdk"
    assert backend("binary").name == "binary"


@pytest.mark.usefixtures("no_wheel", "program")
def test_the_program_is_taken_where_there_is_no_wheel() -> None:
    assert backend().name == "binary"
    with pytest.raises(ConfigurationError, match=r"pip install meshgauge\[helm\]"):
        backend("sdk")


@pytest.mark.usefixtures("no_wheel")
def test_a_host_without_helm_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"pip install meshgauge\[helm\].*or put a helm program .* on PATH"):
        backend()


def test_asking_for_helm_loads_no_library() -> None:
    program = (
        "import sys; from adapters.kubernetes.helm.backend import backend; backend(); "
        "print(sorted({'helm_python', 'kubernetes'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
