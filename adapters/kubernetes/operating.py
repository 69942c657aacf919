"""One step of a mesh's life on its own: installed to stay, configured, verified, upgraded, removed; or a clean-up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapters import registry
from adapters.contract import Check
from adapters.kubernetes.api import Cluster
from adapters.kubernetes.choosing import chosen_placement, chosen_profile
from adapters.kubernetes.helm.backend import backend
from adapters.kubernetes.helm.contract import HelmBackend
from adapters.kubernetes.lifecycle import LifeOrder, MeshLife
from adapters.kubernetes.mesh import KubernetesMesh
from adapters.kubernetes.server.connection import connect
from adapters.kubernetes.traces.ledger import Ledger, Owner, find, ledgers
from adapters.kubernetes.traces.sweep import clean, remains
from adapters.operating import OperationOrder, Report
from meshgauge.errors import ConfigurationError
from meshgauge.operations import OperationRequest
from meshgauge.selectors import resolve_selector


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation happens: one API server and Helm."""

    cluster: Cluster
    helm: HelmBackend
    order: OperationOrder
    report: Report

    @property
    def request(self) -> OperationRequest:
        """What was asked for."""
        return self.order.request

    @property
    def mesh(self) -> KubernetesMesh:
        """The mesh that was named."""
        return registry.kubernetes_mesh(self.request.adapter or "")

    def life(self, owner: Owner, version: str) -> MeshLife:
        """Return the named mesh's life under ``owner``."""
        request, mesh = self.request, self.mesh
        placement = chosen_placement(request, mesh)
        order = LifeOrder(
            owner=owner,
            mesh=mesh,
            version=version,
            profile=chosen_profile(request, mesh, placement),
            placement=placement,
            infrastructure=request.infrastructure,
            namespace=f"meshgauge-{mesh.name}",
            has_workload=False,
        )
        return MeshLife(self.cluster, self.helm, order, self.order.cache_dir, self.report.line)

    def resolved_version(self) -> str:
        """Return the exact version the request means."""
        provider = registry.provider("kubernetes", self.order.cache_dir)
        return resolve_selector(self.request.version, provider.versions(self.mesh.name, self.request.infrastructure))

    def standing(self) -> Ledger:
        """Return the record of the named mesh, installed to stay by an earlier operation of this installation.

        Raises:
            ConfigurationError: there is none; names what there is.
        """
        kept = [ledger for ledger in ledgers(self.cluster, self.order.site) if ledger.stays]
        found = next((ledger for ledger in kept if ledger.undertaking.mesh == self.mesh.name), None)
        if found is None:
            there = ", ".join(f"{one.undertaking.mesh} {one.undertaking.version}" for one in kept) or "nothing"
            raise ConfigurationError(
                f"{self.mesh.title} was not installed in cluster {self.cluster.name} by Meshgauge "
                f"({there} was): meshgauge mesh install {self.mesh.name}"
            )
        return found


def operate(order: OperationOrder, report: Report) -> Mapping[str, Any]:
    """Carry out one operation in a cluster; return what is worth keeping.

    Raises:
        MeshgaugeError: it did not work. What was half installed carries this epoch, and the next sweep removes it.
    """
    with _place(order, report) as place:
        return _STEPS[order.request.action](place)


@contextlib.contextmanager
def _place(order: OperationOrder, report: Report) -> Iterator[Place]:
    cluster = connect(order.request.cluster.context)
    try:
        yield Place(cluster, backend(), order, report)
    finally:
        cluster.close()


def _install(place: Place) -> Mapping[str, Any]:
    """Install a mesh that stays. Until its record says so, in the last step, a sweep takes it for a leftover."""
    owner = Owner(place.order.site, place.order.epoch, place.order.operation_id)
    version = place.resolved_version()
    life = place.life(owner, version)
    place.report.phase("preflight")
    life.preflight()
    place.report.phase("install")
    life.install()
    place.report.phase("configure")
    life.configure()
    life.settle()
    ledger = find(place.cluster, owner)
    if ledger is None:
        raise ConfigurationError(f"the record of what was installed is gone from cluster {place.cluster.name}")
    ledger.stay()
    return {"version": version, "provenance": dict(life.provenance())}


def _configure(place: Place) -> Mapping[str, Any]:
    ledger = place.standing()
    place.report.phase("configure")
    life = place.life(ledger.owner, ledger.undertaking.version)
    life.configure()
    life.settle()
    return {"version": ledger.undertaking.version}


def _verify(place: Place) -> Mapping[str, Any]:
    ledger = place.standing()
    place.report.phase("verify")
    version = ledger.undertaking.version
    checks = place.life(ledger.owner, version).verify()
    for check in checks:
        place.report.line(_told(check))
    found: dict[str, Any] = {"version": version, "checks": [check.name for check in checks]}
    failed = [_told(check) for check in checks if not check.passed]
    return {**found, "failed": "; ".join(failed)} if failed else found


def _told(check: Check) -> str:
    said = "holds" if check.passed else "FAILS"
    return f"{check.name} {said}: expected {check.expected}; saw {check.seen}"


def _upgrade(place: Place) -> Mapping[str, Any]:
    ledger = place.standing()
    before, version = ledger.undertaking.version, place.resolved_version()
    place.report.phase("upgrade")
    place.report.line(f"{place.mesh.title} {before} to {version}")
    place.life(ledger.owner, before).upgrade(version)
    _note_version(place.cluster, ledger.owner, version)
    return {"from": before, "version": version}


def _note_version(cluster: Cluster, owner: Owner, version: str) -> None:
    """Write into the record which version stands now: later operations go by it."""
    ledger = find(cluster, owner)
    if ledger is not None:
        ledger.undertaking = replace(ledger.undertaking, version=version)
        ledger.write()


def _uninstall(place: Place) -> Mapping[str, Any]:
    """Remove a mesh that stayed. From the first step on it is a leftover: cut off in the middle, a sweep goes on."""
    ledger = place.standing()
    place.report.phase("uninstall")
    ledger.leave()
    place.life(ledger.owner, ledger.undertaking.version).uninstall()
    return {"version": ledger.undertaking.version}


def _clean(place: Place) -> Mapping[str, Any]:
    place.report.phase("look")
    found = list(remains(place.cluster))
    for line in found:
        place.report.line(line)
    if place.request.dry_run:
        return {"found": found}
    place.report.phase("clean")
    return {"removed": list(clean(place.cluster, place.helm, place.report.line))}


_STEPS: Mapping[str, Callable[[Place], Mapping[str, Any]]] = {
    "install": _install,
    "configure": _configure,
    "verify": _verify,
    "upgrade": _upgrade,
    "uninstall": _uninstall,
    "clean": _clean,
}


def upgraded_in_place(order: OperationOrder, before: str, after: str, report: Report) -> list[Check]:
    """Install ``before``, take it to ``after``, verify each, remove it; return the checks. For the contract suite.

    Raises:
        MeshgaugeError: a step did not work.
    """
    with _place(order, report) as place:
        life = place.life(Owner(order.site, order.epoch, f"{order.operation_id}-upgrade"), before)
        try:
            life.preflight()
            life.install()
            life.configure()
            life.settle()
            checks = list(life.verify())
            life.upgrade(after)
            return [*checks, *life.verify()]
        finally:
            life.uninstall()


def server_of(order: OperationOrder) -> str:
    """Return where the suite ran, in words."""
    cluster = connect(order.request.cluster.context)
    try:
        return f"kubernetes {cluster.version()}"
    finally:
        cluster.close()
