"""A result says on what host it was measured."""

from __future__ import annotations

import json
import os
from pathlib import Path

from adapters.local.host import host_facts


def test_the_facts_describe_this_host_and_can_be_stored() -> None:
    facts = host_facts()
    assert facts["cores_usable"] == len(os.sched_getaffinity(0))
    assert facts["kernel"] == os.uname().release
    assert facts["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts["cpu_model"]
    assert facts["memory_bytes"] > 1e8
    assert json.loads(json.dumps(facts)) == facts
