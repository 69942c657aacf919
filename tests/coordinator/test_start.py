"""The first second of a command: Ctrl-C ends it without a traceback, before anything has begun."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from coordinator import start
from coordinator.commands import failures

_COMMAND = "import sys; from coordinator.start import main; print('loaded', flush=True); main()"


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
def test_ctrl_c_while_the_command_line_loads_is_quiet(after_s: float) -> None:
    argv = [sys.executable, "-c", _COMMAND, "plan", "schema"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) in ((failures.CANCELLED, ""), (0, ""))
    if after_s == 0.0:  # loading takes longer than a signal
        assert (process.returncode, said) == (failures.CANCELLED, "")


def test_both_steps_agree_on_the_exit_code() -> None:
    assert start.CANCELLED == failures.CANCELLED


def test_left_alone_the_command_runs() -> None:
    argv = [sys.executable, "-m", "coordinator.start", "--version"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.startswith("meshgauge ")
