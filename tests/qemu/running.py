"""`swpks qemu` as a process, with a fake QEMU or the real one, and the processes that it leaves behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.qemu.assemble import SPIN
from tests.qemu.test_bridge import GET_CONFIG, with_driver
from tests.spec.markdown import ROOT

SECONDS = 60
"""Most seconds of each wait, on a busy machine."""
CALLED = "H_PKS_GET_CONFIG -> H_SUCCESS"
"""The line of --trace when the guest runs and has made its call."""


def fake_qemu(folder: Path) -> str:
    """Make a program with the name of QEMU; return a PATH whose first folder has it."""
    program = folder / "programs" / "qemu-system-ppc64"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.qemu.fake_qemu "$@"\n')
    program.chmod(0o700)
    return f"{program.parent}:{os.environ['PATH']}"


def fake_kernel(folder: Path, end: int = SPIN) -> Path:
    """Return a kernel for the fake QEMU: it makes one call, and ends as requested."""
    return with_driver(*GET_CONFIG, end=end).write(folder / "vmlinux")


class Running:
    """The command while it runs; `said` is its standard error so far."""

    def __init__(self, *words: object, partition: str = "lpar1", **environment: str) -> None:
        variables = {name: value for name, value in os.environ.items() if name != "SWPKS_STATE"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "swpks", "qemu", "--partition", partition, "--trace", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**variables, "PYTHONPATH": f"{ROOT}:{ROOT / 'spec'}", **environment},
        )
        self.said = ""

    def until(self, text: str) -> None:
        """Wait until a line of its standard error contains the text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if text in line:
                return
        raise AssertionError(self.said)

    def end(self) -> int:
        """Wait until the command ends; return its exit status."""
        self.said += self.process.communicate(timeout=SECONDS)[1]
        return self.process.returncode

    def descendants(self) -> list[int]:
        """Return the ids of its child processes, and of their children."""
        return list(_below(self.process.pid))


@contextmanager
def running(*words: object, **environment: str) -> Iterator[Running]:
    """Run the command during a block, which starts when the guest has made its h-call."""
    command = Running(*words, **environment)
    try:
        command.until(CALLED)
        yield command
    finally:
        if command.process.poll() is None:
            command.process.terminate()
            command.end()


def _below(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, thread.read_text().split()):
            yield child
            yield from _below(child)


class Watched:
    """Processes that are not children of the test; the test can still wait for their end."""

    def __init__(self, pids: list[int]) -> None:
        self._descriptors = {os.pidfd_open(pid): pid for pid in pids}

    def still_running(self, seconds: float = SECONDS) -> list[int]:
        """Wait some seconds until all have ended; return the ids of those that still run."""
        left = dict(self._descriptors)
        while left and (ended := select.select(list(left), [], [], seconds)[0]):
            for descriptor in ended:
                del left[descriptor]
                os.close(descriptor)
        self._descriptors = left
        return list(left.values())
