"""A short name for the code that makes pages and figures: what was made by other code is made again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

_MADE_BY = (".py", ".j2", ".css")
_LIBRARIES = ("jinja2", "matplotlib", "numpy", "pillow", "scipy")


@cache
def code_key() -> str:
    """Return a hash over the sources of ``reports`` and ``meshgauge`` and the versions of what they draw with."""
    libraries = " ".join(version(name) for name in _LIBRARIES)
    return key_of(Path(__file__).parents[2], ("meshgauge", "reports"), libraries)


def key_of(house: Path, rooms: Sequence[str], libraries: str) -> str:
    """Return a hash over every source file of the rooms, 16 hexadecimal digits."""
    found = hashlib.sha256(libraries.encode())
    for room in rooms:
        for path in sorted(path for path in (house / room).rglob("*") if path.suffix in _MADE_BY):
            content = path.read_bytes()
            found.update(f"\0{path.relative_to(house).as_posix()}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:16]
