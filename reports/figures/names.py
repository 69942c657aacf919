"""Names of arms in figures: where there is no room the middle goes, because names differ at their ends."""

from __future__ import annotations


def fitted(name: str, characters: int) -> str:
    """Return the name, its middle left out where it is longer."""
    if len(name) <= characters:
        return name
    head = characters // 3
    return f"{name[:head]}…{name[-(characters - head - 1) :]}"


def label(name: str, characters: int) -> str:
    """Return a fitted name for Matplotlib's labels, which read dollar signs as mathematics."""
    return fitted(name, characters).replace("$", r"\$")
