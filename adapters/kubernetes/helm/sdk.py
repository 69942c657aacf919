"""Helm as a library: the ``helm-python-sdk`` wheel (Helm 4), in a child process for every call.

A child, because the library cannot be cancelled from Python's side, takes 54 MiB and is alpha: its crash, its hang
and its threads stay outside the worker. A call takes 0.1-0.2 s more than the library needs
(measured: ``version`` on the machines this was built on).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.kubernetes.api import Cluster, Manifest
from adapters.kubernetes.helm import archive, crds
from adapters.kubernetes.helm.contract import ChartRelease, ChartSource, ChartVersion, Deployed
from adapters.kubernetes.helm.failures import failure, tail, without_secrets
from adapters.kubernetes.helm.manifests import manifests
from adapters.kubernetes.helm.process import GRACE_S, HELMS_SHARE, READ_TIMEOUT_S, environment
from adapters.kubernetes.helm.records import uninstalled
from adapters.kubernetes.helm.remote import on_this_host, shown, versions
from meshgauge.errors import ConfigurationError, EnvironmentUpError, ServiceUnavailableError

_Order = dict[str, Any]


class SdkBackend:
    """Helm through its Go library. Safe to share between threads: it holds nothing."""

    name = "sdk"

    def version(self) -> str:
        """Return the version of the Helm library, ``4.2.3``."""
        said: str = _child({"do": "version"}, "helm version", {}, READ_TIMEOUT_S)
        return said.lstrip("v")

    def versions(self, source: ChartSource) -> Sequence[ChartVersion]:
        """Return what there is of a chart, newest first."""
        return versions(source)

    def render(self, release: ChartRelease, kube_version: str) -> Sequence[Manifest]:
        """Return the objects the chart makes on ``kube_version``, its ``crds/`` first, hooks aside."""
        order = {"do": "render", "kube_version": kube_version}
        with on_this_host(release) as chart:
            with _without_crds(chart) as bare:
                answer = _on_chart(order, release, bare, {}, READ_TIMEOUT_S)
            first = [] if release.skip_crds else crds.of(chart)
            return [*first, *manifests(answer["manifest"])]

    def install(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Install and return the objects made, hooks and ``crds/`` aside."""
        with on_this_host(release) as chart:
            if not release.skip_crds:
                crds.bring(cluster, chart, timeout_s, renew=False)
            with _without_crds(chart) as bare:
                return self._lay("install", cluster, release, bare, timeout_s)

    def upgrade(self, cluster: Cluster, release: ChartRelease, timeout_s: float) -> Sequence[Manifest]:
        """Upgrade in place, CRDs included; values are the release's own, none of the earlier ones."""
        with on_this_host(release) as chart:
            if not release.skip_crds:
                crds.bring(cluster, chart, timeout_s, renew=True)
            return self._lay("upgrade", cluster, release, chart, timeout_s)

    def _lay(
        self, do: str, cluster: Cluster, release: ChartRelease, chart: Path, timeout_s: float
    ) -> Sequence[Manifest]:
        order = {"do": do, "timeout_s": math.ceil(timeout_s)}
        answer = _on_chart(order, release, chart, cluster.helm_environment(), timeout_s + GRACE_S)
        return manifests(answer["manifest"])

    def uninstall(self, cluster: Cluster, name: str, namespace: str, timeout_s: float) -> bool:
        """Remove the release, whatever its state, and wait for its objects to go; see ``records`` for the rest."""
        order = {
            "do": "uninstall",
            "name": name,
            "namespace": namespace,
            "timeout_s": math.ceil(timeout_s * HELMS_SHARE),
        }
        what = f"helm uninstall {name} (namespace {namespace})"

        def uninstall() -> bool:
            try:
                _child(order, what, cluster.helm_environment(), timeout_s * HELMS_SHARE + GRACE_S)
            except _NotFoundError:
                return False
            return True

        return uninstalled(uninstall, cluster, name, namespace, timeout_s * (1 - HELMS_SHARE))

    def releases(self, cluster: Cluster) -> Sequence[Deployed]:
        """Return every release in every namespace, in whatever state."""
        found: list[_Order] = _child({"do": "releases"}, "helm list", cluster.helm_environment(), READ_TIMEOUT_S)
        return [
            Deployed(
                name=one["name"],
                namespace=one["namespace"],
                chart=one.get("chart_name", ""),
                chart_version=one.get("chart_version", ""),
                app_version=one.get("app_version", ""),
                revision=one["revision"],
                status=one["status"],
            )
            for one in found
        ]


class _NotFoundError(Exception):
    """There is no release of that name."""


@contextlib.contextmanager
def _without_crds(chart: Path) -> Iterator[Path]:
    """Yield the chart without its ``crds/``: the library has no option to leave them alone."""
    with tempfile.TemporaryDirectory(prefix="meshgauge-chart-") as folder:
        yield archive.without_crds(chart, Path(folder))


def _on_chart(order: _Order, release: ChartRelease, chart: Path, cluster: Mapping[str, str], limit_s: float) -> Any:
    what = f"helm {order['do']} {release.name} (chart {shown(release.source)}, namespace {release.namespace})"
    order |= {"chart": str(chart), "name": release.name, "namespace": release.namespace}
    order["values"] = dict(release.values)
    return _child(order, what, cluster, limit_s)


def _child(order: _Order, what: str, cluster: Mapping[str, str], limit_s: float) -> Any:
    """Run one order in a child process of its own.

    Raises:
        _NotFoundError: the release is not there.
        EnvironmentUpError, ServiceUnavailableError, ConfigurationError: see ``failure``.
    """
    values = order.get("values", {})
    argv = (sys.executable, "-m", "adapters.kubernetes.helm.sdk_child", str(os.getpid()))
    try:
        ended = subprocess.run(
            argv,
            input=json.dumps(order),
            capture_output=True,
            text=True,
            env=environment(cluster),
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentUpError(
            f"{what} did not end within {limit_s:g} s and was killed: uninstall the release before it is tried again. "
            f"Helm's log: {tail(without_secrets(_text(error.stderr), values)) or 'empty'}"
        ) from error
    if ended.returncode != 0 or not ended.stdout:
        raise _died(what, ended, values)
    answer = json.loads(ended.stdout)
    if "ok" in answer:
        return answer["ok"]
    if answer["error"] == "HelmNotFoundError":
        raise _NotFoundError
    raise _refusal(what, answer, ended.stderr, values)


def _refusal(what: str, answer: Mapping[str, str], log: str, values: Mapping[str, Any]) -> Exception:
    said = tail(without_secrets(answer["said"], values))
    if answer["error"] in {"HelmChartLoadError", "HelmChartInvalidError"}:
        return ConfigurationError(f"{what}: this is no chart Helm can read: {said}")
    if answer["error"] == "HelmKubeError" and "forbidden" not in said.lower():
        return ServiceUnavailableError(f"{what}: the API server does not answer. Helm said: {said}")
    return failure(what, f"{log.strip()}\n{answer['said']}", values)


def _died(what: str, ended: subprocess.CompletedProcess[str], values: Mapping[str, Any]) -> Exception:
    how = f"was killed by signal {-ended.returncode}" if ended.returncode < 0 else f"ended with {ended.returncode}"
    log = tail(without_secrets(ended.stderr, values))
    return EnvironmentUpError(f"{what}: Helm's process {how}. Its log: {log or 'empty'}")


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""
