"""A library that does not match this source is refused, with what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from meshgauge.errors import ConfigurationError
from workers.load.engine.choice import Offer, choose, offer_of
from workers.load.engine.library import ABI, OVERRIDE, load_library


@pytest.fixture
def build(tmp_path: Path, engine_compiler: ModuleType) -> Path:
    """A library with the symbols named in a source file beside it."""
    if engine_compiler.compiler(os.environ) is None:
        pytest.skip("no C compiler here")
    return tmp_path


def _compile(folder: Path, source: str, engine_compiler: ModuleType) -> Path:
    library = folder / "other.so"
    (folder / "other.c").write_text(source)
    command = engine_compiler.compiler(os.environ)
    subprocess.run([*command, "-shared", "-fPIC", "-o", str(library), str(folder / "other.c")], check=True)
    return library


def test_a_missing_library_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"reinstall Meshgauge.*{OVERRIDE}"):
        load_library(tmp_path / "none.so")


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("not ELF")
    with pytest.raises(ConfigurationError, match="does not load"):
        load_library(tmp_path / "x.so")


def test_a_foreign_library_is_refused(build: Path, engine_compiler: ModuleType) -> None:
    with pytest.raises(ConfigurationError, match="no Meshgauge load engine"):
        load_library(_compile(build, "int nothing;", engine_compiler))


def test_another_abi_is_refused(build: Path, engine_compiler: ModuleType) -> None:
    source = "unsigned mg_abi(void) { return 4242; } unsigned long mg_struct_bytes(unsigned w) { return w; }"
    with pytest.raises(ConfigurationError, match=f"ABI 4242, this source needs {ABI}"):
        load_library(_compile(build, source, engine_compiler))


def test_other_struct_sizes_are_refused(build: Path, engine_compiler: ModuleType) -> None:
    source = f"unsigned mg_abi(void) {{ return {ABI}; }} unsigned long mg_struct_bytes(unsigned w) {{ return w; }}"
    with pytest.raises(ConfigurationError, match="struct sizes"):
        load_library(_compile(build, source, engine_compiler))


def test_the_override_decides_which_library_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offer_of("w").native_abi == ABI
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "none.so"))
    offer = offer_of("w")
    assert offer.native_abi is None
    assert offer.reason is not None
    assert str(tmp_path) in offer.reason


def test_engines_never_mix() -> None:
    native, other, without = Offer("a", 1, None), Offer("b", 2, None), Offer("c", None, "no compiler")
    assert choose("auto", [native, native]) == "native"
    assert choose("auto", [without, without]) == "python"
    assert choose("python", [native, without]) == "python"
    with pytest.raises(ConfigurationError, match="c has no native one"):
        choose("auto", [native, without])
    with pytest.raises(ConfigurationError, match="a: ABI 1, b: ABI 2"):
        choose("auto", [native, other])
    with pytest.raises(ConfigurationError, match="no compiler"):
        choose("native", [native, without])
