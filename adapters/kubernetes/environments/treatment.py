"""Was the mesh really there? Checks of one environment in a cluster around each trial (measurement.md 5). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from adapters.contract import Check
from adapters.kubernetes.api import Manifest
from adapters.kubernetes.environments.pods import containers_of, name_of
from adapters.kubernetes.mesh import Containers, Passage
from meshgauge.matrix import Role

# Kubelets' probes, and requests that were on their way while the counters were read, may be counted or not.
COUNT_TOLERANCE_RATIO: Final = 0.01
COUNT_TOLERANCE: Final = 100

_DEVIATIONS: Final = 5
_SURELY_SOME: Final = 14.0  # exp(-14) is 8e-7

_SHOWN: Final = 3  # pods named in one sentence

Side = Literal["app", "load"]
SIDES: Final[Mapping[Role, Side]] = {"server": "app", "client": "load"}


@dataclass(frozen=True, slots=True)
class Expected:
    """The containers each side's pods have to carry.

    Attributes:
        own: names the pods were made with.
        data_plane: names the mesh has to have put beside them, none for the baseline.
    """

    own: Mapping[Side, frozenset[str]]
    data_plane: Mapping[Side, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, own: Mapping[Side, frozenset[str]], containers: Iterable[Containers], namespace: str) -> Expected:
        """Return what the mesh's own word on its ``containers`` means for an environment's pods."""
        data_plane: dict[Side, frozenset[str]] = {}
        for group in containers:
            side = SIDES.get(group.role) if group.role else None
            if side is not None and (group.namespace or namespace) == namespace and not group.labels:
                data_plane[side] = data_plane.get(side, frozenset()) | frozenset(group.names)
        return cls(own, data_plane)


def check_containers(side: Side, pods: Sequence[Manifest], expected: Expected) -> Check:
    """Return whether every pod of a side carries exactly the data plane it should, or none."""
    proxies = expected.data_plane.get(side, frozenset())
    wanted = f"{', '.join(sorted(proxies))} beside each" if proxies else "no proxy beside any"
    wrong = []
    for pod in pods:
        beside = containers_of(pod) - expected.own.get(side, frozenset())
        if beside != proxies:
            wrong.append(f"{name_of(pod)}: {', '.join(sorted(beside)) or 'none'}")
    seen = "; ".join(wrong[:_SHOWN]) if wrong else f"so in {len(pods)} pods"
    return Check(f"data_plane/{side}", bool(pods) and not wrong, wanted, seen if pods else "no pod runs")


def check_losses(losses: Sequence[str]) -> Check:
    """Return whether nothing restarted or went since the environment came up."""
    return Check("restarts", not losses, "none", "; ".join(losses[:_SHOWN]) or "none")


@dataclass(frozen=True, slots=True)
class Counts:
    """What all proxies of one role counted together; None: none of them counts it."""

    requests: float | None = None
    connections: float | None = None
    encrypted: float | None = None
    retries: float | None = None


def since(before: Mapping[str, Passage], after: Mapping[str, Passage]) -> Counts:
    """Return what the proxies of one role counted between two readings, both by pod.

    A pod that was not there before began at zero. One that has gone since took its counts along: then nothing is known.
    """
    if before.keys() - after.keys():
        return Counts()

    def total(name: str) -> float | None:
        known = [(getattr(after[pod], name), getattr(before.get(pod, Passage()), name) or 0.0) for pod in after]
        values = [now - then for now, then in known if now is not None]
        return sum(values) if values and len(values) == len(known) else None

    return Counts(total("requests"), total("connections"), total("encrypted"), total("retries"))


def check_counts(role: Role, counts: Counts, requests_sent: int, *, mtls: bool) -> Iterator[Check]:
    """Yield whether the proxies of one role passed what was sent, encrypted as ordered and never twice.

    Args:
        requests_sent: warm-up and cool-down included.
    """
    where = f"data_plane/{role}"
    slack = max(COUNT_TOLERANCE, COUNT_TOLERANCE_RATIO * requests_sent)
    if counts.requests is not None:
        right = abs(counts.requests - requests_sent) <= slack
        yield Check(f"{where}: requests", right, f"{requests_sent} within {slack:.0f}", f"{counts.requests:.0f}")
    elif counts.connections is not None:
        right = counts.connections > 0
        yield Check(f"{where}: connections", right, "more than before", f"{counts.connections:.0f} more")
    else:
        yield Check(f"{where}: requests", False, f"{requests_sent} within {slack:.0f}", "not counted")
    yield from _check_encryption(where, counts, mtls=mtls)
    if counts.retries is not None:
        yield Check(f"{where}: retries", counts.retries == 0, "0", f"{counts.retries:.0f}")


def _check_encryption(where: str, counts: Counts, *, mtls: bool) -> Iterator[Check]:
    carried = counts.requests if counts.requests is not None else counts.connections
    if counts.encrypted is None or carried is None:
        return
    # Both come from one reading of one proxy, so no tolerance; what else it counted in plaintext was no load of ours.
    expected = carried if mtls else 0
    plain = max(0.0, carried - counts.encrypted)
    right = (plain <= COUNT_TOLERANCE and counts.encrypted > 0) if mtls else counts.encrypted == 0
    yield Check(f"{where}: encrypted", right, f"{expected:.0f}", f"{counts.encrypted:.0f}")


def check_sync(role: Role, passages: Mapping[str, Passage]) -> Check | None:
    """Return whether all proxies of a role took what their control plane told them; None: they do not say."""
    known = {pod: passage.in_sync for pod, passage in passages.items() if passage.in_sync is not None}
    if not known:
        return None
    late = sorted(pod for pod, is_in_sync in known.items() if not is_in_sync)
    seen = f"{len(known) - len(late)} of {len(known)}"
    return Check(
        f"data_plane/{role}: in sync", not late, f"{len(known)} of {len(known)}",
        f"{seen}; not {', '.join(late[:_SHOWN])}" if late else seen,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SpanOrder:
    """What the profile asks proxies to report.

    Attributes:
        ratio: share of requests that every proxy reports one span for.
        held: the most spans one proxy keeps to itself for a while.
        is_exact: whether nothing but our requests passes the proxies; parts of an application call each other, too.
    """

    ratio: float
    held: int
    is_exact: bool = True


def check_spans(role: Role, spans: int, requests_sent: int, order: SpanOrder, proxies: int) -> Check:
    """Return whether the spans of one role are as many as sampling ``requests_sent`` requests gives.

    Each request is drawn by itself, so the count is binomial: within five standard deviations in all but one of
    1.7 million trials, and 0 as rarely once 14 are expected. What proxies still hold, or held when the trial began, and
    the requests that :func:`check_counts` does not mind either, come on top.

    Args:
        spans: that came since the trial began.
        proxies: of this role.
    """
    mean = requests_sent * order.ratio
    deviation = math.sqrt(mean * (1 - order.ratio))
    unclear = max(COUNT_TOLERANCE, COUNT_TOLERANCE_RATIO * requests_sent) * order.ratio
    slack = _DEVIATIONS * deviation + unclear + order.held * proxies
    least = max(mean - slack, 1.0 if mean >= _SURELY_SOME else 0.0)
    if order.is_exact:
        right, expected = least <= spans <= mean + slack, f"{least:.0f} to {mean + slack:.0f}"
    else:
        right, expected = least <= spans, f"at least {least:.0f}"
    return Check(f"data_plane/{role}: spans", right, expected, str(spans))


def check_mtls_is_proven(proofs: Mapping[Role, Counts], plaintext: Check | None) -> Check | None:
    """Return a failed check when nothing at all speaks for mutual TLS: no proxy counts it, no refusal was seen."""
    if any(counts.encrypted is not None for counts in proofs.values()) or plaintext is not None:
        return None
    return Check("mtls", False, "counted by a proxy, or plaintext refused", "no proxy counts it, and nobody looked")
