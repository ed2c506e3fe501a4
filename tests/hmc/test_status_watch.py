"""R-84: `swpks hmc status --watch` at a console and at a system, as real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from hcall_client.console import power_off
from swpks.testing import ConsoleProcess, ServerProcess

pytestmark = pytest.mark.process


@contextmanager
def watching(*words: str) -> Iterator[IO[str]]:
    """Yield the output of the command; at the end Ctrl-C ends it with status 130."""
    command = [sys.executable, "-m", "swpks", "hmc", "status", "--watch", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()


def until(output: IO[str], text: str) -> str:
    """Read lines up to one that has the text; return this line."""
    for line in output:
        if text in line:
            return line
    raise AssertionError(f"the output ended before {text!r}")


def test_a_console_and_a_system_are_watched(tmp_path: Path) -> None:
    """R-84: Each change is a block, a restart of the console ends nothing, and Ctrl-C ends the command."""
    machine = ServerProcess(tmp_path / "sys1", ["lpar1:64"])
    console = ConsoleProcess(tmp_path / "hmc")
    try:
        console.systems = [f"sys1={machine.start().control_socket}"]
        console.start()
        with (
            watching("--store", str(console.store)) as blocks,
            watching("--store", str(console.store), "-m", "sys1", "--json") as lines,
            watching("--state", str(machine.state)) as alone,
        ):
            assert "The system is well" in until(blocks, "oldest last copy")
            assert "running" in until(blocks, "lpar1")
            assert json.loads(lines.readline())["systems"][0]["partitions"][0]["state"] == "running"
            assert "running" in until(alone, "lpar1")
            machine.console.call(power_off("lpar1"))
            until(blocks, "-" * 72)
            assert '"state":"off"' in until(lines, '"state":"off"')
            until(alone, " off ")
            console.restart()
            until(blocks, "-" * 72)
            machine.kill()
            until(blocks, "No connection")
    finally:
        console.kill()
        machine.kill()


def test_a_name_is_refused(tmp_path: Path) -> None:
    """`--watch` takes no NAME."""
    words = [sys.executable, "-m", "swpks", "hmc", "--state", str(tmp_path), "status", "lpar1", "--watch"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "leave NAME out" in done.stderr) == (2, True)
