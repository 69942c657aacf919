"""Waits by watching: until something is ready, until something is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.kubernetes.api import Cluster, ObjectRef
from adapters.kubernetes.mesh import Readiness


def wait_ready(
    cluster: Cluster, readiness: Sequence[Readiness], timeout_s: float, on_line: Callable[[str], None] = lambda _: None
) -> None:
    """Wait until all of it is ready; each is told to ``on_line`` as it becomes so.

    Raises:
        EnvironmentUpError: time is over, or waiting cannot help: says what is missing, and why as far as pods tell.
    """
    raise NotImplementedError


def wait_pods(
    cluster: Cluster,
    namespace: str,
    labels: str,
    count: int,
    timeout_s: float,
    on_line: Callable[[str], None] = lambda _: None,
) -> None:
    """Wait until at least ``count`` pods of the selector are Ready (or have Succeeded).

    Raises:
        EnvironmentUpError: as ``wait_ready``.
    """
    raise NotImplementedError


def wait_gone(cluster: Cluster, refs: Sequence[ObjectRef], timeout_s: float) -> None:
    """Wait until none of the objects is there.

    Raises:
        EnvironmentUpError: time is over: names those that are left, and the finalizers they wait for.
    """
    raise NotImplementedError
