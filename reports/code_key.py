"""A short name for the code that makes pages and figures: what was made by other code is made again."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

_MADE_BY = (".py", ".j2", ".css")
_LIBRARIES = ("jinja2", "matplotlib", "numpy", "pillow", "scipy")


@cache
def code_key() -> str:
    """Return a hash over the sources of ``reports`` and ``meshgauge`` and the versions of what they draw with."""
    house = Path(__file__).parent.parent
    found = hashlib.sha256()
    for room in ("meshgauge", "reports"):
        for path in sorted(path for path in (house / room).rglob("*") if path.suffix in _MADE_BY):
            found.update(path.relative_to(house).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    found.update(" ".join(version(name) for name in _LIBRARIES).encode())
    return found.hexdigest()[:16]
