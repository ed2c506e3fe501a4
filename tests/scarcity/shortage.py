"""Entropy that fails when a test says so, and a machine that uses it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Literal

from hcall_server.components.memory import MemoryCard
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.worker import Worker
from swpks.testing.seams import simulated_seams
from tests.guest import Chance

Failure = Literal["error", "short", "none"]
FAILURES: tuple[Failure, ...] = ("error", "short", "none")
"""The ways in which entropy fails: an OSError, one byte too few, no bytes at all."""


class FailingEntropy:
    """Entropy that fails at the calls whose numbers are in `failing`.

    `calls` is the number of calls so far.
    """

    def __init__(self, failure: Failure, failing: frozenset[int] = frozenset()) -> None:
        self.calls = 0
        self.failing = failing
        self._failure = failure
        self._chance: Callable[[int], bytes] = Chance(b"scarcity")

    def fail_next(self) -> None:
        """Let only the next call fail."""
        self.failing = frozenset({self.calls + 1})

    def __call__(self, size: int) -> bytes:
        self.calls += 1
        if self.calls not in self.failing:
            return self._chance(size)
        if self._failure == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._chance(size)[: size - 1] if self._failure == "short" else b""


class Scene:
    """A machine with one running partition. Its parts stay when the machine is made anew."""

    def __init__(self, entropy: Callable[[int], bytes], worker: Worker | None = None) -> None:
        self.nvram, self.card = MemoryNvram(), MemoryCard()
        self.worker = worker
        self.entropy = entropy
        self.machine = self.assembled()
        self.machine.start()

    def assembled(self) -> Machine:
        """Return a new machine with the present NVRAM and card."""
        seams = simulated_seams(
            nvram=self.nvram,
            card=self.card,
            worker=self.worker,
            entropy=self.entropy,
            transport=MemoryTransport(),
        )
        wish = PartitionSettings.of("alpha", 64)
        return assemble(seams, Settings(firmware="FW1110", flush_delay_ms=0, partition=(wish,)))
