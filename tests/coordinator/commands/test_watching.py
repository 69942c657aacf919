"""What a terminal shows of a run: where it is, how long it still takes, what came out."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console, RenderableType

from coordinator.client import RemoteEvent
from coordinator.commands.results import result_view
from coordinator.commands.watching import Seen, picture, sentence
from coordinator.web.diary import told
from coordinator.web.spoken import duration


def shown(view: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]  # a StringIO


@pytest.fixture
def progress() -> dict[str, Any]:
    return {
        "run": {"state": "running", "cancel_at": None, "trials": {"measured": 4, "pending": 25, "running": 1}},
        "block": 2,
        "blocks": 6,
        "done": 4,
        "total": 30,
        "elapsed_s": 50.0,
        "time_left_s": 325.0,
        "last_event": 9,
        "now": [
            {
                "environment": "envoy-1.40.0/mtls/web/local",
                "phase": "ready",
                "attempt": 1,
                "trial": 1,
                "trials": 2,
                "load": "1700rps-16c",
            }
        ],
    }


def test_the_live_view_says_block_environment_phase_trial_and_time_left(progress: dict[str, Any]) -> None:
    text = shown(picture(Seen(progress, time.monotonic())))
    for part in ("4/30 trials", "block 2 of 6", "50 s", "about 5 min 25 s left",
                 "envoy-1.40.0/mtls/web/local · ready · trial 1 of 2, 1700rps-16c"):  # fmt: skip
        assert part in text


def test_the_live_view_shows_how_the_load_fares(progress: dict[str, Any]) -> None:
    trial = {
        "environment": "envoy-1.40.0/mtls/web/local",
        "phase": "warm_up",
        "elapsed_s": 2.4,
        "achieved_rps": 1699.5,
        "p50_us": 1234.5,
    }
    text = shown(picture(Seen(progress, time.monotonic(), trial)))
    assert "warm-up 2 s, 1700 rps, p50 1.23 ms" in text or "warm-up 2 s, 1699 rps, p50 1.23 ms" in text


def test_time_left_counts_down_between_answers(progress: dict[str, Any]) -> None:
    seen = Seen(progress, time.monotonic() - 25)
    assert seen.time_left_s == pytest.approx(300, abs=2)
    assert seen.elapsed_s == pytest.approx(75, abs=2)


def test_a_run_that_waits_says_for_what(progress: dict[str, Any]) -> None:
    progress["now"] = []
    assert "waiting for the site to be free" in shown(picture(Seen(progress, time.monotonic())))
    progress["run"]["cancel_at"] = "2026-11-23T08:00:00Z"
    assert "being cancelled" in shown(picture(Seen(progress, time.monotonic())))


def test_an_absent_coordinator_is_shown(progress: dict[str, Any]) -> None:
    assert "does not answer" in shown(picture(Seen(progress, time.monotonic(), is_away=True)))


def test_a_log_has_a_line_for_each_trial_and_each_trouble(progress: dict[str, Any]) -> None:
    seen = Seen(progress, time.monotonic())
    claimed = {"environment": "a", "block": 1, "position": 0, "attempt": 2}
    line = sentence(RemoteEvent(1, "environment_claimed", claimed), seen)
    assert line == "4/30 trials, about 5 min 25 s left: block 2, turn 1: bringing up a (attempt 2)"
    finished = {"cell": "a/b", "state": "invalid", "reason": "errors 2 %", "p50_ms": 1.2345, "achieved_rps": 99.6}
    line = sentence(RemoteEvent(2, "trial_finished", finished), seen)
    assert line == "4/30 trials, about 5 min 25 s left: a/b invalid, p50 1.23 ms, 100 rps: errors 2 %"
    lost = {"environment": "a", "block": 0, "outcome": "lost", "reason": "worker gone"}
    line = sentence(RemoteEvent(3, "environment_ended", lost), seen)
    assert line == "4/30 trials, about 5 min 25 s left: block 1: a lost: worker gone"
    for kind in ("progress", "phase", "end", "trial_started"):
        assert sentence(RemoteEvent(4, kind, {}), seen) is None
    assert sentence(RemoteEvent(5, "environment_ended", lost | {"outcome": "done"}), seen) is None


def test_an_event_nobody_knows_is_shown_as_it_is() -> None:
    assert told("new_thing", {"a": 1, "b": None}) == "new thing a 1"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"),
     (7800, "2 h 10 min"), (200_000, "2 d 7 h")],
)  # fmt: skip
def test_spans_are_said_shortly(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


@pytest.fixture
def summary() -> dict[str, Any]:
    row = {
        "question": "mesh", "arm": "envoy-1.40.0", "profile": "mtls", "against": "none", "workload": "web",
        "infrastructure": "local", "load": "1700rps-16c", "metric": "p50", "unit": "ms", "value": 1.234,
        "against_value": 0.8, "difference": 54.25, "difference_unit": "%", "low": 48.0, "high": 60.5, "level": 0.982,
        "n": 6, "planned": 6, "p_adjusted": 0.001, "verdict": "slower", "flags": ["indicative"], "reason": "",
        "smallest_detectable": None, "blocks_needed": None,
    }  # fmt: skip
    cpu = row | {"metric": "cpu_data_plane", "unit": "cores per 1000 rps", "difference": 0.31, "verdict": None,
                 "difference_unit": "cores per 1000 rps", "low": None, "high": None, "flags": []}  # fmt: skip
    return {
        "indicative": "results are indicative",
        "withheld": None,
        "answers": [{"text": "envoy is 54 % slower"}],
        "results": [row, cpu, row | {"metric": "memory_data_plane"}],
    }


def test_the_result_table_has_units_intervals_n_and_verdicts(summary: dict[str, Any]) -> None:
    text = shown(result_view(summary))
    for part in ("envoy is 54 % slower", "results are indicative", "1.23 ms", "+54.2 %", "98.2 % interval",
                 "[+48.0 .. +60.5]", "6/6",
                 "slower (indicative)", "+0.310 cores/krps"):  # fmt: skip
        assert part in text
    assert "memory" not in text  # it is on the page


def test_names_are_no_markup_for_the_terminal(summary: dict[str, Any]) -> None:
    summary["results"][0]["arm"] = "[red]x[/red]"
    summary["answers"][0]["text"] = "[bold]y"
    text = shown(result_view(summary))
    assert "[red]x[/red]" in text
    assert "[bold]y" in text


def test_loads_are_told_apart_where_there_are_several(summary: dict[str, Any]) -> None:
    summary["results"].append(summary["results"][0] | {"load": "500rps-8c"})
    text = shown(result_view(summary))
    assert "web 1700rps-16c" in text
    assert "web 500rps-8c" in text
