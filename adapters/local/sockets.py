"""Who is connected to whom, from the kernel's tables: proof of a request's path without the proxies' word."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from adapters.contract import Endpoint
from adapters.local import procfs

STRANGER = "another process"


@dataclass(frozen=True, slots=True)
class Parties:
    """The processes of each party of an environment, by the party's name."""

    process_ids: Mapping[str, Collection[int]]

    def owners(self) -> dict[int, str]:
        """Return the party that holds each socket, by inode."""
        party_of = {pid: name for name, pids in self.process_ids.items() for pid in pids}
        return {inode: party_of[pid] for inode, pid in procfs.socket_inodes(list(party_of)).items()}


@dataclass(frozen=True, slots=True)
class Link:
    """Established connections to one listener: how many each party opened, and which parties serve them."""

    opened_by: Mapping[str, int]
    served_by: frozenset[str]


def link_to(listener: Endpoint, table: Collection[procfs.Connection], owners: Mapping[int, str]) -> Link:
    """Return who is connected to ``listener``. Pure: works on tables read before.

    An end that nobody holds any more (inode 0) belongs to a connection just being closed, or not yet accepted.
    """
    opened_by: dict[str, int] = {}
    for end in table:
        if end.remote == listener and end.inode:
            party = owners.get(end.inode, STRANGER)
            opened_by[party] = opened_by.get(party, 0) + 1
    served = {owners.get(end.inode, STRANGER) for end in table if end.local == listener and end.inode}
    return Link(opened_by, frozenset(served))
