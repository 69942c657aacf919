"""The load result on disk: ``load.json`` beside ``load.hist``, written whole or not at all. No Locust in here."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from meshgauge.errors import MeasurementError
from meshgauge.histogram import Histogram
from meshgauge.trial import LoadResult, SecondRow, WorkerHealth

JSON_NAME = "load.json"
HISTOGRAMS_NAME = "load.hist"


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _row(row: SecondRow | WorkerHealth) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def write_load_result(out_dir: Path, result: LoadResult) -> None:
    """Write ``result`` into ``out_dir``. The JSON comes last: where it is, the histograms are whole."""
    blob, index = b"", []
    for (outcome, clock), histogram in result.histograms.items():
        encoded = histogram.encode()
        index.append({"outcome": outcome, "clock": clock, "offset": len(blob), "bytes": len(encoded)})
        blob += encoded
    plain = {field.name: getattr(result, field.name) for field in fields(result)}
    plain |= {
        "window_start": result.window_start.isoformat(),
        "outcomes": dict(result.outcomes),
        "histograms": index,
        "seconds": [_row(row) for row in result.seconds],
        "workers": [_row(worker) for worker in result.workers],
    }
    _replace(out_dir / HISTOGRAMS_NAME, blob)
    _replace(out_dir / JSON_NAME, json.dumps(plain, indent=1).encode())


def read_load_result(out_dir: Path) -> LoadResult:
    """Return what ``write_load_result`` wrote.

    Raises:
        MeasurementError: there is no result, or it cannot be read.
    """
    try:
        plain = json.loads((out_dir / JSON_NAME).read_bytes())
        blob = (out_dir / HISTOGRAMS_NAME).read_bytes()
    except OSError as error:
        raise MeasurementError(f"the load left no result in {out_dir}: {error.strerror}") from error
    try:
        histograms = {
            (part["outcome"], part["clock"]): Histogram.decode(blob[part["offset"] : part["offset"] + part["bytes"]])
            for part in plain["histograms"]
        }
        plain |= {
            "window_start": dt.datetime.fromisoformat(plain["window_start"]),
            "histograms": histograms,
            "seconds": tuple(SecondRow(**row) for row in plain["seconds"]),
            "batch_p50_us": tuple(plain["batch_p50_us"]),
            "workers": tuple(WorkerHealth(**worker) for worker in plain["workers"]),
        }
        return LoadResult(**plain)
    except (ValueError, KeyError, TypeError) as error:
        raise MeasurementError(f"the load result in {out_dir} is damaged: {error}") from error
