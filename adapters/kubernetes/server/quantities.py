"""Quantities and moments as the API server writes them. Pure."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

# Source: kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity
_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "\N{MICRO SIGN}s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|\N{MICRO SIGN}s|ms|s|m|h)")


def quantity(text: str | float) -> float:
    """Return the value of a resource quantity: cores for CPU, bytes for memory. ``quantity("250m") == 0.25``.

    Raises:
        ValueError: it is none.
    """
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is no quantity such as 250m, 1.5 or 64Mi")
    number, exponent, suffix = found.groups()
    return float(Decimal(number + (exponent or "")) * _FACTORS[suffix or ""])


def duration_s(text: str) -> float:
    """Return a Go duration (``1m15.5s``) in seconds.

    Raises:
        ValueError: it is none.
    """
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration such as 15s or 1m15.5s")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def moment(text: str) -> float:
    """Return an RFC 3339 time (``2026-11-23T14:00:00.123456Z``) in seconds since the epoch.

    Raises:
        ValueError: it is none, or names no time zone.
    """
    # Go writes up to nine digits of a second; Python reads six.
    when = dt.datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    if when.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return when.timestamp()
