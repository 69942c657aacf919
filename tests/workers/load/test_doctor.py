"""The engine's word to ``meshgauge doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("library", "engine"), [(None, "native"), ("/no/such/library.so", "python")])
def test_it_names_the_engine_there_is_and_why(library: str | None, engine: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "MESHGAUGE_ENGINE_LIB"}
    if library:
        env["MESHGAUGE_ENGINE_LIB"] = library
    done = subprocess.run(
        [sys.executable, "-m", "workers.load.doctor"], capture_output=True, text=True, check=True, env=env
    )
    answer = json.loads(done.stdout)
    assert answer["engine"] == engine
    assert ("ABI" in answer["reason"]) == (engine == "native")
