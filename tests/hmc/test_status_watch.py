"""R-84: `swpks hmc status --watch` at a console and at a system, as real processes."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from hcall_abi.control_views import ConsoleLinkView, KeptCopyView, SystemView
from hcall_client.console import power_off
from swpks.cli.hmc_watch import watch
from swpks.testing import ConsoleProcess, ServerProcess
from tests.console.facts import partition as partition_view
from tests.console.facts import system as system_view

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


class Idle:
    """Stands for a connection to a system whose view never changes; at an age of 180 s the user ends it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        kept = KeptCopyView(restores=0, generation=1, time=int(self.now))
        console = ConsoleLinkView(id="c" * 32, name="hmc", connected=True, since=1_799_999_000)
        self.view = system_view(partition_view("a", copy=kept), console=console)

    def call(self, _: object) -> SystemView:
        if self.now >= 1_800_000_180:
            raise KeyboardInterrupt
        return self.view

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("options,shown", [([], ["under 1 min", "1 min", "2 min"]), (["--json"], [])])
def test_an_age_grows_at_an_idle_system(monkeypatch, capfd, options, shown) -> None:
    """R-84: The age of a copy in the view of a system is current, and a minute makes one block."""
    idle: Any = Idle()
    monkeypatch.setattr("swpks.cli.hmc_watch.time.time", lambda: idle.now)
    monkeypatch.setattr("swpks.cli.hmc_watch.time.sleep", idle.sleep)
    with pytest.raises(KeyboardInterrupt):
        watch(argparse.Namespace(name=None, json=bool(options)), idle)
    printed = capfd.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("a ")]
    assert [row.rpartition("  ")[2] for row in rows] == shown
    assert options == [] or len(printed.splitlines()) == 1


def test_a_name_is_refused(tmp_path: Path) -> None:
    """`--watch` takes no NAME."""
    words = [sys.executable, "-m", "swpks", "hmc", "--state", str(tmp_path), "status", "lpar1", "--watch"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "leave NAME out" in done.stderr) == (2, True)
