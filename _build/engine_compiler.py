"""Compiles the load engine beside its source, with whatever C compiler there is."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ENGINE_DIR = Path(__file__).resolve().parent.parent / "workers" / "load" / "engine"
LIBRARY_NAME = "libmgengine.so"
SYSTEM_COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
_TIMEOUT_S = 300.0  # zig's first compilation builds its C library


def system_compiler(env: Mapping[str, str], which: Callable[[str], str | None] = shutil.which) -> list[str] | None:
    """Return the compiler this machine has: $CC (which may carry flags), else the first known one on PATH."""
    if env.get("CC"):
        return shlex.split(env["CC"])
    return next(([found] for name in SYSTEM_COMPILERS if (found := which(name))), None)


def compiler(env: Mapping[str, str], which: Callable[[str], str | None] = shutil.which) -> list[str] | None:
    """Return the compiler to use: the system's, else zig's where its wheel is installed, else None."""
    found = system_compiler(env, which)
    if found is None and importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    return found


def extra_requirements(env: Mapping[str, str], which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """Return what the build environment needs beside setuptools: zig, where there is no compiler."""
    return [] if system_compiler(env, which) else ["ziglang"]


def compile_engine(env: Mapping[str, str] = os.environ, engine_dir: Path = ENGINE_DIR) -> str | None:
    """Build the library in ``engine_dir``; return None, or why there is none now.

    A library of an earlier build is removed first: the pure-Python engine is better than a stale native one.
    """
    library = engine_dir / LIBRARY_NAME
    library.unlink(missing_ok=True)
    command = compiler(env)
    if command is None:
        return "no C compiler was found (cc, gcc, clang, $CC) and the ziglang wheel is not installed"
    building = engine_dir / f".{LIBRARY_NAME}.{os.getpid()}"
    sources = sorted(str(path) for path in engine_dir.glob("*.c"))
    try:
        subprocess.run(
            [*command, *FLAGS, "-o", str(building), *sources, "-lm"],
            env=dict(env), check=True, capture_output=True, text=True, timeout=_TIMEOUT_S,
        )  # fmt: skip
        building.replace(library)
    except subprocess.CalledProcessError as error:
        return f"{shlex.join(command)} failed with status {error.returncode}: {error.stderr.strip() or 'no message'}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{shlex.join(command)} failed: {error}"
    finally:
        building.unlink(missing_ok=True)
    return None


if __name__ == "__main__":
    sys.exit(compile_engine())
