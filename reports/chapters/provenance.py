"""Provenance: what was run, where, with which binaries, so that anybody can do it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshgauge.run import RunRecord
from reports.analysis import Analysis
from reports.chapters.asking import listed
from reports.chapters.grids import texts
from reports.comparing.questions import without_control
from reports.pages.chapter import Chapter, Grid, Heading, Part, Text
from reports.provenance import changed_environments, flattened, host_facts, made_by

COLUMNS = ("fact", "value")
MOST_ENVIRONMENTS = 60  # their facts repeat from scope to scope; all are in the run's JSON
_HASH = 12


def provenance_chapter(analysis: Analysis) -> Chapter:
    """Return the provenance of a run."""
    run = analysis.run
    return Chapter("provenance", "Provenance: how these numbers were made", _answer(run), tuple(_parts(run)))


def _answer(run: RunRecord) -> str:
    hosts = sorted({environment.host for environment in run.environments} | set(host_facts(run)))
    where = f"on {listed(hosts)}" if hosts else "on no host yet"
    made = f"Meshgauge {made_by(run) or '(version not recorded)'}"
    changed = changed_environments(run)
    same = (
        f"{len(changed)} environment{'s' if len(changed) > 1 else ''} changed between blocks and got no verdict"
        if changed
        else "nothing is known to have changed between its blocks"
        if len({e.block for e in run.environments}) > 1
        else "there are not yet two blocks to compare"
    )
    return (
        f"Plan {run.plan.name} ({run.plan_sha256[:_HASH]}), seed {run.seed}, {where}, with {made}; "
        f"{same}. The same plan and seed repeat it."
    )


def _parts(run: RunRecord) -> Iterator[Part]:
    yield _table("run", "This run", dict(_run_facts(run)))
    changed = changed_environments(run)
    if changed:
        yield Text(tuple(f"No verdict where {sentence}." for sentence in changed.values()), "warning")
    arms = {
        arm.label: ", ".join(
            f"{h.role} {h.adapter} {h.version}{f' from {h.binary}' if h.binary else ''}" for h in arm.hops
        )
        or "no proxy on the path"
        for arm in run.arms
    }
    yield _table("arms", "What was compared, versions as fixed when the run was submitted", arms)
    if run.skipped:
        rows = tuple(texts(s.mesh, s.profile, s.infrastructure, s.reason) for s in run.skipped)
        yield Grid("skipped", "Left out of the matrix", ("mesh", "profile", "infrastructure", "why"), rows)
    alone = without_control(run)
    if alone:
        yield Text((f"No baseline cell to compare with: {listed([cell.key for cell in alone])}.",), "info")
    hosts = host_facts(run)
    if hosts:
        yield Heading("Hosts", "hosts")
    for at, (name, facts) in enumerate(sorted(hosts.items()), 1):
        yield _table(f"host-{at}", f"Host {name}", dict(flattened(facts)))
    yield from _environments(run)


def _run_facts(run: RunRecord) -> Iterator[tuple[str, str]]:
    yield "run", run.run_id
    yield "plan", run.plan.name
    yield "sha256 of the plan's text", run.plan_sha256
    yield "seed of all orders", str(run.seed)
    yield "state", f"{run.state}{f': {run.reason}' if run.reason else ''}"
    yield "blocks", f"{run.plan.blocks} planned, {run.blocks} ordered"
    yield "submitted", f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC by {run.submitted_by}"
    yield "started", f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC" if run.started_at else "not yet"
    yield "finished", f"{run.finished_at:%Y-%m-%d %H:%M:%S} UTC" if run.finished_at else "not yet"
    engines = sorted(
        {
            f"{trial.load.engine}{f' ABI {trial.load.engine_abi}' if trial.load.engine_abi else ''}, "
            f"Locust {trial.load.locust_version}"
            for trial in run.trials
            if trial.load is not None
        }
    )
    yield "load engine", listed(engines) if engines else "no trial measured"
    yield from flattened({name: fact for name, fact in run.provenance.items() if name != "hosts"})


def _environments(run: RunRecord) -> Iterator[Part]:
    newest = {e.key: e.provenance for e in run.environments if e.provenance}
    if not newest:
        return
    yield Heading("Environments: binaries and settings", "environments")
    if len(newest) > MOST_ENVIRONMENTS:
        yield Text(
            (
                f"The first {MOST_ENVIRONMENTS} of {len(newest)} environments are shown; "
                "the others are in the run's JSON export.",
            ),
            "info",
        )
    for at, (key, facts) in enumerate(list(newest.items())[:MOST_ENVIRONMENTS], 1):
        own = {name: fact for name, fact in facts.items() if name != "host"}
        yield _table(f"environment-{at}", key, dict(flattened(own)), folded=True)


def _table(name: str, title: str, facts: Mapping[str, str], *, folded: bool = False) -> Grid:
    return Grid(name, title, COLUMNS, tuple(texts(fact, value) for fact, value in facts.items()), folded=folded)
