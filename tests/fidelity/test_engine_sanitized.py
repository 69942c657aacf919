"""The native engine under AddressSanitizer and UndefinedBehaviorSanitizer, through its whole behaviour suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = "-fsanitize=address,undefined"
_FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"]
_LIMIT_S = 500


@pytest.mark.slow
def test_the_engine_is_clean_under_sanitizers(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("needs gcc and its sanitizer libraries")
    library = tmp_path / "libmgengine.so"
    sources = sorted(str(path) for path in (ROOT / "workers/load/engine").glob("*.c"))
    subprocess.run(
        [gcc, *_FLAGS, SANITIZERS, "-fno-sanitize-recover=all", "-o", str(library), *sources, "-lm"], check=True
    )
    runtime = subprocess.run(
        [gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    env = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "MESHGAUGE_ENGINE_LIB": str(library),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python leaks by design; the engine: tests/workers/load/test_truth.py
    }
    suite = ["tests/workers/load/test_engine.py", "tests/workers/load/test_parsers.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not python", *suite],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
