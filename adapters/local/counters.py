"""Cumulative resource counters of components: sums over whole process trees, and of the host."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.local import procfs
from meshgauge.trial import UsageSample

_TRIES = 3


@dataclass(frozen=True, slots=True)
class KernelSample(UsageSample):
    """What our own kernel counted: it always tells user from system time."""

    cpu_user_s: float
    cpu_system_s: float


class ComponentMeter:
    """Adds up the counters of one component, whatever its processes do meanwhile.

    CPU of a process that ends is not lost: its parent has it once it waited for it, and the guard has
    that of the program itself and of everything that daemonised. The sum never goes back.

    Memory is resident memory: private pages of every process, and file pages once (the processes of one
    component run the same program).

    Args:
        roots: processes to count with everything below them.
        guards: processes whose *descendants* are counted, but not they themselves.
    """

    def __init__(self, component: str, roots: Iterable[int] = (), guards: Iterable[int] = ()) -> None:
        self.component = component
        self._guards = tuple(guards)
        self._roots = tuple(roots)
        self._before: KernelSample | None = None  # everything counted for roots that were replaced
        self._last: KernelSample | None = None

    def follow(self, roots: Iterable[int]) -> None:
        """Count these processes from now on, on top of what was counted so far."""
        self._roots = tuple(roots)
        self._before = self._last

    def pids(self) -> list[int]:
        """Return the living processes of the component."""
        return [pid for pid in self._walk() if procfs.is_alive(pid)]

    def sample(self) -> KernelSample | None:
        """Return the counters now; None while no process was ever seen."""
        sums = self._read()
        if sums is None:
            # All gone: what was counted stays counted, and there is no memory to speak of.
            self._last = self._last and replace(self._last, at_s=time.monotonic(), memory_bytes=None, threads=None)
            return self._last
        self._last = self._not_going_back(sums)
        return self._last

    def _walk(self) -> list[int]:
        below = [pid for guard in self._guards for pid in procfs.tree(guard)[1:]]
        return below + [pid for root in self._roots for pid in procfs.tree(root)]

    def _read(self) -> KernelSample | None:
        """Read all processes at one moment: again, when one came or went while reading."""
        for _ in range(_TRIES):
            pids = self._walk()
            reaped = [cpu for guard in self._guards if (cpu := _reaped(guard))]
            readings = [reading for pid in pids if (reading := procfs.read_process(pid))]
            if {reading.pid for reading in readings} == set(self._walk()):
                break
        if not readings and not any(map(sum, reaped)):
            return None
        return KernelSample(
            component=self.component,
            at_s=time.monotonic(),
            cpu_user_s=sum(r.cpu_user_s + r.reaped_user_s for r in readings) + sum(user for user, _ in reaped),
            cpu_system_s=sum(r.cpu_system_s + r.reaped_system_s for r in readings) + sum(sys for _, sys in reaped),
            memory_bytes=sum(r.anonymous_bytes for r in readings) + max((r.file_bytes for r in readings), default=0),
            threads=sum(r.threads for r in readings),
            context_switches=sum(r.context_switches for r in readings),
        )

    def _not_going_back(self, sums: KernelSample) -> KernelSample:
        """Add what earlier roots used; keep the total from shrinking when a process just ended unseen."""
        before, last = self._before, self._last
        user, system, switches = sums.cpu_user_s, sums.cpu_system_s, sums.context_switches or 0
        if before is not None:
            user, system = user + before.cpu_user_s, system + before.cpu_system_s
            switches += before.context_switches or 0
        if last is not None:
            switches = max(switches, last.context_switches or 0)
            total = max(user + system, last.cpu_user_s + last.cpu_system_s)
            # The sum is exact, its split an estimate that wanders by a tick: neither part may go back for that.
            user = max(last.cpu_user_s, min(user, total - last.cpu_system_s))
            system = max(last.cpu_system_s, total - user)
        return replace(sums, cpu_user_s=user, cpu_system_s=system, context_switches=switches)


def _reaped(guard: int) -> tuple[float, float] | None:
    with contextlib.suppress(*procfs.GONE):
        return procfs.reaped_cpu(guard)
    return None


@dataclass(frozen=True, slots=True)
class HostTimes:
    """The first line of /proc/stat, in seconds since boot, over all cores."""

    user_s: float
    nice_s: float
    system_s: float
    interrupts_s: float
    steal_s: float


def read_host_times() -> HostTimes:
    """Return the host's CPU times now (proc(5): user nice system idle iowait irq softirq steal)."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(field) * procfs.TICK_S for field in fields[:8])
    return HostTimes(user, nice, system, irq + softirq, steal)


class HostMeter:
    """Counts the host as a whole, less the idle spinners we keep on it ourselves.

    Spinners run at nice 19, so their time in user mode is in ``nice`` alone; it is taken out there and nowhere else.
    """

    def __init__(self) -> None:
        self._last_user_s = 0.0
        self._last_system_s = 0.0

    def sample(self, spinner_user_s: float = 0.0, spinner_system_s: float = 0.0) -> KernelSample:
        """Return the counters now.

        Args:
            spinner_user_s, spinner_system_s: CPU seconds the spinners have used since they were started.
        """
        times = read_host_times()
        # Ticks of /proc/stat and the scheduler's clock differ by a little; a sum must not go back for that.
        self._last_user_s = max(self._last_user_s, times.user_s + max(0.0, times.nice_s - spinner_user_s))
        system_s = times.system_s + times.interrupts_s - spinner_system_s
        self._last_system_s = max(self._last_system_s, system_s)
        memory = _meminfo()
        return KernelSample(
            component="host",
            at_s=time.monotonic(),
            cpu_user_s=self._last_user_s,
            cpu_system_s=self._last_system_s,
            memory_bytes=memory["MemTotal"] - memory["MemAvailable"],
            threads=None,
            context_switches=_context_switches(),
            steal_s=times.steal_s,
        )


def _meminfo() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines}


def _context_switches() -> int:
    return next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("ctxt"))
