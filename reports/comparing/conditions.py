"""What differs between two runs besides what is compared: hosts, kernels, tuning, engines, plans, configurations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshgauge.run import RunRecord
from reports.comparing.matching import Match
from reports.provenance import flattened, host_facts
from reports.wording import ABSENT

# Facts of a host that change by themselves, or that only name it again.
_RESTLESS = frozenset({"load_average", "boot_id", "hostname", "uptime_s"})
_PLAN_FIELDS = ("blocks", "sequential", "baseline", "margins")
_TUNING = ("idle_spinners", "fifo_priority")


@dataclass(frozen=True, slots=True)
class Condition:
    """One fact in which two runs differ. ``weighty``: it can move results by itself, beyond what the controls take out.

    Attributes:
        first, second: its value in either run, several where it was not the same throughout; a dash: not recorded.
    """

    fact: str
    first: str
    second: str
    weighty: bool


def conditions(first: RunRecord, second: RunRecord, matches: Sequence[Match]) -> tuple[Condition, ...]:
    """Return the facts in which two runs differ, the weighty ones first; when they were made comes last."""
    facts = [*_of_hosts(first, second), *_of_engines(first, second), *_of_plans(first, second)]
    facts += _of_configurations(first, second, matches)
    days = abs((second.created_at - first.created_at).total_seconds()) / 86_400
    times = [f"{run.created_at:%Y-%m-%d %H:%M} UTC" for run in (first, second)]
    made = Condition("made", times[0], f"{times[1]} ({days:.1f} days apart)", False)
    differing = dict.fromkeys(condition for condition in facts if condition.first != condition.second)
    return (*sorted(differing, key=lambda condition: not condition.weighty), made)


def _of_hosts(first: RunRecord, second: RunRecord) -> Iterator[Condition]:
    names = [_told({e.host for e in run.environments} | set(host_facts(run))) for run in (first, second)]
    yield Condition("hosts", names[0], names[1], True)
    ours, theirs = _gathered(first), _gathered(second)
    for fact in dict.fromkeys((*ours, *theirs)):
        yield Condition(f"host: {fact.replace('_', ' ')}", _told(ours.get(fact)), _told(theirs.get(fact)), True)
    for fact in _TUNING:
        told = [_told({str(tuning[fact]) for tuning in _tunings(run) if fact in tuning}) for run in (first, second)]
        yield Condition(f"tuning: {fact.replace('_', ' ')}", told[0], told[1], True)


def _gathered(run: RunRecord) -> Mapping[str, set[str]]:
    """Return per fact the values it has on the hosts of a run."""
    found: dict[str, set[str]] = defaultdict(set)
    for facts in host_facts(run).values():
        for name, value in flattened(facts):
            if name not in _RESTLESS:
                found[name].add(value)
    return found


def _tunings(run: RunRecord) -> Iterator[Mapping[str, object]]:
    tunings = (environment.provenance.get("tuning") for environment in run.environments)
    yield from (tuning for tuning in (run.provenance.get("tuning"), *tunings) if tuning)


def _of_engines(first: RunRecord, second: RunRecord) -> Iterator[Condition]:
    def engines(run: RunRecord) -> str:
        loads = (trial.load for trial in run.trials if trial.load is not None)
        return _told({f"{load.engine} (interface {load.engine_abi}), Locust {load.locust_version}" for load in loads})

    yield Condition("load engine", engines(first), engines(second), True)
    for fact in ("meshgauge", "revision"):
        values = [str(run.provenance.get(fact) or ABSENT) for run in (first, second)]
        yield Condition("Meshgauge" if fact == "meshgauge" else fact, values[0], values[1], False)


def _of_plans(first: RunRecord, second: RunRecord) -> Iterator[Condition]:
    yield Condition(
        "plan",
        f"{first.plan.name} ({first.plan_sha256[:12]})",
        f"{second.plan.name} ({second.plan_sha256[:12]})",
        False,
    )
    for field in _PLAN_FIELDS:
        values = [_spelt(getattr(run.plan, field)) for run in (first, second)]
        yield Condition(f"plan: {field}", values[0], values[1], field == "baseline")


def _of_configurations(first: RunRecord, second: RunRecord, matches: Sequence[Match]) -> Iterator[Condition]:
    for match in matches:
        ours = dict(flattened(first.features.get(match.first.cell.environment.key, {})))
        theirs = dict(flattened(second.features.get(match.second.cell.environment.key, {})))
        for name, value in ours.items():
            if name in theirs:
                what = f"{match.pair.label}: {name.replace('_', ' ').replace('.', ' ')}"
                yield Condition(what, value, theirs[name], True)
        windows = [
            f"{pair.cell.load.warm_up_s:g} s, {pair.cell.load.window_s:g} s" for pair in (match.first, match.second)
        ]
        yield Condition(f"load {match.pair.scope.load}: warm-up, window", windows[0], windows[1], False)


def _told(values: set[str] | None) -> str:
    return ", ".join(sorted(values)) if values else ABSENT


def _spelt(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    fields = getattr(value, "model_dump", None)
    return ", ".join(f"{name} {limit:g}" for name, limit in fields().items()) if fields else str(value)
