"""What every process of an environment carries, so that leftovers of dead owners are found (reliability.md 3)."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from adapters.local import procfs

SITE_VARIABLE = "MESHGAUGE_SITE"
EPOCH_VARIABLE = "MESHGAUGE_EPOCH"
ENVIRONMENT_VARIABLE = "MESHGAUGE_ENVIRONMENT"

_PREFIX = "meshgauge:"
_LONGEST_NAME_BYTES = 249  # memfd_create(2)
_STDIN = re.compile(rf"^/memfd:{_PREFIX}(?P<epoch>\d+):(?P<environment>[^:/]*):(?P<site>.*?)(?: \(deleted\))?$")


@dataclass(frozen=True, slots=True)
class Cookie:
    """Site, epoch and environment of a process.

    It is carried twice: in environment variables, and as the name of the empty file that is its standard input.
    A program may write over its variables (NGINX does, to set its title) but hardly closes its input.
    """

    site: str
    epoch: int
    environment_id: str

    def variables(self) -> dict[str, str]:
        """Return the variables to start a process with."""
        return {
            SITE_VARIABLE: self.site,
            EPOCH_VARIABLE: str(self.epoch),
            ENVIRONMENT_VARIABLE: self.environment_id,
        }

    def stdin_name(self) -> str:
        """Return the name for an empty memory file to be the standard input."""
        name = f"{_PREFIX}{self.epoch}:{self.environment_id}:{self.site}"
        return name.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore")


def cookie_of(pid: int) -> Cookie | None:
    """Return the cookie ``pid`` carries, or None: not ours, gone, or not ours to look at.

    The variable MESHGAUGE_SITE alone is a setting (of a worker, a coordinator) and no cookie.
    """
    variables = procfs.environment(pid)
    site, epoch = variables.get(SITE_VARIABLE), variables.get(EPOCH_VARIABLE, "")
    if site is not None and epoch.isdecimal():
        return Cookie(site, int(epoch), variables.get(ENVIRONMENT_VARIABLE, ""))
    with contextlib.suppress(*procfs.GONE, PermissionError):
        match = _STDIN.match(str(Path(f"/proc/{pid}/fd/0").readlink()))
        if match:
            return Cookie(match["site"], int(match["epoch"]), match["environment"])
    return None
