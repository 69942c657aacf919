"""Helm as a program on PATH, versions 3 and 4: for hosts without the SDK wheel."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from adapters.kubernetes.api import Cluster, Manifest
from adapters.kubernetes.helm import crds
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion, Deployed
from adapters.kubernetes.helm.failures import failure, tail
from adapters.kubernetes.helm.manifests import manifests
from adapters.kubernetes.helm.process import GRACE_S, HELMS_SHARE, READ_TIMEOUT_S, environment, tethered
from adapters.kubernetes.helm.records import uninstalled
from adapters.kubernetes.helm.remote import on_this_host, shown, versions
from adapters.kubernetes.helm.tether import NOT_STARTED
from meshgauge.errors import ConfigurationError, EnvironmentUpError

# NAME-VERSION, where both may hold hyphens: a version begins with three numbers.
_CHART: Final = re.compile(r"^(?P<name>.+?)-(?P<version>v?\d+\.\d+\.\d+.*)$")
_NO_RELEASE: Final = "release: not found"
_PAGE: Final = 256
# ``--all`` says this in Helm 3 and is gone from Helm 4.
_STATES: Final = ("--deployed", "--failed", "--pending", "--uninstalling", "--uninstalled")


class BinaryBackend:
    """Helm through its command line. Without ``--wait`` both versions wait for hooks alone, which is what we want."""

    name = "binary"

    def __init__(self, program: str) -> None:
        self._program = program

    def version(self) -> str:
        """Return the program's version, ``4.2.3``."""
        return self._run(("version", "--template", "{{.Version}}"), "helm version").strip().lstrip("v")

    def versions(self, source: ChartSource) -> Sequence[ChartVersion]:
        """Return what there is of a chart, newest first; read by us, not by Helm."""
        return versions(source)

    def render(self, release: ChartRelease, kube_version: str) -> Sequence[Manifest]:
        """Return the objects the chart makes on ``kube_version``, its ``crds/`` first, hooks aside."""
        with on_this_host(release) as chart:
            flags = ("--kube-version", kube_version, "--no-hooks")
            said = self._on_chart("template", release, chart, flags, {}, READ_TIMEOUT_S)
            first = [] if release.skip_crds else crds.of(chart)
            return [*first, *manifests(said)]

    def install(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Install and return the objects made, hooks and ``crds/`` aside."""
        with on_this_host(release) as chart:
            if not release.skip_crds:
                crds.bring(cluster, chart, timeout_s, renew=False)
            return self._lay("install", cluster, release, chart, ("--create-namespace", "--skip-crds"), timeout_s)

    def upgrade(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Upgrade in place, CRDs included; values are the release's own, none of the earlier ones."""
        with on_this_host(release) as chart:
            if not release.skip_crds:
                crds.bring(cluster, chart, timeout_s, renew=True)
            flags = ("--skip-crds", "--reset-values", "--history-max", "2")
            return self._lay("upgrade", cluster, release, chart, flags, timeout_s)

    def _lay(
        self,
        verb: str,
        cluster: Cluster,
        release: ChartRelease,
        chart: Path,
        flags: Sequence[str],
        timeout_s: float,
    ) -> Sequence[Manifest]:
        flags = (*flags, "--timeout", f"{math.ceil(timeout_s)}s", "--output", "json")
        said = self._on_chart(verb, release, chart, flags, cluster.helm_environment(), timeout_s + GRACE_S)
        return manifests(_json(said, f"helm {verb} {release.name}").get("manifest", ""))

    def uninstall(self, cluster: Cluster, name: str, namespace: str, timeout_s: float) -> bool:
        """Remove the release, whatever its state, and wait for its objects to go; see ``records`` for the rest."""
        limit = f"{math.ceil(timeout_s * HELMS_SHARE)}s"
        argv = ("uninstall", name, "--namespace", namespace, "--wait", "--timeout", limit)
        what = f"helm uninstall {name} (namespace {namespace})"

        def uninstall() -> bool:
            try:
                self._run(argv, what, cluster.helm_environment(), limit_s=timeout_s * HELMS_SHARE + GRACE_S)
            except _NoReleaseError:
                return False
            return True

        return uninstalled(uninstall, cluster, name, namespace, timeout_s * (1 - HELMS_SHARE))

    def releases(self, cluster: Cluster) -> Sequence[Deployed]:
        """Return every release in every namespace, in whatever state."""
        found: list[Deployed] = []
        while True:
            page = ("--max", str(_PAGE), "--offset", str(len(found)), "--output", "json")
            said = self._run(("list", "--all-namespaces", *_STATES, *page), "helm list", cluster.helm_environment())
            listed = _json(said, "helm list")
            found += [_deployed(one) for one in listed]
            if len(listed) < _PAGE:
                return found

    def _on_chart(
        self,
        verb: str,
        release: ChartRelease,
        chart: Path,
        flags: Sequence[str],
        cluster: Mapping[str, str],
        limit_s: float,
    ) -> str:
        """Run a verb on a chart that lies on this host; values go in over stdin."""
        what = f"helm {verb} {release.name} (chart {shown(release.source)}, namespace {release.namespace})"
        argv = (verb, release.name, str(chart), "--namespace", release.namespace, "--values", "-", *flags)
        return self._run(argv, what, cluster, release.values, limit_s)

    def _run(
        self,
        arguments: Sequence[str],
        what: str,
        cluster: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
        limit_s: float = READ_TIMEOUT_S,
    ) -> str:
        """Run the program and return its stdout.

        Raises:
            _NoReleaseError: there is no such release.
            EnvironmentUpError, ServiceUnavailableError, ConfigurationError: see ``failure``.
        """
        try:
            ended = subprocess.run(
                tethered((self._program, *arguments)),
                input=json.dumps(values or {}),
                capture_output=True,
                text=True,
                env=environment(cluster or {}),
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentUpError(f"{what} did not end within {limit_s:g} s and was killed") from error
        if ended.returncode == 0:
            return ended.stdout
        if ended.returncode == NOT_STARTED:
            raise ConfigurationError(f"Helm cannot be started: {tail(ended.stderr)}")
        if _NO_RELEASE in ended.stderr:
            raise _NoReleaseError
        raise failure(what, ended.stderr or ended.stdout, values)


class _NoReleaseError(Exception):
    """There is no release of that name."""


def _json(said: str, what: str) -> Any:
    try:
        return json.loads(said)
    except ValueError as error:
        raise EnvironmentUpError(f"{what} answered no JSON: {tail(said[:200])}") from error


def _deployed(one: Mapping[str, str]) -> Deployed:
    chart = _CHART.match(one["chart"])
    return Deployed(
        name=one["name"],
        namespace=one["namespace"],
        chart=chart["name"] if chart else one["chart"],
        chart_version=chart["version"] if chart else "",
        app_version=one.get("app_version", ""),
        revision=int(one["revision"]),
        status=one["status"],
    )
