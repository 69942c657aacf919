"""Events in words: what happened to a run, one sentence each, for pages and terminals. Blocks count from 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Data = Mapping[str, Any]


def told(kind: str, data: Data) -> str:
    """Return one event as a sentence; an unknown kind is shown as it is."""
    teller = _TELLERS.get(kind)
    if teller is None:
        fields = ", ".join(f"{name} {value}" for name, value in data.items() if value is not None)
        return f"{kind.replace('_', ' ')} {fields}".rstrip()
    return teller(data)


def _reason(data: Data) -> str:
    return f": {data['reason']}" if data.get("reason") else ""


def _claimed(data: Data) -> str:
    again = f" (attempt {data['attempt']})" if data.get("attempt", 1) > 1 else ""
    return f"block {data['block'] + 1}, turn {data['position'] + 1}: bringing up {data['environment']}{again}"


def _finished_trial(data: Data) -> str:
    p50_ms, rps = data.get("p50_ms"), data.get("achieved_rps")
    numbers = "" if p50_ms is None else f", p50 {p50_ms:.3g} ms"
    numbers += "" if rps is None else f", {rps:.0f} rps"
    return f"{data['cell']} {data['state']}{numbers}{_reason(data)}"


_TELLERS: Mapping[str, Callable[[Data], str]] = {
    "submitted": lambda data: f"submitted with {data['trials']} trials",
    "environment_claimed": _claimed,
    "phase": lambda data: f"{data['environment']}: {str(data['phase']).replace('_', ' ')}",
    "trial_started": lambda data: f"{data['cell']}: trial started",
    "trial_finished": _finished_trial,
    "environment_ended": lambda data: (
        f"block {data['block'] + 1}: {data['environment']} {data['outcome']}{_reason(data)}"
    ),
    "block_added": lambda data: (
        f"block {data['block'] + 1} added at the end: invalid trials in {data['invalid_blocks']} blocks"
    ),
    "looked": lambda data: str(data["sentence"]),
    "stopped": lambda _data: "the rest of the run is cancelled: it has its answers",
    "cancel_requested": lambda data: f"{data['by']} asked to cancel",
    "finished": lambda data: f"{data['state']}{_reason(data)}",
    "thresholds_held": lambda data: f"held against its thresholds. {data['answer']}",
    "step_suspected": lambda data: str(data["answer"]),
    "step_confirmed": lambda data: str(data["answer"]),
    "step_not_reproduced": lambda data: str(data["answer"]),
}
