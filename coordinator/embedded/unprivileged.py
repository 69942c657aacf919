"""How root starts a program that refuses root: a user namespace first, then another user, never useradd."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from meshgauge.errors import ConfigurationError

_NOBODY_ID = 65534
_PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Launch:
    """The words before a program's argv, and who must own its files (None: whoever we are)."""

    way: str
    prefix: tuple[str, ...] = ()
    owner_uid: int | None = None
    owner_gid: int | None = None

    def give(self, path: Path) -> None:
        """Make the program's user the owner of a folder of ours and all in it."""
        uid = os.geteuid() if self.owner_uid is None else self.owner_uid
        gid = os.getegid() if self.owner_gid is None else self.owner_gid
        if path.stat().st_uid == uid:
            return
        for parent, folders, files in os.walk(path):
            for name in (".", *folders, *files):
                os.chown(Path(parent) / name, uid, gid, follow_symlinks=False)

    def let_through(self, folder: Path) -> None:
        """Let another user pass through a private folder of ours (not list it), where one is used."""
        if self.owner_uid is not None:
            folder.chmod(0o711)


PLAIN = Launch("directly")


def choose_launch(program: Path, data_dir: Path) -> Launch:
    """Return a way to run ``program``, which refuses root, on files in ``data_dir``.

    Raises:
        ConfigurationError: we are root and neither way works here; the message says why each failed.
    """
    if os.geteuid() != 0:
        return PLAIN
    namespace = _namespace_launch()
    refusal = _refusal(namespace, program)
    if refusal is None:
        return namespace
    other = _other_user_launch()
    closed = first_closed_folder(data_dir)
    second = f"{closed} lets no other user pass" if closed else _refusal(other, program)
    if second is None:
        return other
    raise ConfigurationError(
        f"Postgres refuses to run as root, and neither a user namespace ({refusal}) nor the user nobody ({second}) "
        "can be used here; run Meshgauge as another user, or set MESHGAUGE_DATABASE_URL to a Postgres of yours"
    )


def _namespace_launch() -> Launch:
    words = ("--user", f"--map-user={_NOBODY_ID}", f"--map-group={_NOBODY_ID}", "--")
    return Launch("user namespace", ("unshare", *words))


def _other_user_launch() -> Launch:
    try:
        entry = pwd.getpwnam("nobody")
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        uid = gid = _NOBODY_ID
    # A change of user clears the parent-death signal (prctl(2)); setpriv sets it again after the change.
    words = (f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--pdeathsig", "QUIT", "--")
    return Launch("user nobody", ("setpriv", *words), uid, gid)


def _refusal(launch: Launch, program: Path) -> str | None:
    """Return why ``program`` cannot be run this way, or None when it can."""
    if shutil.which(launch.prefix[0]) is None:
        return f"{launch.prefix[0]} is not installed"
    argv = [*launch.prefix, str(program), "--version"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"


def first_closed_folder(path: Path) -> Path | None:
    """Return the topmost folder above ``path`` other users may not pass through, or None."""
    for parent in reversed(path.absolute().parents):
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None
