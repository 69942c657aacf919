"""The environment and the ending of Helm's processes, the same for library and program."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from adapters.kubernetes.helm import tether

# Which cluster, namespace and store Helm uses is our order, never the worker's surroundings. What remains of HELM_*
# is where a registry's credentials and the SDK's own library are. Source: helm.sh/docs/helm/helm.
_KEPT: Final = frozenset(
    {"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_REGISTRY_CONFIG", "HELM_C_LIB"}
)
# Helm ends by itself when its time is over; only when it does not, it is killed.
GRACE_S: Final = 15.0
# Of the time an uninstallation has, this much is for Helm and its hooks; the rest for removing by record.
HELMS_SHARE: Final = 0.6
READ_TIMEOUT_S: Final = 120.0


def tethered(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs ``argv`` and ends with the calling thread, however that ends."""
    return (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *argv)


def environment(cluster: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a Helm process: ours, without what would lead it elsewhere, and the cluster's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HELM_") or name in _KEPT}
    return {**ours, **cluster}
