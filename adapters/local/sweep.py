"""Finds and ends what earlier epochs left running, by the cookie every process of ours carries."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from adapters.local import procfs
from adapters.local.cookie import Cookie, cookie_of
from adapters.local.processes import wait_until
from meshgauge.errors import EnvironmentUpError

_GRACE_S = 0.3
_GONE_WITHIN_S = 5.0


def sweep(site: str, epoch: int) -> list[str]:
    """End every process of ``site`` with an epoch before ``epoch``; return a line for each.

    A process that only has the *setting* MESHGAUGE_SITE (a worker, a coordinator) has no epoch and is left
    alone, as are this process and all above it.

    Raises:
        EnvironmentUpError: something could not be ended.
    """

    def is_older(cookie: Cookie) -> bool:
        return cookie.site == site and cookie.epoch < epoch

    return _end_all(is_older)


def sweep_environment(site: str, environment_id: str) -> list[str]:
    """End whatever is left of one environment of ours; return a line for each process.

    Raises:
        EnvironmentUpError: something could not be ended.
    """

    def is_ours(cookie: Cookie) -> bool:
        return cookie.site == site and cookie.environment_id == environment_id

    return _end_all(is_ours)


def _end_all(belongs: Callable[[Cookie], bool]) -> list[str]:
    """End all matching processes; look again until a look finds none, as they may fork meanwhile."""
    spared = procfs.ancestors(os.getpid())
    ended: dict[int, str] = {}

    def matching() -> list[int]:
        carriers = ((pid, cookie_of(pid)) for pid in procfs.all_pids() if pid not in spared)
        return [pid for pid, cookie in carriers if cookie and belongs(cookie) and procfs.is_alive(pid)]

    def one_round(number: signal.Signals) -> bool:
        found = matching()
        for pid in found:
            ended.setdefault(pid, f"ended process {pid}: {procfs.command_line(pid)[:120]}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return not found

    if one_round(signal.SIGTERM):
        return []
    wait_until(lambda: not matching(), _GRACE_S)
    if not wait_until(lambda: one_round(signal.SIGKILL), _GONE_WITHIN_S):
        left = ", ".join(f"{pid} ({procfs.command_line(pid)[:80]})" for pid in matching())
        raise EnvironmentUpError(f"these processes of an earlier environment cannot be ended: {left}; end them by hand")
    return list(ended.values())
