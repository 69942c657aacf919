"""The child process that loads Helm's library: one order (JSON) on stdin, one answer (JSON) on stdout.

Run as ``python -m adapters.kubernetes.helm.sdk_child PARENT_PID``. It dies with its parent, and whoever ends it
cancels what it does. The library's log goes to stderr, where the parent keeps the end of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from adapters.kubernetes.helm.tether import die_with

Order = dict[str, Any]


def main(arguments: list[str]) -> None:
    """Do what the order on stdin says and answer on stdout."""
    die_with(int(arguments[0]))
    # Only the answer may be on stdout: whatever the library prints goes where its log goes.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        json.dump(_answer(json.load(sys.stdin)), answers)


def _answer(order: Order) -> Order:
    import helm_python as helm  # noqa: PLC0415 - 85 MB, and only this process may load it

    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    helm.enable_logging(logging.WARNING)
    try:
        return {"ok": _WORK[order["do"]](order)}
    except helm.HelmError as error:
        return {"error": type(error).__name__, "said": error.detail}


def _config(order: Order) -> Any:
    import helm_python as helm  # noqa: PLC0415

    return helm.Config(namespace=order.get("namespace") or None)


def _version(_order: Order) -> str:
    import helm_python as helm  # noqa: PLC0415

    return str(helm.helm_sdk_version())


def _chart(order: Order) -> Any:
    import helm_python as helm  # noqa: PLC0415

    return helm.Chart.load(order["chart"])


def _install(order: Order) -> Order:
    with _config(order) as config, _chart(order) as chart:
        release: Order = config.install(
            chart,
            order["name"],
            order["values"],
            namespace=order["namespace"],
            timeout=order["timeout_s"],
            wait="hookOnly",
            create_namespace=True,
        )
    return release


def _upgrade(order: Order) -> Order:
    with _config(order) as config, _chart(order) as chart:
        release: Order = config.upgrade(
            chart,
            order["name"],
            order["values"],
            namespace=order["namespace"],
            timeout=order["timeout_s"],
            wait="hookOnly",
            reset_values=True,
            max_history=2,
        )
    return release


def _uninstall(order: Order) -> Order:
    with _config(order) as config:
        removed: Order = config.uninstall(
            order["name"], timeout=order["timeout_s"], wait="watcher", ignore_not_found=False
        )
    return removed


def _releases(order: Order) -> list[Order]:
    with _config(order) as config:
        found: list[Order] = config.list(all_states=True, all_namespaces=True)
    return found


def _render(order: Order) -> Order:
    from adapters.kubernetes.helm.dry_run import rendered  # noqa: PLC0415

    with _chart(order) as chart:
        return {"manifest": rendered(chart, order)}


_WORK: dict[str, Callable[[Order], Any]] = {
    "version": _version,
    "install": _install,
    "upgrade": _upgrade,
    "uninstall": _uninstall,
    "releases": _releases,
    "render": _render,
}

if __name__ == "__main__":
    main(sys.argv[1:])
