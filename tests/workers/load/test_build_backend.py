"""The build's decisions: which compiler, what to fetch, and what happens when nothing works."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest


def test_cc_is_honoured_with_its_flags(engine_compiler: ModuleType) -> None:
    assert engine_compiler.system_compiler({"CC": "ccache gcc -m64"}) == ["ccache", "gcc", "-m64"]


def test_known_compilers_are_found_in_order(engine_compiler: ModuleType) -> None:
    assert engine_compiler.system_compiler({}, lambda name: f"/bin/{name}" if name != "cc" else None) == ["/bin/gcc"]


def test_zig_is_fetched_only_where_no_compiler_is(engine_compiler: ModuleType) -> None:
    assert engine_compiler.extra_requirements({}, lambda _: None) == ["ziglang"]
    assert engine_compiler.extra_requirements({}, lambda _: "/bin/cc") == []
    assert engine_compiler.extra_requirements({"CC": "tcc"}, lambda _: None) == []


@pytest.fixture
def engine_copy(tmp_path: Path, engine_compiler: ModuleType) -> Path:
    """The engine's source with a library of an earlier build beside it."""
    copy = tmp_path / "engine"
    shutil.copytree(engine_compiler.ENGINE_DIR, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (copy / engine_compiler.LIBRARY_NAME).write_text("stale")
    return copy


def test_a_compiler_that_fails_leaves_a_reason_and_no_library(engine_compiler: ModuleType, engine_copy: Path) -> None:
    reason = engine_compiler.compile_engine({"CC": "/bin/false", "PATH": os.environ["PATH"]}, engine_copy)
    assert "/bin/false failed with status 1" in reason
    assert not list(engine_copy.glob("*.so*"))


def test_a_compiler_that_is_not_there_leaves_a_reason_and_no_library(
    engine_compiler: ModuleType, engine_copy: Path
) -> None:
    reason = engine_compiler.compile_engine({"CC": "/nowhere/cc"}, engine_copy)
    assert "/nowhere/cc" in reason
    assert not list(engine_copy.glob("*.so*"))


def test_a_stale_library_is_replaced(engine_compiler: ModuleType, engine_copy: Path) -> None:
    if engine_compiler.compiler(os.environ) is None:
        pytest.skip("no C compiler here")
    assert engine_compiler.compile_engine(os.environ, engine_copy) is None
    assert (engine_copy / engine_compiler.LIBRARY_NAME).read_bytes().startswith(b"\x7fELF")
    assert [path.name for path in engine_copy.glob("*.so*")] == [engine_compiler.LIBRARY_NAME]
