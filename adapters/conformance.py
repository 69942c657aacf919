"""The contract suite as a program: one adapter at one version, on any provider, each check with its outcome."""

from __future__ import annotations

import datetime as dt
import http.client
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters import registry
from adapters.contract import FEATURES, Check, Endpoint, Environment, EnvironmentOrder, Provider
from adapters.operating import Drive, OperationOrder, Report
from meshgauge.conformance import CheckOutcome, ConformanceCheck, ConformanceResult
from meshgauge.errors import (
    ConfigurationError,
    InvalidPlanError,
    MeshgaugeError,
    ServiceUnavailableError,
    UnsupportedError,
)
from meshgauge.matrix import EnvironmentKey, Hop, MeshArm, Workload
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile
from meshgauge.revision import revision
from meshgauge.selectors import ROLES, resolve_selector
from meshgauge.workloads import Workload as WorkloadSpec

REQUESTS: Final = 50  # sent through the mesh, and found again in its proxies' counters
CONNECTIONS: Final = 2
_ANSWER_S: Final = 15.0
_SHOWN: Final = 3  # failures named in one sentence

# An index or an API server that is away, a setting that is missing: they say nothing about the adapter, so there is no
# result rather than a bad one.
_NO_ANSWER: Final = (ServiceUnavailableError, ConfigurationError)

WORKLOAD: Final = WorkloadSpec(name="conformance", app="fixed-reply", reply_bytes=1024)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked: one adapter at one version, in one placement, on one provider."""

    arm: MeshArm
    provider: Provider
    order: OperationOrder
    drive: Drive | None

    def key(self, profile: Profile) -> EnvironmentKey:
        """Return the environment of ``profile``."""
        workload = Workload(WORKLOAD.name, WORKLOAD, None)
        return EnvironmentKey(self.arm, profile, workload, self.order.request.infrastructure)


class Findings:
    """The checks so far; each is told as it is made."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.checks: list[ConformanceCheck] = []

    def add(self, name: str, outcome: CheckOutcome, sentence: str) -> None:
        """Note one check."""
        self.checks.append(ConformanceCheck(name, outcome, sentence))
        self.report.line(f"{name}: {outcome}, {sentence}")

    def judge(self, name: str, passed: bool, sentence: str) -> None:
        """Note one check that passed or failed."""
        self.add(name, "pass" if passed else "fail", sentence)

    def judge_all(self, name: str, checks: Sequence[Check]) -> None:
        """Note the treatment's own checks as one: it passes when there are some and all of them do."""
        failed = [f"{check.name}: expected {check.expected}, saw {check.seen}" for check in checks if not check.passed]
        names = ", ".join(sorted({check.name.partition("/")[0] for check in checks}))
        good = f"{len(checks)} checks hold ({names})" if checks else "nothing was checked"
        self.judge(name, bool(checks) and not failed, "; ".join(failed[:_SHOWN]) or good)


def check_adapter(order: OperationOrder, report: Report, drive: Drive | None = None) -> Mapping[str, Any]:
    """Run the suite and hand its result to ``report``; return it in short.

    ``previous`` of an adapter that has one release line only is skipped, with a reason; it is no failure.

    Raises:
        UnknownNameError: nobody registered the adapter.
        InvalidPlanError: no version fits.
        UnsupportedError: it runs in no placement here.
        ServiceUnavailableError, ConfigurationError: it cannot be checked here and now; there is no result.
    """
    request = order.request
    adapter = request.adapter or ""
    provider = registry.provider(request.provider, order.cache_dir)
    versions = provider.versions(adapter, request.infrastructure)
    try:
        version = resolve_selector(request.version, versions)
    except InvalidPlanError as error:
        if request.version != "previous":
            raise
        report.line(str(error))
        return {"skipped": f"there is no release line before the newest: {', '.join(versions[:_SHOWN])}"}
    subject = Subject(_arm(provider, order, version), provider, order, drive)
    report.line(f"{adapter} {version} in placement {subject.arm.placement}")
    findings = Findings(report)
    findings.judge("versions", version in versions, f"{version} among {len(versions)} versions, newest {versions[0]}")
    _check_features(subject, findings)
    for profile in BUILT_IN_PROFILES.values():
        report.phase(profile.name)
        _check_profile(subject, profile, findings)
    report.phase("upgrade")
    _check_upgrade(subject, version, versions, findings)
    report.phase("nothing left")
    _check_nothing_left(subject, findings)
    result = ConformanceResult(
        adapter, version, request.provider, _where(order), revision(), dt.datetime.now(dt.UTC),
        tuple(findings.checks),
    )  # fmt: skip
    report.conformance(result)
    return _summary(result)


def _summary(result: ConformanceResult) -> Mapping[str, Any]:
    counts = {outcome: [c.name for c in result.checks if c.outcome == outcome] for outcome in ("pass", "fail")}
    short: dict[str, Any] = {"version": result.version, "passed": len(counts["pass"]), "checks": len(result.checks)}
    return short if result.passed else {**short, "failed": f"checks failed: {', '.join(counts['fail'])}"}


def _arm(provider: Provider, order: OperationOrder, version: str) -> MeshArm:
    """Return the mesh in the placement asked for, else in the first of those that can do the most profiles."""
    request = order.request
    placements = (request.placement,) if request.placement else registry.PLACEMENTS
    arms = [_arm_in(placement, request.adapter or "", version) for placement in placements]
    reasons = {
        arm: [provider.unsupported(arm, profile, request.infrastructure) for profile in BUILT_IN_PROFILES.values()]
        for arm in arms
    }
    best = max(arms, key=lambda arm: reasons[arm].count(None))
    if None not in reasons[best]:
        why = "; ".join(dict.fromkeys(reason for reason in reasons[best] if reason))
        raise UnsupportedError(f"{request.adapter} {version} can do no built-in profile here: {why}")
    return best


def _arm_in(placement: Placement, adapter: str, version: str) -> MeshArm:
    return MeshArm(f"{adapter}-{version}", placement, tuple(Hop(role, adapter, version) for role in ROLES[placement]))


def _check_features(subject: Subject, findings: Findings) -> None:
    """Check that each hop says something about every feature: hidden defaults are the commonest unfairness."""
    told = subject.provider.features(subject.arm, BUILT_IN_PROFILES["plain"])
    missing = [
        f"{role} says nothing of {name}" for role, said in told.items() for name in FEATURES if not said.get(name)
    ]
    said = f"{len(FEATURES)} features told for {', '.join(told) or 'no hop'}"
    findings.judge("features", bool(told) and not missing, "; ".join(missing[:_SHOWN]) or said)


def _check_profile(subject: Subject, profile: Profile, findings: Findings) -> None:
    """Bring one environment up, look at it from all sides, and take it down."""
    request = subject.order.request
    reason = subject.provider.unsupported(subject.arm, profile, request.infrastructure)
    if reason is not None:
        findings.add(f"{profile.name}: up", "not applicable", reason)
        return
    directory = subject.order.directory / profile.name
    directory.mkdir(mode=0o700)
    environment = subject.provider.open(
        EnvironmentOrder(
            environment_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{subject.order.operation_id}/{profile.name}")),
            site=subject.order.site,
            epoch=subject.order.epoch,
            key=subject.key(profile),
            connections=CONNECTIONS,
            directory=directory,
            cache_dir=subject.order.cache_dir,
            quiet_host=False,
            load_workers=1,
            load_image=subject.order.load_image,
        )
    )
    try:
        _check_up(environment, subject, profile, findings)
    except _NO_ANSWER:
        raise
    except (MeshgaugeError, OSError) as error:
        findings.judge(f"{profile.name}: up", False, str(error))
    finally:
        _check_down(environment, profile, findings)


def _check_up(environment: Environment, subject: Subject, profile: Profile, findings: Findings) -> None:
    entry = environment.up(lambda _: None)
    findings.judge(f"{profile.name}: up", True, f"load goes to {entry}")
    before: tuple[Check, ...] = ()
    if subject.drive is not None and subject.order.request.infrastructure.brings_load_workers:
        after = tuple(subject.drive(environment, entry, subject.key(profile)))
    else:
        before = tuple(environment.verify_before())
        findings.judge_all(f"{profile.name}: traffic", before)
        answered = _send(entry, REQUESTS)
        answers = Check("answers", answered == REQUESTS, f"{REQUESTS} expected replies", str(answered))
        after = (answers, *environment.verify_after(answered))
    findings.judge_all(f"{profile.name}: counters", after)
    if profile.mtls:
        checks = (*before, *after)
        findings.judge_all(f"{profile.name}: mutual TLS", [check for check in checks if _is_of_mtls(check)])
        refused = [check for check in checks if "plaintext" in check.name]
        findings.judge_all(f"{profile.name}: plaintext refused", refused)
    lost = environment.lost_components()
    findings.judge(f"{profile.name}: stays up", not lost, "; ".join(lost) or "no component was lost")
    _check_evidence(environment, profile, findings)


def _is_of_mtls(check: Check) -> bool:
    """Return whether a check is about mutual TLS: handshakes and certificates here, counts of requests in clusters."""
    return check.name.startswith("mtls") or check.name.endswith("encrypted")


def _send(entry: Endpoint, requests: int) -> int:
    """Send requests over one connection; return how many were answered as they should be."""
    connection = http.client.HTTPConnection(entry.host, entry.port, timeout=_ANSWER_S)
    good = 0
    try:
        for _ in range(requests):
            connection.request(WORKLOAD.method, WORKLOAD.path, headers={"Host": entry.name or "meshgauge.local"})
            response = connection.getresponse()
            good += len(response.read()) == WORKLOAD.reply_bytes and response.status == WORKLOAD.expected_status
    except (OSError, http.client.HTTPException):
        return good  # the counters are compared with what was answered
    finally:
        connection.close()
    return good


def _check_evidence(environment: Environment, profile: Profile, findings: Findings) -> None:
    """Check that what was rendered is kept, and nothing secret with it."""
    artefacts, provenance = environment.artefacts(), environment.provenance()
    secret = [artefact.name for artefact in artefacts if b"PRIVATE KEY" in artefact.content]
    kept = f"{len(artefacts)} artefacts, provenance of {', '.join(sorted(provenance))}"
    sentence = f"private keys in {', '.join(secret)}" if secret else kept
    findings.judge(f"{profile.name}: configuration kept", bool(artefacts and provenance) and not secret, sentence)


def _check_down(environment: Environment, profile: Profile, findings: Findings) -> None:
    try:
        environment.down()
        environment.down()
    except (MeshgaugeError, OSError) as error:
        findings.judge(f"{profile.name}: down", False, str(error))
    else:
        findings.judge(f"{profile.name}: down", True, "taken down twice without complaint")


def _check_upgrade(subject: Subject, version: str, versions: Sequence[str], findings: Findings) -> None:
    """Take a mesh from an older version to this one while it stands."""
    name, order = "upgrade in place", subject.order
    if order.request.provider != "kubernetes":
        findings.add(name, "not applicable", "a local proxy starts anew with every environment")
        return
    try:
        older = resolve_selector(f"<{version}", versions)
    except InvalidPlanError:
        findings.add(name, "not applicable", f"there is no release before {version}")
        return
    from adapters.kubernetes.operating import upgraded_in_place  # noqa: PLC0415 - only clusters pay for the client

    try:
        checks = upgraded_in_place(order, older, version, findings.report)
    except _NO_ANSWER:
        raise
    except MeshgaugeError as error:
        findings.judge(name, False, str(error))
    else:
        findings.judge_all(name, checks)


def _check_nothing_left(subject: Subject, findings: Findings) -> None:
    """Sweep for what our environments left, as the epoch after us would: there must be nothing to find.

    A sweep spares the process that does it and those above it.
    """
    try:
        left = subject.provider.sweep(subject.order.place, subject.order.site, subject.order.epoch + 1)
    except MeshgaugeError as error:
        findings.judge("nothing left", False, str(error))
        return
    findings.judge("nothing left", not left, "; ".join(left[:_SHOWN]) or "a sweep found nothing")


def _where(order: OperationOrder) -> str:
    """Return where the suite ran, in words."""
    if order.request.provider == "kubernetes":
        from adapters.kubernetes.operating import server_of  # noqa: PLC0415 - only clusters pay for the client

        return server_of(order)
    host = platform.uname()
    system = f"{host.system} {host.release.partition('-')[0]} {host.machine}"
    return f"{order.request.provider}, {system}, {len(os.sched_getaffinity(0))} cores"
