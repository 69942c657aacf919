"""Numbers that others measured and published, brought to our units. Beside ours, never among them.

Nothing of theirs was held constant with ours: host, generator, clock, application. So they get no verdict.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from meshgauge.errors import InvalidRequestError

LABEL = "published, not measured here"
MAX_POINTS = 5_000

Importer = Literal["fortio", "istio-csv"]
IMPORTERS: tuple[Importer, ...] = ("fortio", "istio-csv")


def _measured(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise ValueError("a measurement is a finite number, 0 or more")
    return value


Measured = Annotated[float | None, AfterValidator(_measured)]


@dataclass(frozen=True, slots=True)
class PublishedPoint:
    """One published measurement of one configuration.

    Attributes:
        arm: what was measured, in the publisher's words.
        at: start, RFC 3339; None where it is not said.
        rate_rps: offered; None: as fast as it went. achieved_rps, connections, window_s: as published.
        p50_ms .. p999_ms, mean_ms, max_ms: latency in ms, on the publisher's clock.
        cpu_data_plane: cores of all proxies on the path per 1000 rps; memory_data_plane_mib: MiB of them together.
        errors_percent: share of requests that failed, in per cent.
    """

    arm: str
    at: str | None
    rate_rps: Measured
    achieved_rps: Measured
    connections: int | None
    window_s: Measured
    requests: int | None
    p50_ms: Measured
    p90_ms: Measured
    p99_ms: Measured
    p999_ms: Measured
    mean_ms: Measured
    max_ms: Measured
    cpu_data_plane: Measured
    memory_data_plane_mib: Measured
    errors_percent: Measured


@dataclass(frozen=True, slots=True)
class PublishedSeries:
    """What somebody published.

    Attributes:
        source: who measured it and where it stands.
        importer: which reader brought it in; ``caveats`` is what must be known to read it.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    source: Annotated[str, Field(min_length=1, max_length=500)]
    importer: Importer
    caveats: tuple[str, ...]
    points: tuple[PublishedPoint, ...]


@functools.cache
def _adapter() -> TypeAdapter[PublishedSeries]:
    return TypeAdapter(PublishedSeries)


def from_store(name: str, source: str, importer: str, rows: Mapping[str, Any]) -> PublishedSeries:
    """Return a series from its columns in the store."""
    return _adapter().validate_python({"name": name, "source": source, "importer": importer, **rows})


def for_store(series: PublishedSeries) -> dict[str, Any]:
    """Return what goes into the store beside name, source and importer, as JSON."""
    dumped = _adapter().dump_python(series, mode="json")
    return {"caveats": dumped["caveats"], "points": dumped["points"]}


def import_series(text: str, name: str, source: str, importer: str | None = None) -> PublishedSeries:
    """Return the series written in ``text``.

    Args:
        importer: one of IMPORTERS; None: told from the text.

    Raises:
        InvalidRequestError: not a file of this kind, or a number in it is none; says where.
    """
    from reports.exchange import fortio, istio_csv  # noqa: PLC0415 - they build the classes above

    readers: Mapping[str, tuple[Callable[[str], tuple[PublishedPoint, ...]], tuple[str, ...]]] = {
        "fortio": (fortio.read_points, fortio.CAVEATS),
        "istio-csv": (istio_csv.read_points, istio_csv.CAVEATS),
    }
    chosen = importer or ("fortio" if text.lstrip()[:1] in ("{", "[") else "istio-csv")
    if chosen not in readers:
        raise InvalidRequestError(f"no importer is called {chosen!r}; there are: {', '.join(IMPORTERS)}")
    read, caveats = readers[chosen]
    points = read(text)
    if len(points) > MAX_POINTS:
        raise InvalidRequestError(f"{len(points)} measurements, and {MAX_POINTS} are the most; split the file")
    try:
        plain = [asdict(point) for point in points]  # instances would be taken unchecked
        return _adapter().validate_python(
            {"name": name, "source": source, "importer": chosen, "caveats": caveats, "points": plain}
        )
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found[:5])
        raise InvalidRequestError(wrong) from error
