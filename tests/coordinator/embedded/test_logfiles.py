"""Logs stay within their bound and keep what was written last."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from coordinator.embedded.logfiles import bound_log, last_lines, open_log


def test_a_log_over_its_limit_is_moved_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    writer = open_log(log)
    try:
        os.write(writer, b"old line\n" * 200)
        assert bound_log(log, limit_bytes=900)
        os.write(writer, b"new line\n")
    finally:
        os.close(writer)
    assert log.read_bytes() == b"new line\n"
    assert log.with_name("service.log.1").read_bytes() == b"old line\n" * 100
    assert not bound_log(log, limit_bytes=900)


def test_the_last_lines_are_those_of_this_start_only(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    log.write_text("first start failed\n", encoding="utf-8")
    size = log.stat().st_size
    assert last_lines(log, 1, size) == []
    with log.open("a", encoding="utf-8") as stream:
        stream.write("second\n\nthird\n")
    assert last_lines(log, 1, size) == ["third"]
    assert last_lines(log, 9, size) == ["second", "third"]
    assert last_lines(tmp_path / "none", 1) == []


def test_on_a_full_disk_a_log_is_emptied_all_the_same(disk_of: Callable[[int], Path]) -> None:
    disk = disk_of(1)
    log = disk / "service.log"
    log.write_bytes(b"x" * 900_000)
    assert bound_log(log, limit_bytes=800_000)
    assert log.stat().st_size == 0
    assert not (disk / "service.log.1").exists()
