"""Facts about this host for the provenance of a result. None: the host does not say."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from typing import Any

from adapters.local.placement import parse_cpu_list


def host_facts() -> dict[str, Any]:
    """Return what describes this host and may explain its numbers."""
    cpuinfo = _cpuinfo()
    return {
        "hostname": socket.gethostname(),
        "cpu_model": cpuinfo.get("model name") or cpuinfo.get("CPU part") or platform.machine(),
        "architecture": platform.machine(),
        "cores_online": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "threads_per_core": _threads_per_core(),
        "governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _line("/sys/devices/system/cpu/cpufreq/boost"),
        "clock_source": _line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "virtualisation": _virtualisation(cpuinfo),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "boot_id": _line("/proc/sys/kernel/random/boot_id"),
        "python": platform.python_version(),
    }


def _line(path: str) -> str | None:
    file = Path(path)
    return file.read_text().strip() if file.exists() else None


def _cpuinfo() -> dict[str, str]:
    """Return the first processor's lines of /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _threads_per_core() -> int | None:
    siblings = _line("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    if siblings is None:
        return None
    return len(parse_cpu_list(siblings))


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _virtualisation(cpuinfo: dict[str, str]) -> str | None:
    """Return the machine's own name for itself when it says it is virtual; "none" when it says it is not."""
    if "hypervisor" not in cpuinfo.get("flags", "").split():
        return "none" if "flags" in cpuinfo else None
    return _line("/sys/class/dmi/id/sys_vendor") or _line("/sys/hypervisor/type") or "unnamed hypervisor"
